"""Mistakes with a number in them: scores divided by some number, another epsilon, a result off by a factor.

The number is estimated from the values that were found, and read: 64.0 is C, if the model has 64 channels. Then the
mistake with that number is a candidate like any other, judged by the one rule.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.explanation.candidates import Candidate
from parity.explanation.choices import NORMS, joined, returned
from parity.explanation.copies import Copy
from parity.mutants.base import Edit
from parity.verdict.trial import Trial, as_float64, leaves, run
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Reference, oracle_in_range, ulp
from reference import place

Array = NDArray[Any]
Sizes = Mapping[str, int]
NUMBER = "ESTIMATED_NUMBER"  # in edited lines, what is estimated: NUMBER[0]


@dataclasses.dataclass(frozen=True)
class Family:
    """Mistakes that differ by a number. edits: its lines, with NUMBER[0]; readings: what the number may stand for.

    words: what is said of the number, with {number} in it.
    signed: whether it may be negative.
    """

    name: str
    story: str
    edits: tuple[Edit, ...]
    words: str
    readings: Mapping[str, Callable[[Sizes], float]]
    signed: bool = False


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
TEMPERATURE = Family(
    "a softmax with a temperature",
    "What goes into the softmax is multiplied by a number, or divided by a temperature.",
    (Edit("reference.ops.softmax", "exp(x - x.max(", f"exp({NUMBER}[0] * x - {NUMBER}[0] * x.max("),),
    "what goes into the softmax is too large by a factor of {number}",
    {"log2(e)": _always(math.log2(math.e)), "log(2), a softmax to base 2": _always(math.log(2)), **FACTORS},
)
GELU_CUBE = Family(
    "another constant in gelu_new",
    "The factor of the cube is 0.044715.",
    (Edit("reference.ops.gelu_new", "0.044715 * (x * x * x)", f"{NUMBER}[0] * (x * x * x)"),),
    "the factor of the cube is {number}",
    {},
)
GELU_ROOT = Family(
    "another root in gelu_new",
    "The argument of tanh is multiplied by sqrt(2 / pi).",
    (Edit("reference.ops.gelu_new", "math.sqrt(2 / math.pi) *", f"{NUMBER}[0] *"),),
    "what should be sqrt(2 / pi) = 0.797885 is {number}",
    {"sqrt(pi / 2)": _always(math.sqrt(math.pi / 2)), "2 / pi": _always(2 / math.pi)},
)
HIDDEN_AT = Family(
    "masked scores at a number",
    "A hidden score must be so low that its weight is 0.",
    (
        Edit(
            "reference.attention.mask_scores",
            "np.array(mask_value(scores.dtype), scores.dtype)",
            f"np.array({NUMBER}[0], scores.dtype)",
        ),
    ),
    "a hidden score becomes {number}",
    {"-1e4": _always(-1e4), "-1e3": _always(-1e3), "-1e9": _always(-1e9), "-1e10": _always(-1e10)},
    signed=True,
)
HIDDEN_BY = Family(
    "a number added to masked scores",
    "A hidden score must be so low that its weight is 0.",
    (
        Edit(
            "reference.attention.mask_scores",
            "np.array(mask_value(scores.dtype), scores.dtype)",
            f"scores + np.array({NUMBER}[0], scores.dtype)",
        ),
    ),
    "to a hidden score is added {number}",
    HIDDEN_AT.readings,
    signed=True,
)
EPSILON_OF_ONE = tuple(
    Family(
        f"{name} with another epsilon",
        "One LayerNorm alone has another epsilon than the configuration's.",
        (
            Edit(
                function,
                f'params["{name}"], config',
                f'params["{name}"], type(config)(**{{**vars(config), "layer_norm_epsilon": {NUMBER}[0]}})',
            ),
        ),
        "its epsilon is {number}",
        EPSILON.readings,
    )
    for name, function in NORMS.items()
)
OF_ATTENTION = (SCALE, WHOLE_SCALE, SCORES, TEMPERATURE, HIDDEN_AT, HIDDEN_BY)
EVERYWHERE = (*OF_ATTENTION, EPSILON, *EPSILON_OF_ONE, GELU_CUBE, GELU_ROOT)
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


def families(name: str) -> list[Family]:
    """The families that can explain what a function, "ops.softmax", returns: a result times a number, and others."""
    found, function = list(EVERYWHERE), ".".join(("reference", *place(name)))
    try:
        parts = returned(function)
    except LookupError:  # no function of the reference, or one that returns nothing so
        return found
    for number, part in enumerate(parts, start=1):
        which = "result" if len(parts) == 1 else f"result {number} of {len(parts)}"
        changed = [*parts[: number - 1], f"{NUMBER}[0] * ({part})", *parts[number:]]
        edit, story = Edit(function, joined(parts), joined(changed)), "It is off by a constant factor."
        words = f"the {which} is too large by a factor of {{number}}"
        found.append(Family(f"the {which} times a number", story, (edit,), words, FACTORS, signed=True))
    return found


def numbered(family: Family, trial: Trial, values: list[Array], truth: list[Reference]) -> Iterator[Candidate]:
    """The candidates of a family whose number is the one that values found on a case tell."""
    estimate = estimated(family, trial, values, truth)
    if estimate is None:
        return
    number, spread = estimate
    readings = dict(family.readings)
    plain = _shortest(number, spread)
    if all(value != plain for value in _readable(family, trial)):
        readings[f"{plain:g}"] = lambda s: plain
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

    starts = sorted({*GRID, *_readable(family, trial), *(-GRID if family.signed else ())})
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
