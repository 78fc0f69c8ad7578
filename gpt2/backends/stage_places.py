"""Which stage of the reference a submodule computes, by Hugging Face's names: hooks on it record and replace stages."""

import re
from collections.abc import Iterable, Mapping

from reference.config import GPT2Config

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


def stage_taps(modules: Iterable[str], config: GPT2Config, names: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Where each stage is seen, BEFORE or AFTER which of these submodules; each once, rather after one than before."""
    found: dict[str, tuple[str, str]] = {}
    for module in modules:
        for where, stage in stages_at(common_name(module, names), config).items():
            if stage not in found or (found[stage][0], where) == (BEFORE, AFTER):
                found[stage] = where, module
    return found
