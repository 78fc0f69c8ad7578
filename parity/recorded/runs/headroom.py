"""How near a recorded run comes to the limits of float16, and which call made the first NaN or infinity."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from parity.recorded.recording import Call, RecordedRun, RecordedTensor, is_float, tensors

LARGEST = 65504.0  # of float16
SMALLEST_NORMAL, SMALLEST = 2.0**-14, 2.0**-24
HIDDEN = 1e30  # what a mask puts in place of scores, the lowest number of float32 or bfloat16, is larger


@dataclasses.dataclass(frozen=True)
class Headroom:
    """How far the results of a call are from the limits of float16, which holds 65504 at most.

    bits: how often the largest result could be doubled before it overflows; negative beyond the limit, infinite if all
    results are 0, None if the recording does not say how large they are. below: the share of the results, other than 0,
    that are below float16's smallest normal number and lose digits; lost: of those that become 0. None: not known.
    """

    call: Call
    largest: float | None
    bits: float | None
    below: float | None = None
    lost: float | None = None


@dataclasses.dataclass(frozen=True)
class NotFinite:
    """A call whose results hold NaN or infinity. made_here: whether all that went into it was finite."""

    call: Call
    what: str  # "NaN", "infinity"
    made_here: bool


def headroom(call: Call) -> Headroom | None:
    """The headroom of a call's results; None if it has no floating-point results."""
    results = [x for x in tensors(call.results) if is_float(x) and 0 not in x.shape]
    if not results:
        return None
    known = [size for size in map(_largest, results) if size is not None]
    largest = max(known, default=None)
    below, lost = _shares([x for x in results if x.has_numbers])
    return Headroom(call, largest, None if largest is None else bits_left(largest), below, lost)


def bits_left(largest: float) -> float:
    """How often a number can be doubled before float16 overflows."""
    if math.isnan(largest) or math.isinf(largest):
        return -math.inf
    return math.log2(LARGEST / largest) if largest else math.inf


def _largest(x: RecordedTensor) -> float | None:
    """The largest absolute number, but for NaN, infinity and what hides scores; None: not known."""
    said = x.statistics
    sizes = [abs(size) for size in (said.max, said.min) if size is not None]
    if len(sizes) == 2 and all(size < HIDDEN for size in sizes):
        return max(sizes)
    if x.has_numbers:
        numbers = np.abs(x.numbers().astype(np.float32 if x.dtype != "float64" else np.float64))
        return float(numbers.max(where=numbers < HIDDEN, initial=0.0))
    return min(sizes) if len(sizes) == 2 and min(sizes) < HIDDEN else None


def _shares(results: Sequence[RecordedTensor]) -> tuple[float | None, float | None]:
    if not results:
        return None, None
    count = below = lost = 0
    for x in results:
        numbers = np.abs(x.numbers().astype(np.float32 if x.dtype != "float64" else np.float64))
        other = numbers[numbers != 0]
        count += other.size
        below += int(np.count_nonzero(other < SMALLEST_NORMAL))
        lost += int(np.count_nonzero(other <= SMALLEST / 2))  # rounded to the even neighbour, which is 0
    return (below / count, lost / count) if count else (0.0, 0.0)


def first_not_finite(run: RecordedRun) -> NotFinite | None:
    """The call that made the first NaN or infinity of finite numbers; else the first that holds any; None if none does.

    A mask's own -inf, given as an argument, is not made by the call.
    """
    first = None
    for found in not_finite(run):
        if found.made_here:
            return found
        first = first or found
    return first


def not_finite(run: RecordedRun) -> Iterator[NotFinite]:
    """The calls whose results hold NaN or infinity, in order."""
    for call in run.calls:
        kinds = {kind for x in tensors(call.results) if is_float(x) for kind in _kinds(x)}
        if kinds:
            given = [*call.arguments, call.keywords, call.parameters]
            yield NotFinite(call, "NaN" if "NaN" in kinds else "infinity", not _holds_any(given))


def _holds_any(value: Any) -> bool:
    if isinstance(value, RecordedTensor):
        return is_float(value) and bool(_kinds(value))
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_holds_any, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_any, value))


def _kinds(x: RecordedTensor) -> set[str]:
    said = [size for size in (x.statistics.max, x.statistics.min, x.statistics.norm) if size is not None]
    if said and all(map(math.isfinite, said)):
        return set()
    if x.has_numbers:
        numbers = x.numbers()
        if numbers.dtype == ml_dtypes.bfloat16:
            numbers = numbers.astype(np.float32)
        return ({"NaN"} if np.isnan(numbers).any() else set()) | ({"infinity"} if np.isinf(numbers).any() else set())
    extremes = [size for size in (x.statistics.max, x.statistics.min) if size is not None]
    return ({"NaN"} if any(map(math.isnan, extremes)) else set()) | (
        {"infinity"} if any(map(math.isinf, extremes)) else set()
    )
