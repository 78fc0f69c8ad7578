"""Judge a whole model stage by stage: the reference of each named stage of a forward pass."""

import re
from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.cases.cases import Case
from parity.cases.contracts import Axes, contracts, tree_axes
from parity.verdict import orbit
from parity.verdict.verdict import Reference
from reference.config import ACTIVATIONS, GPT2Config, axis_sizes, map_tree, nest
from reference.stages import keep_in, observing

Array = NDArray[Any]

# Axes of every stage but the MLP's activation, which is named after its function and looks like c_fc. S = T: no past.
STAGE_AXES: dict[str, Axes] = {
    "wte": ("B", "T", "C"),
    "wpe": ("B", "T", "C"),
    "embeddings": ("B", "T", "C"),
    "ln_1": ("B", "T", "C"),
    "attn.qkv": ("B", "T", "3*H*D"),
    "attn.q": ("B", "H", "T", "D"),
    "attn.k": ("B", "H", "T", "D"),
    "attn.v": ("B", "H", "T", "D"),
    "attn.scores": ("B", "H", "T", "S"),
    "attn.masked_scores": ("B", "H", "T", "S"),
    "attn.attn_weights": ("B", "H", "T", "S"),
    "attn.attn_output": ("B", "H", "T", "D"),
    "attn.merged": ("B", "T", "H*D"),
    "attn.c_proj": ("B", "T", "C"),
    "attn_residual": ("B", "T", "C"),
    "ln_2": ("B", "T", "C"),
    "mlp.c_fc": ("B", "T", "I"),
    "mlp.c_proj": ("B", "T", "C"),
    "mlp_residual": ("B", "T", "C"),
    "ln_f": ("B", "T", "C"),
    "logits": ("B", "T", "V"),
    "score": ("B", "T", "K"),
    "label_logits": ("B", "K"),
}


def stage_references(
    config: GPT2Config,
    parameters: Mapping[str, Array],
    ids: Array,
    attention_mask: Array | None,
    position_ids: Array | None,
    dtype: np.dtype,
    accuracy: Mapping[str, float],
    given: Mapping[str, Array] | None = None,
    most: int = orbit.SAMPLES,
    only: Container[str] | None = None,
) -> dict[str, Reference]:
    """The reference of every stage of a model, by name, in the order of computation.

    The model is a language model, or, if there is a score.weight among its parameters, a classifier. The oracle is the
    reference in float64 with the parameters rounded to dtype; the orbit is the reference in dtype with channels, heads
    and MLP units in another order, its elementary functions erring by what `accuracy` declares. Values at pads mean
    nothing. ids and attention_mask are (B, T), position_ids (B, T) or absent. After a stage that is named in `given`,
    the computation continues with the value given there, so that later stages do not inherit an error. The orbit has at
    most `most` members. only: the stages that are wanted, of which, to save memory, two members are kept: the first,
    and the one that is farthest from the oracle, on which alone the noise floor depends.

    references = stage_references(model.config, model.parameters, ids, None, None, dtype, model.backend.accuracy)
    {name: references[name].judge(stage).explain() for name, stage in model.stages(ids).items()}
    """
    name = "model.sequence_classifier" if "score.weight" in parameters else "model.language_model"
    contract = contracts()[name]
    batch, tokens = ids.shape
    case = Case(
        contract=contract,
        sizes=axis_sizes(config) | {"B": batch, "T": tokens, "S": tokens},
        scalars={"config": config},
        absent=frozenset(),
        padding="none",
        regime="live",
        seed=0,
    )
    tree = nest({name: np.asarray(x).astype(dtype) for name, x in parameters.items()})
    axes = tree_axes(next(item for item in contract.inputs if item.name == "params"), config)

    def run(params: dict, move: Callable[[str, Any], Any], replace: Callable[[str, Any], Any]) -> dict[str, Array]:
        seen: dict[str, Array] = {}
        keep = keep_in(seen)

        def watch(name: str, x: Any) -> Any:
            x = move(name, x)
            kept = keep(name, x) if only is None or name in only else x
            return replace(name, kept).astype(kept.dtype) if given and name in given else kept

        with observing(watch), np.errstate(all="ignore"):
            contract.target(params, ids, config, attention_mask, position_ids)
        return seen

    def member(index: int) -> dict[str, Array]:
        chosen = orbit.permutations(case, index)
        seen = run(
            orbit.permute(tree, axes, case, chosen),
            orbit.inexact(accuracy, case, index),
            lambda name, x: orbit.permute((given or {})[name], _axes_of(name, x), case, chosen),
        )
        return {name: orbit.undo(x, _axes_of(name, x), case, chosen) for name, x in seen.items()}

    oracle = run(
        map_tree(lambda name, x: x.astype(np.float64), tree), lambda name, x: x, lambda name, x: (given or {})[name]
    )
    references = {name: Reference(x, [], _kept(name, x, attention_mask)) for name, x in oracle.items()}
    for index in range(orbit.members(oracle.values(), most)):
        for name, x in member(index).items():
            references[name].orbit.append(x)
            if only is not None and index > 1:
                references[name].orbit[1:] = [references[name].farthest]
    return references


def stage_names(config: GPT2Config, is_classifier: bool = False) -> list[str]:
    """The names of all stages of a model, in the order of computation."""
    roles = list(STAGE_AXES)
    layer = roles[roles.index("ln_1") : roles.index("ln_f")]
    layer.insert(layer.index("mlp.c_proj"), f"mlp.{config.activation_function}")
    inside = [f"h.{i}.{role}" for i in range(config.n_layer) for role in layer]
    return [
        *roles[: roles.index("ln_1")],
        *inside,
        "ln_f",
        *(("score", "label_logits") if is_classifier else ("logits",)),
    ]


def stage_axes(name: str) -> Axes:
    """The axes of a stage, by its name: ("B", "H", "T", "D") of "h.0.attn.q"."""
    role = re.sub(r"^h\.\d+\.", "", name)
    return STAGE_AXES["mlp.c_fc" if role.removeprefix("mlp.") in ACTIVATIONS else role]


def _axes_of(name: str, x: Array) -> Axes:
    return tuple(axis if size > 1 else "1" for axis, size in zip(stage_axes(name), x.shape, strict=True))


def _kept(name: str, x: Array, attention_mask: Array | None) -> Array | None:
    axes = stage_axes(name)
    if attention_mask is None or "T" not in axes or len(x) != len(attention_mask):  # one wpe for all sequences
        return None
    kept = attention_mask != 0
    rows = np.expand_dims(kept, [i for i, axis in enumerate(axes) if axis not in ("B", "T")])
    return rows & kept[:, None, None, :] if name.endswith(".scores") else rows  # the mask hides the other keys later
