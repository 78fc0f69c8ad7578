"""Which stage of the reference a recorded call computes: by the module's path, and for operators by what stands around.

Stages have the reference's names, but that of the MLP's activation, whose function a recording does not say: it is
"h.0.mlp.act" here.
"""

import bisect
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from gpt2.backends import numpy_dtype
from gpt2.backends.stage_places import AFTER, BEFORE, PLACES
from parity.recorded.recording import Call, RecordedRun, RecordedTensor, is_float, tensors
from parity.recorded.runs.names import common_path, kind_of

ACT = "act"
# What also stands before and after a module, besides PLACES: where nothing nearer to its origin was recorded.
FARTHER: dict[str, dict[str, str]] = {
    "h.#.attn": {BEFORE: "ln_1", AFTER: "attn.c_proj"},
    "h.#.attn.c_attn": {BEFORE: "ln_1"},
    "h.#.attn.attn_dropout": {BEFORE: "attn.attn_weights"},
    "h.#.mlp": {BEFORE: "ln_2", AFTER: "mlp.c_proj"},
    "h.#.mlp.c_fc": {BEFORE: "ln_2"},
    "h.#.mlp.act": {BEFORE: "mlp.c_fc"},
    "drop": {BEFORE: "embeddings"},
    "lm_head": {BEFORE: "ln_f"},
    "score": {BEFORE: "ln_f"},
}
# How a call holds a stage: as an argument before it, or as a result.
LOSSES = ("cross_entropy", "log_softmax")  # what is given the logits
HEADS_LAST = "keys"  # the second factor of queries times keys: its last two axes are exchanged


@dataclasses.dataclass(frozen=True)
class Seen:
    """A stage as a recording holds it: a result of a call, or (`is_result` is False) an argument of it.

    form: "", or HEADS_LAST for keys that stand ready to be multiplied.
    """

    stage: str
    tensor: RecordedTensor
    call: Call
    is_result: bool = True
    form: str = ""


@dataclasses.dataclass(frozen=True)
class ForwardPass:
    """The calls of one forward pass of a model, in order, and what they say of its input. None: they do not say it.

    attention_mask, position_ids: as the model was given them. positions: as its table of positions was.
    has_model_call: whether the recording has the call of the model itself.
    """

    calls: tuple[Call, ...]
    ids: RecordedTensor | None = None
    attention_mask: RecordedTensor | None = None
    position_ids: RecordedTensor | None = None
    positions: RecordedTensor | None = None
    has_model_call: bool = False


def forward_passes(run: RecordedRun) -> list[ForwardPass]:
    """The forward passes of a run, each with its calls: a module that is called again begins another.

    Not if both calls are part of the same call: then one module stands for two.
    """
    passes: list[list[Call]] = [[]]
    seen: dict[str, str] = {}
    for call in run.calls:
        if call.is_backward:
            continue
        if call.is_module and call.path in seen and not (call.parent and call.parent == seen[call.path]):
            last = passes[-1]
            start = _beginning(last)
            passes[-1:] = [last[:start], last[start:]]
            seen = {other.path: other.parent for other in passes[-1] if other.is_module}
        if call.is_module:
            seen[call.path] = call.parent
        passes[-1].append(call)
    return [_described(calls) for calls in passes if calls]


def _beginning(calls: Sequence[Call]) -> int:
    """Where, behind the last module's call, the operators of the next pass begin: at the first embedding."""
    last = max((i for i, call in enumerate(calls) if call.is_module), default=-1)
    embeddings = (i for i in range(last + 1, len(calls)) if kind_of(calls[i].operator) == "embedding")
    return next(embeddings, len(calls))


def _described(calls: Sequence[Call]) -> ForwardPass:
    model = next((call for call in calls if call.is_module and not common_path(call.path)), None)
    named = {} if model is None else {name: x for name, x in model.keywords.items() if isinstance(x, RecordedTensor)}
    looked_up = [call for call in calls if common_path(call.path) == "wte" or kind_of(call.operator) == "embedding"]
    of_tokens = {call.name for call in looked_up if common_path(call.path) == "wte"}
    others = [call for call in looked_up if not {call.name, call.parent} & of_tokens] if of_tokens else looked_up[1:]
    positions = [call for call in calls if common_path(call.path) == "wpe"] or others[:1]
    given = [*((model,) if model is not None else ()), *looked_up, *calls]
    return ForwardPass(
        tuple(calls),
        named.get("input_ids") or next((x for call in given for x in _inputs(call) if _is_ids(x)), None),
        named.get("attention_mask"),
        named.get("position_ids"),
        next((x for call in positions for x in _inputs(call) if holds_integers(x)), None),
        model is not None,
    )


def _inputs(call: Call) -> Iterator[RecordedTensor]:
    return tensors([*call.arguments, call.keywords])


def holds_integers(x: RecordedTensor) -> bool:
    """Whether it may hold ids or positions."""
    return x.dtype.startswith(("int", "uint"))


def _is_ids(x: RecordedTensor) -> bool:
    return len(x.shape) == 2 and holds_integers(x) and math.prod(x.shape) > 0


def stages_of(calls: Sequence[Call]) -> dict[str, Seen]:
    """Every stage that a forward pass shows, once, as near to where it was computed as it is shown."""
    found: dict[str, Seen] = {}
    for seen in (*_by_path(calls, PLACES), *_in_order(calls), *_by_path(calls, FARTHER)):
        held = found.get(seen.stage)
        if held is None or (seen.is_result and not held.is_result and common_path(seen.call.path) in PLACES):
            found[seen.stage] = seen
    places = {call.name: i for i, call in enumerate(calls)}
    return dict(sorted(found.items(), key=lambda item: (places[item[1].call.name], item[1].is_result)))


def _by_path(calls: Sequence[Call], places: Mapping[str, Mapping[str, str]]) -> Iterator[Seen]:
    """The stages before and after modules whose paths are known; results first."""
    for where in (AFTER, BEFORE):
        for call in calls:
            path = common_path(call.path) if call.is_module else ""
            layer = re.match(r"h\.\d+", path)
            stage = places.get(re.sub(r"^h\.\d+", "h.#", path), {}).get(where)
            held = _first_floats(call.results if where == AFTER else call.arguments)
            if stage is not None and held is not None:
                name = stage.replace("{act}", ACT)
                yield Seen(f"{layer[0]}.{name}" if layer else name, held, call, where == AFTER)


def _first_floats(values: object) -> RecordedTensor | None:
    return next((x for x in tensors(values) if is_float(x)), None)


def _in_order(calls: Sequence[Call]) -> Iterator[Seen]:
    """The stages that operators compute, by what stands around them."""
    operators = [call for call in calls if not call.is_module]
    yield from _embeddings(calls, operators)
    if not any(re.match(r"h\.\d+$", common_path(call.path)) for call in calls if call.is_module):
        yield from _of_operators_alone(operators)
    yield from _attentions(operators)
    yield from _head(calls, operators)


def _embeddings(calls: Sequence[Call], operators: Sequence[Call]) -> Iterator[Seen]:
    """Look-ups in the tables of tokens and positions, and the first sum of their shape."""
    looked_up = [call for call in operators if kind_of(call.operator) == "embedding"][:2]
    results = [_first_floats(call.results) for call in looked_up]
    if len(looked_up) < 2 or results[0] is None or results[1] is None:
        return
    yield Seen("wte", results[0], looked_up[0])
    yield Seen("wpe", results[1], looked_up[1])
    after = calls.index(looked_up[1])
    for call in calls[after:]:
        total = _first_floats(call.results)
        if kind_of(call.operator) == "add" and total is not None and total.shape == results[0].shape:
            yield Seen("embeddings", total, call)
            return


def _of_operators_alone(operators: Sequence[Call]) -> Iterator[Seen]:
    """The stages of a run that recorded no modules: 2 LayerNorms and 4 affine maps for each layer, in order."""
    norms = [call for call in operators if kind_of(call.operator) == "layer_norm"]
    maps = [call for call in operators if kind_of(call.operator) == "linear" and _has_weight(call)]
    layers = (len(norms) - 1) // 2
    if layers < 1 or len(norms) != 2 * layers + 1 or len(maps) not in (4 * layers, 4 * layers + 1):
        return
    names = [f"h.{i}.{leaf}" for i in range(layers) for leaf in ("ln_1", "ln_2")]
    residuals = [f"h.{i}.{leaf}" for i in range(layers) for leaf in ("attn_residual", "mlp_residual")]
    for norm, before, name in zip(norms, ["", *residuals], [*names, "ln_f"], strict=True):
        yield from _around(norm, before, name)
    leaves = [("ln_1", "attn.qkv"), ("attn.merged", "attn.c_proj"), ("ln_2", "mlp.c_fc"), (f"mlp.{ACT}", "mlp.c_proj")]
    for number, call in enumerate(maps[: 4 * layers]):
        before, after = leaves[number % 4]
        yield from _around(call, f"h.{number // 4}.{before}", f"h.{number // 4}.{after}")


def _around(call: Call, before: str, after: str) -> Iterator[Seen]:
    result = _first_floats(call.results)
    argument = max(filter(is_float, tensors(call.arguments)), key=lambda x: len(x.shape), default=None)
    if call.operator.strip("_") in ("addmm", "baddbmm"):  # the bias comes first
        argument = next((x for x in list(tensors(call.arguments))[1:2]), None)
    if result is not None:
        yield Seen(after, result, call)
    if before and argument is not None:
        yield Seen(before, argument, call, is_result=False)


def _has_weight(call: Call) -> bool:
    """Whether one of the factors is a matrix, not a stack of them."""
    return any(len(x.shape) == 2 for x in list(tensors(call.arguments))[1:])


def _attentions(operators: Sequence[Call]) -> Iterator[Seen]:
    """Scores, weights and what the heads return: around each softmax of four axes, the layers in order."""
    stacked = [i for i, call in enumerate(operators) if kind_of(call.operator) == "linear" and not _has_weight(call)]
    softmaxes = [i for i, call in enumerate(operators) if kind_of(call.operator) == "softmax" and _axes(call) == 4]
    for layer, at in enumerate(softmaxes):
        weights, scores = _first_floats(operators[at].results), _first_floats(operators[at].arguments)
        if weights is not None and scores is not None:
            yield Seen(f"h.{layer}.attn.masked_scores", scores, operators[at], is_result=False)
            yield Seen(f"h.{layer}.attn.attn_weights", weights, operators[at])
        place = bisect.bisect(stacked, at)
        if place > 0:
            yield from _products(f"h.{layer}.attn", operators[stacked[place - 1] : at])
        if place < len(stacked):
            yield from _heads(f"h.{layer}.attn", operators[stacked[place]])
    whole = [call for call in operators if kind_of(call.operator) == "attention"]
    for layer, call in enumerate([] if softmaxes else whole):
        factors = list(filter(is_float, tensors(call.arguments)))[:3]
        result = _first_floats(call.results)
        if result is not None and len(factors) == 3 and all(len(x.shape) == 4 for x in factors):
            for name, factor in zip("qkv", factors, strict=True):
                yield Seen(f"h.{layer}.attn.{name}", factor, call, is_result=False)
            yield Seen(f"h.{layer}.attn.attn_output", result, call)


def _axes(call: Call) -> int:
    result = _first_floats(call.results)
    return 0 if result is None else len(result.shape)


def _products(at: str, operators: Sequence[Call]) -> Iterator[Seen]:
    """Queries times keys, and the scores that they are divided into at once."""
    factors = list(filter(is_float, tensors(operators[0].arguments)))[:2]
    if len(factors) == 2 and all(len(x.shape) == 4 for x in factors):
        yield Seen(f"{at}.q", factors[0], operators[0], is_result=False)
        yield Seen(f"{at}.k", factors[1], operators[0], is_result=False, form=HEADS_LAST)
    for call in operators[1:2]:
        scaled = _first_floats(call.results)
        if kind_of(call.operator) == "mul" and scaled is not None:
            yield Seen(f"{at}.scores", scaled, call)


def _heads(at: str, call: Call) -> Iterator[Seen]:
    """Weights times values."""
    factors, result = list(filter(is_float, tensors(call.arguments)))[:2], _first_floats(call.results)
    if result is not None and len(factors) == 2 and all(len(x.shape) == 4 for x in factors):
        yield Seen(f"{at}.v", factors[1], call, is_result=False)
        yield Seen(f"{at}.attn_output", result, call)


def _head(calls: Sequence[Call], operators: Sequence[Call]) -> Iterator[Seen]:
    """The last affine map, behind the last LayerNorm."""
    last = max((i for i, call in enumerate(calls) if kind_of(call.operator) == "layer_norm"), default=len(calls))
    behind = {call.name for call in calls[last + 1 :]}
    for call in operators:
        if call.name in behind and kind_of(call.operator) == "linear" and _has_weight(call):
            yield from _around(call, "ln_f", "logits")
            return
    rows = _first_floats(calls[last].results) if last < len(calls) else None
    for call in operators:
        scores = _first_floats(call.arguments)
        if call.name in behind and call.operator in LOSSES and scores is not None and rows is not None:
            if scores.shape[:-1] in (rows.shape[:-1], (math.prod(rows.shape[:-1]),)):
                yield Seen("logits", scores, call, is_result=False)
            return


def lowest_dtype(found: Iterable[RecordedTensor]) -> np.dtype:
    """The dtype with the fewest digits among floating-point tensors: in mixed precision, that of most of the work."""
    names = {x.dtype for x in found}
    return numpy_dtype(next(name for name in ("bfloat16", "float16", "float32", "float64") if name in names))
