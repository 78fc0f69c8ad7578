"""Mistakes with a choice in them: another activation, a mask off by k, scores divided by some number.

A choice from a few is a candidate each. A number is estimated from the values that were found, and read: 64.0 is C,
if the model has 64 channels. Then the mistake with that number is a candidate like any other, judged by the one rule.
"""

import ast
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explanation.candidates import Candidate
from parity.explanation.copies import Copy
from parity.mutants.base import Edit, original_sources
from parity.verdict.trial import Trial, as_float64, leaves, run
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Reference, oracle_in_range, ulp
from reference import place
from reference.config import ACTIVATIONS, USUAL_ACTIVATIONS

Array = NDArray[Any]
Sizes = Mapping[str, int]
NUMBER = "ESTIMATED_NUMBER"  # in edited lines, what is estimated: NUMBER[0]
POSITIONS = "reference.model.embed", "embedding(position_ids, **"
MASK = "reference.attention.causal_bias", "key_length - query_length, dtype"
HEADS = "reference.attention.queries_keys_values", "split_heads(third, config.n_head)"
THIRDS = "reference.attention.queries_keys_values", "    q, k, v = (split_heads"
MERGED = "reference.attention.merge_heads", "x.swapaxes(1, 2)"
AFFINE, NORM = ("reference.ops.conv1d", "reference.ops.layer_norm")
NORMED = " * weight + bias"
HEAD_NUMBERS = {
    "one head": "1",
    "as many heads as a head has channels": "config.head_size",
    "twice as many heads": "2 * config.n_head",
    "half as many heads": "config.n_head // 2",
}


def _choices_of_structure() -> Iterator[tuple[str, str, str, str, str]]:
    """Name, story, function, and its lines before and after."""
    for k in (1, 2, 3, -1, -2):
        story = f"The position is read {k:+d} places away; OPT, for one, shifts by 2."
        new = f"embedding(np.clip(position_ids + {k}, 0, config.n_positions - 1), **"
        yield f"positions shifted by {k}", story, *POSITIONS, new
    for k in (1, 2, -1, -2):
        story = f"A query sees {k:+d} keys more than it should."
        yield f"the mask off by {k}", story, *MASK, f"key_length - query_length + {k}, dtype"
    for order in list(itertools.permutations("qkv"))[1:]:
        names = ", ".join(order)
        story = "The thirds of c_attn are taken in another order."
        yield f"c_attn read as {names}", story, *THIRDS, f"    {names} = (split_heads"
    for name, number in HEAD_NUMBERS.items():
        story = "The heads are cut by another number than the configuration's."
        yield name, story, *HEADS, f"split_heads(third, {number})"
    yield (
        "heads in the opposite order",
        "They are merged from the last to the first.",
        *MERGED,
        "x[:, ::-1].swapaxes(1, 2)",
    )
    yield "no bias", "The bias of an affine map is missing.", AFFINE, " + bias)", ")"
    yield "the bias twice", "A fused product has added it already.", AFFINE, "+ bias)", "+ 2 * bias)"
    yield "a weight not transposed", "(in, out) is read as (out, in).", AFFINE, "rows, weight)", "rows, weight.T)"
    yield "LayerNorm without its bias", "The bias is missing.", NORM, NORMED, " * weight"
    yield "LayerNorm without its gain", "The gain is missing.", NORM, NORMED, " + bias"
    yield "a gain of 1 + weight", "As in Gemma.", NORM, NORMED, " * (1 + weight) + bias"


# What stands in place of an activation, by name: those of the reference, and some that it has not.
OTHERS = {
    "identity": "x",
    "elu": "np.where(x > 0, x, np.expm1(np.minimum(x, 0)))",
    "softplus": "np.logaddexp(x, np.zeros_like(x))",
    "hard swish": "x * np.clip(x + 3, 0, 6) / 6",
    "hard sigmoid": "np.clip(x + 3, 0, 6) / 6",
    "relu6": "np.clip(x, 0, 6)",
    "selu": "1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))",
    "softsign": "x / (1 + np.abs(x))",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """Mistakes that differ by a number. edits: its lines, with NUMBER[0]; readings: what the number may stand for.

    words: what is said of the number, with {number} in it.
    """

    name: str
    story: str
    edits: tuple[Edit, ...]
    words: str
    readings: Mapping[str, Callable[[Sizes], float]]


def _always(number: float) -> Callable[[Sizes], float]:
    return lambda sizes: number


def _size(letter: str, power: int) -> Callable[[Sizes], float]:
    return lambda sizes: float(sizes[letter]) ** power


DIVISORS: Mapping[str, Callable[[Sizes], float]] = {
    "C": lambda s: s["C"],
    "sqrt(C)": lambda s: math.sqrt(s["C"]),
    "D": lambda s: s["D"],
    "sqrt(D)": lambda s: math.sqrt(s["D"]),
    "D^(1/4)": lambda s: s["D"] ** 0.25,
    "H": lambda s: s["H"],
    "sqrt(H)": lambda s: math.sqrt(s["H"]),
    "sqrt(3C)": lambda s: math.sqrt(3 * s["C"]),
    "1/sqrt(D)": lambda s: 1 / math.sqrt(s["D"]),
    "1/D": lambda s: 1 / s["D"],
    "1": lambda s: 1.0,
    "sqrt(S)": lambda s: math.sqrt(s["S"]),
    "sqrt(T)": lambda s: math.sqrt(s["T"]),
}
EPSILON = Family(
    "LayerNorm with another epsilon",
    "What is added to the variance is not the configuration's.",
    (Edit("reference.ops.layer_norm", "np.sqrt(variance + eps)", f"np.sqrt(variance + {NUMBER}[0])"),),
    "epsilon is {number}",
    {f"1e-{n}": _always(10.0**-n) for n in range(2, 13)} | {"0": _always(0.0)},
)
FACTORS: dict[str, Callable[[Sizes], float]] = {
    **{text: _always(x) for text, x in {"2": 2.0, "1/2": 0.5, "-1": -1.0, "3": 3.0, "1/3": 1 / 3}.items()},
    **{letter: _size(letter, 1) for letter in "BTSCHDNIVK"},
    **{f"1/{letter}": _size(letter, -1) for letter in "BTSCHDNIVK"},
    "B T": lambda s: s["B"] * s["T"],
    "1/(B T)": lambda s: 1 / (s["B"] * s["T"]),
    "sqrt(C)": lambda s: math.sqrt(s["C"]),
    "1/sqrt(C)": lambda s: 1 / math.sqrt(s["C"]),
    "sqrt(D)": lambda s: math.sqrt(s["D"]),
    "1/sqrt(D)": lambda s: 1 / math.sqrt(s["D"]),
    "(T - 1)/T": lambda s: (s["T"] - 1) / s["T"],
    "T/(T - 1)": lambda s: s["T"] / max(s["T"] - 1, 1),
}
SCALE = Family(
    "another number for the root of D",
    "The scores of attention are to be divided by sqrt(D), the root of a head's size.",
    (Edit("reference.attention.attention_scale", "math.sqrt(config.head_size)", f"{NUMBER}[0]"),),
    "the scores are divided by {number}",
    DIVISORS,
)
WHOLE_SCALE = Family(
    "scores divided by another number",
    "The scores of attention are divided by sqrt(D) and by the layer, each only if the configuration says so.",
    (
        Edit(
            "reference.attention.attention_scale",
            "return scale * (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale",
            f"return {NUMBER}[0]",
        ),
    ),
    "the scores are divided by {number}",
    DIVISORS,
)
SCORES = Family(
    "the scores times a number",
    "The scores are scaled once more, as where a query is scaled before the product, and the product after it.",
    (Edit("reference.attention.attention_scores", "return scores", f"return {NUMBER}[0] * scores"),),
    "the scores are too large by a factor of {number}",
    FACTORS | {"sqrt(T)": lambda s: math.sqrt(s["T"]), "1/sqrt(T)": lambda s: 1 / math.sqrt(s["T"])},
)
GRID = np.concatenate([[0.0], np.logspace(-13, 4, 69)])  # where the search for a number begins
REFINEMENTS = 60  # of the interval around the best of them
NEAR = 1e-3  # how near, relatively, a reading must be to be tried, at least


@dataclasses.dataclass(frozen=True)
class Numbered(Candidate):
    """A mistake with a number that depends on the sizes of a case."""

    family: Family | None = dataclasses.field(default=None, compare=False)
    reading: Callable[[Sizes], float] = dataclasses.field(default=lambda s: 1.0, compare=False)

    def put_to(self, trial: Any) -> None:
        assert self.family is not None
        _shared(self.family.edits)[1][0] = self.reading(trial.case.sizes)

    def backend(self, dtype: str) -> Any:
        assert self.family is not None
        return _shared(self.family.edits)[0].backend(dtype, name=self.name)

    def module(self, name: str) -> Any:
        assert self.family is not None
        return _shared(self.family.edits)[0].module(name)


@functools.cache
def _shared(edits: tuple[Edit, ...]) -> tuple[Copy, list[float]]:
    """The copy of a family, and the place of its number."""
    number = [1.0]
    return Copy(edits, {NUMBER: number}), number


def choices() -> Iterator[Candidate]:
    """The mistakes with a choice from a few."""
    for name, story, function, old, new in _choices_of_structure():
        yield Candidate(name, story, (Edit(function, old, new),))
    for ours in ACTIVATIONS:
        module = "ops" if ours in USUAL_ACTIVATIONS else "activations"
        function = f"reference.{module}.{ours}"
        others = {name: f"_other.{name}(x)" for name in ACTIVATIONS if name != ours} | OTHERS
        returned = _returned(function)
        for name, formula in others.items():
            lines = f"from reference import activations as _other\n    return {formula}"
            if "_other." not in formula:
                lines = f"import numpy as np\n    return {formula}"
            edit = Edit(function, f"return {returned}", lines)
            yield Candidate(f"{name} for {ours}", "Another activation function.", (edit,))


@functools.cache
def every_choice() -> tuple[Candidate, ...]:
    """`choices`, made once."""
    return tuple(choices())


def families(name: str) -> list[Family]:
    """The families that can explain what a function, "ops.softmax", returns: its result times a number, and others."""
    found, function = [SCALE, WHOLE_SCALE, SCORES, EPSILON], ".".join(("reference", *place(name)))
    try:
        returned = _returned(function)
    except LookupError:  # no function of the reference, or one that returns something else
        return found
    edit = Edit(function, f"return {returned}", f"return {NUMBER}[0] * ({returned})")
    story = "The whole result is off by a constant factor."
    return [
        *found,
        Family("the result times a number", story, (edit,), "the result is too large by a factor of {number}", FACTORS),
    ]


def _returned(function: str) -> str:
    """The text of what a function's last statement returns. Raises LookupError if it returns several, or none."""
    module, _, name = function.rpartition(".")
    text = original_sources()[module.replace(".", "/") + ".py"]
    found = [x for x in ast.parse(text).body if isinstance(x, ast.FunctionDef) and x.name == name]
    last = found[0].body[-1]
    if not isinstance(last, ast.Return) or last.value is None or isinstance(last.value, ast.Tuple):
        raise LookupError(function)
    return ast.get_source_segment(text, last.value) or ""


def numbered(family: Family, trial: Trial, values: list[Array], truth: list[Reference]) -> Iterator[Candidate]:
    """The candidates of a family whose number is the one that values found on a case tell."""
    estimate = estimated(family, trial, values, truth)
    if estimate is None:
        return
    number, spread = estimate
    readings = dict(family.readings)
    plain = _shortest(number, spread)
    readings.setdefault(f"{plain:g}", lambda s: plain)
    for text, reading in readings.items():
        try:
            value = float(reading(trial.case.sizes))
        except (KeyError, ZeroDivisionError):
            continue
        if abs(value - number) <= max(spread, NEAR * abs(number)):
            digits = max(0, min(12, 1 - math.floor(math.log10(spread)))) if spread > 0 else 12
            shown = (
                f"{number:.{digits}f} ± {spread:.1g}" if 1e-3 < abs(number) < 1e6 else f"{number:.3g} ± {spread:.1g}"
            )
            said = shown if text == f"{plain:g}" else f"{shown}: that is {text}"
            yield Numbered(
                f"{family.name}: {text}",
                family.story,
                tuple(dataclasses.replace(x, new=x.new.replace(f"{NUMBER}[0]", text)) for x in family.edits),
                number=family.words.format(number=said),
                family=family,
                reading=reading,
            )


def estimated(family: Family, trial: Trial, values: list[Array], truth: list[Reference]) -> tuple[float, float] | None:
    """The number with which a family comes nearest to the values, and how far it may be off; None if none matters.

    How far: what changes no result by more than its error may be.
    """
    copy, place = _shared(family.edits)
    backend, arguments = copy.backend("float64"), as_float64(trial.arguments)
    floats = [i for i, x in enumerate(values) if x.dtype.kind not in "iub"]
    if not floats or len(values) != len(truth):
        return None

    def results(number: float) -> list[Array]:
        place[0] = number
        with np.errstate(all="ignore"):
            returned = list(leaves(run(trial.case, backend, arguments), np.dtype(np.float64)))
        return [returned[i] for i in floats]

    def distance(number: float) -> float:
        total = 0.0
        for x, i in zip(results(number), floats, strict=True):
            if x.shape != values[i].shape:
                return math.inf
            own = truth[i].orbit[0]
            kept = _kept(truth[i], x) & np.isfinite(values[i].astype(np.float64)) & np.isfinite(own.astype(np.float64))
            error: Array = (oracle_in_range(x, own.dtype) - values[i].astype(np.float64))[kept]
            with np.errstate(all="ignore"):
                total += float(np.sum(error * error)) if np.isfinite(error).all() else math.inf
        return total

    starts = sorted({*GRID, *_readable(family, trial), *(-GRID if family.readings is FACTORS else ())})
    errors = [distance(x) for x in starts]
    if not np.isfinite(min(errors)) or np.isnan(errors).any() or max(errors) == min(errors):
        return None
    best = int(np.argmin(errors))
    number = _least(distance, starts[max(best - 1, 0)], starts[min(best + 1, len(starts) - 1)], starts[best])
    step = 1e-4 * abs(number) or 1e-13
    steepest = 0.0
    for x, y, i in zip(results(number + step), results(number), floats, strict=True):
        own = truth[i].orbit[0].dtype
        allowed = NOISE_FACTOR * truth[i].noise + ULP_TERM * ulp(y, own)
        steepest = max(steepest, float(np.max(np.nan_to_num(np.abs(x - y) / step / allowed), initial=0.0)))
    return (number, 1 / steepest) if steepest else None


def _kept(known: Reference, x: Array) -> Array:
    return np.ones(x.shape, bool) if known.rows is None else np.broadcast_to(known.rows, x.shape)


def _readable(family: Family, trial: Trial) -> Iterator[float]:
    for reading in family.readings.values():
        try:
            yield float(reading(trial.case.sizes))
        except (KeyError, ZeroDivisionError):
            continue


def _least(distance: Callable[[float], float], low: float, high: float, start: float) -> float:
    """Where a function of one number is least in an interval, by golden sections; at the start, if nothing is lower."""
    share = (math.sqrt(5) - 1) / 2
    a, b = high - share * (high - low), low + share * (high - low)
    at_a, at_b = distance(a), distance(b)
    for _ in range(REFINEMENTS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - share * (high - low)
            at_a = distance(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + share * (high - low)
            at_b = distance(b)
    return min((start, a, b), key=distance)


def _shortest(number: float, spread: float) -> float:
    """The number with the fewest digits that is no farther away than the spread."""
    return next((x for x in (float(f"{number:.{n}g}") for n in range(1, 17)) if abs(x - number) <= spread), number)
