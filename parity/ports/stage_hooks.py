"""Which stage of the reference a submodule computes, by Hugging Face's names: hooks on it record and replace stages."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.verdict.stages import stage_axes
from reference.config import GPT2Config

Array = NDArray[Any]
BEFORE, AFTER = "before", "after"
# What stands before or after a submodule. {act} is the configuration's activation function.
PLACES: dict[str, dict[str, str]] = {
    "wte": {AFTER: "wte"},
    "wpe": {AFTER: "wpe"},
    "drop": {AFTER: "embeddings"},
    "h.#.ln_1": {AFTER: "ln_1"},
    "h.#.attn.c_attn": {AFTER: "attn.qkv"},
    "h.#.attn.q": {AFTER: "attn.q"},
    "h.#.attn.k": {AFTER: "attn.k"},
    "h.#.attn.v": {AFTER: "attn.v"},
    "h.#.attn.c_proj": {BEFORE: "attn.merged", AFTER: "attn.c_proj"},
    "h.#.ln_2": {BEFORE: "attn_residual", AFTER: "ln_2"},
    "h.#.mlp.c_fc": {AFTER: "mlp.c_fc"},
    "h.#.mlp.act": {AFTER: "mlp.{act}"},
    "h.#.mlp.c_proj": {BEFORE: "mlp.{act}", AFTER: "mlp.c_proj"},
    "h.#": {AFTER: "mlp_residual"},
    "ln_f": {AFTER: "ln_f"},
    "lm_head": {AFTER: "logits"},
    "score": {AFTER: "score"},
}
# What can be seen, but not replaced where it is used again: the residual goes on beside the LayerNorm.
SEEN_ALONE = ("attn_residual",)
PREFIXES = ("transformer.", "model.", "module.", "_orig_mod.", "backbone.")


def common_name(name: str, names: Mapping[str, str]) -> str:
    """A parameter's or submodule's name as Hugging Face's GPT2Model has it: without prefixes, its steps renamed.

    names: the port's word for one of Hugging Face's, {"h": "blocks"}.
    """
    ours = {theirs: word for word, theirs in names.items()}
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    for theirs in sorted(ours, key=len, reverse=True):
        name = re.sub(rf"(?<![^.]){re.escape(theirs)}(?![^.])", ours[theirs], name)
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def stages_at(name: str, config: GPT2Config) -> dict[str, str]:
    """The stages before and after the submodule of that common name: {"after": "h.0.ln_1"}."""
    layer = re.match(r"h\.(\d+)", name)
    places = PLACES.get(re.sub(r"^h\.\d+", "h.#", name), {})
    found = {}
    for where, stage in places.items():
        stage = stage.replace("{act}", config.activation_function)
        found[where] = f"h.{layer[1]}.{stage}" if layer else stage
    return found


def to_stage(name: str, x: Array, config: GPT2Config) -> Array:
    """What a submodule returned in the stage's form: heads (B, T, C) are split, a batch that is left out is added."""
    axes = stage_axes(name)
    if len(axes) == 4 and x.ndim == 3:
        return x.reshape(*x.shape[:2], config.n_head, -1).swapaxes(1, 2)
    return x[None] if x.ndim == len(axes) - 1 else x


def from_stage(name: str, stage: Array, like: tuple[int, ...]) -> Array:
    """The stage in the form that a submodule returned it in, by its shape."""
    if len(stage_axes(name)) == 4 and len(like) == 3:
        stage = stage.swapaxes(1, 2)
    return np.broadcast_to(stage, like) if stage.size == 1 else stage.reshape(like)
