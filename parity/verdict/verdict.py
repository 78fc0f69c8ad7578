"""The one rule: an implementation agrees when its error is at most 3 times this input's rounding noise, plus 4 ulp.

The noise is measured on the input at hand, not tuned: the reference is run in the same precision on equivalent forms of
the input (its channels, heads, units in another order), and the largest distance to the float64 oracle over them is how
far a correct implementation strays here.
"""

import contextlib
import dataclasses
import functools
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NOISE_FACTOR = 3
ULP_TERM = 4
PLAIN = 100.0  # times the noise: smaller cases must not weaken evidence of this size


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on one array. `error`, `noise` and `ulp` are absolute, at the worst element.

    value: the backend's number at that element; expected: the oracle's; own: the reference's in the same precision
    (None: there is none). terms: the most numbers that are summed for an element (0: not known). name: the parameter
    that the array belongs to, if any.
    """

    agrees: bool
    error: float
    noise: float
    ulp: float
    index: tuple[int, ...]
    value: float
    expected: float
    reason: str = ""
    own: float | None = None
    terms: int = 0
    name: str = ""

    @property
    def noise_ratio(self) -> float:
        """The error as a multiple of this input's rounding noise."""
        if self.error == 0:
            return 0.0
        return self.error / self.noise if self.noise else float("inf")

    @property
    def is_plain(self) -> bool:
        """Whether it disagrees by so much that no rounding explains it."""
        return not self.agrees and (bool(self.reason) or self.noise_ratio > PLAIN)

    @property
    def ulps(self) -> float:
        """The error in units in the last place."""
        return self.error / self.ulp if self.ulp else 0.0

    @property
    def severity(self) -> float:
        """The error divided by the tolerance: above 1 it does not agree."""
        if self.reason:
            return float("inf")
        allowed = NOISE_FACTOR * self.noise + ULP_TERM * self.ulp
        return self.error / allowed if allowed else float(self.error > 0)

    def explain(self) -> str:
        """The verdict in words."""
        if self.reason:
            return f"{self.name}: {self.reason}" if self.name else self.reason
        if self.error == 0:
            return "identical bits: agrees" if self.agrees else "identical bits"
        size = f"{self.ulps:.3g} ulp; {self.noise_ratio:.2g} x this input's rounding noise"
        if self.agrees:
            return f"{size}: agrees"
        own = "" if self.own is None else f", in the same precision {self.own!r} ({_hex(self.own)})"
        terms = f"; sums of up to {self.terms} terms" if self.terms > 1 else ""
        return (
            f"{size}: differs at {self.name}{self.index}: {self.value!r} ({_hex(self.value)}), "
            f"expected {self.expected!r} ({_hex(self.expected)}){own}{terms}"
        )


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a verdict was about: a value, and what it was compared with (None: a reference).

    noise: how far a correct value may stray; None where the two must have the same bits, or be equal.
    """

    value: Any
    expected: Any
    noise: float | None
    agrees: bool


_claims: list[Claim] | None = None


@contextlib.contextmanager
def claims_made() -> Iterator[list[Claim]]:
    """The claims of all verdicts that are given meanwhile, in order."""
    global _claims
    outer, _claims = _claims, []
    try:
        yield _claims
    finally:
        _claims = outer


def _noted(verdict: "Verdict", value: Any, expected: Any = None, noise: float | None = None) -> "Verdict":
    """The verdict itself; its claim is kept if somebody asks for claims."""
    if _claims is not None:
        _claims.append(Claim(value, expected, noise, verdict.agrees))
    return verdict


def _hex(x: float) -> str:
    return float(x).hex()


def ulp(x: Array, dtype: np.dtype) -> Array:
    """The distance from |x| to the next larger number of that dtype, as float64; the smallest denormal near zero."""
    smallest_normal, digits = _smallest_and_digits(dtype)
    size = np.maximum(np.abs(np.asarray(x, np.float64)), smallest_normal)
    _, exponent = np.frexp(size)  # size in [2**(exponent - 1), 2**exponent)
    return np.ldexp(1.0, exponent - digits)


@functools.cache  # called at every step of the reference, and slow to compute
def _smallest_and_digits(dtype: np.dtype) -> tuple[float, int]:
    """A dtype's smallest normal number, and the number of its binary digits."""
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(info.smallest_normal), int(info.nmant) + 1


def oracle_in_range(oracle: Array, dtype: np.dtype) -> Array:
    """The float64 oracle, clipped to the finite numbers of the dtype, which float64's mask value exceeds."""
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return np.clip(oracle, float(info.min), float(info.max))


def noise_floor(orbit: list[Array], oracle: Array, dtype: np.dtype) -> float:
    """The largest distance to the oracle over the orbit: runs of the reference, in dtype, on equivalent inputs."""
    expected = oracle_in_range(oracle, dtype)
    with np.errstate(invalid="ignore"):
        distances = [np.abs(member.astype(np.float64) - expected) for member in orbit]
    finite = [distance[np.isfinite(distance)] for distance in distances]
    return max((float(distance.max()) for distance in finite if distance.size), default=0.0)


def judge(value: Any, oracle: Array, orbit: list[Array], rows: Array | None = None, terms: int = 0) -> Verdict:
    """The verdict on one array that a backend returned.

    oracle: the reference in float64. orbit: the reference in the precision asked for, on equivalent inputs; the first
    is the input itself, whose dtype, shape, NaN and infinities the value must have. rows: True where the value means
    something (default: everywhere). terms: how many numbers are summed up, for the explanation. Integers and booleans
    must be equal.
    """
    own = orbit[0]
    value = np.asarray(value)
    if value.shape != own.shape:
        return refused(f"shape {value.shape}, expected {own.shape}")
    if value.dtype.kind in "iub":
        if own.dtype.kind not in "iub" or (own.dtype.kind == "b") != (value.dtype.kind == "b"):
            return refused(f"dtype {value.dtype}, expected {own.dtype}")
        wrong = np.argwhere(value != own)
        if not len(wrong):
            return Verdict(True, 0.0, 0.0, 1.0, (), 0.0, 0.0)
        where = tuple(int(i) for i in wrong[0])
        return Verdict(
            False,
            1.0,
            0.0,
            1.0,
            where,
            float(value[where]),
            float(own[where]),
            f"{value[where]} at {where}, expected {own[where]}",
        )
    if value.dtype != own.dtype:
        return refused(f"dtype {value.dtype}, expected {own.dtype}")
    oracle = np.asarray(oracle).astype(np.float64)
    kept = np.ones(value.shape, bool) if rows is None else np.broadcast_to(rows, value.shape)
    wide, own_wide = value.astype(np.float64), own.astype(np.float64)
    special = ~np.isfinite(own_wide)
    alike = np.where(special, (wide == own_wide) | np.isnan(wide) & np.isnan(own_wide), np.isfinite(wide)) | ~kept
    if not alike.all():
        where = tuple(int(i) for i in np.argwhere(~alike)[0])
        return refused(
            f"{wide[where]} at {where}, expected {own_wide[where]}: NaN and infinity must stand in the same places"
        )
    usual = kept & ~special
    expected = oracle_in_range(np.where(usual, oracle, 0.0), value.dtype)
    noise = noise_floor([np.where(usual, member.astype(np.float64), 0.0) for member in orbit], expected, value.dtype)
    error = np.abs(np.where(usual, wide, 0.0) - expected)
    unit = ulp(expected, value.dtype)
    if not error.size:
        return Verdict(True, 0.0, noise, 0.0, (), 0.0, 0.0)
    allowed = NOISE_FACTOR * noise + ULP_TERM * unit
    with np.errstate(over="ignore"):  # the ratio is infinite where next to no error is allowed
        worst = np.unravel_index(np.argmax(error / allowed), error.shape)
    where = tuple(int(i) for i in worst)
    return Verdict(
        bool((error <= allowed).all()),
        float(error[where]),
        noise,
        float(unit[where]),
        where,
        float(wide[where]),
        float(expected[where]),
        own=float(own_wide[where]),
        terms=terms,
    )


def refused(reason: str) -> Verdict:
    """The verdict on what is no number, or not the right kind of thing."""
    return Verdict(False, float("inf"), 0.0, 0.0, (), float("nan"), float("nan"), reason)


@dataclasses.dataclass(frozen=True)
class Reference:
    """The reference's results for one array: the float64 oracle, the orbit, and the rows that mean something.

    terms: the most numbers that are summed for an element (0: not known). name: the parameter the array belongs to.
    """

    oracle: Array
    orbit: list[Array]
    rows: Array | None = None
    terms: int = 0
    name: str = ""

    @property
    def noise(self) -> float:
        """The noise floor, over the rows that mean something."""
        own = self.orbit[0]
        usual = np.isfinite(own.astype(np.float64))
        if self.rows is not None:
            usual = usual & self.rows
        members = [np.where(usual, member.astype(np.float64), 0.0) for member in self.orbit]
        return noise_floor(members, np.where(usual, self.oracle, 0.0), own.dtype)

    @property
    def farthest(self) -> Array:
        """The member of the orbit, besides the first, that is farthest from the oracle."""
        return max(self.orbit[1:], key=lambda x: dataclasses.replace(self, orbit=[self.orbit[0], x]).noise)

    def judge(self, value: Any) -> Verdict:
        """The verdict on a backend's value of this array."""
        verdict = judge(value, self.oracle, self.orbit, self.rows, self.terms)
        return _noted(verdict, value, noise=verdict.noise)

    def only(self, rows: Array) -> "Reference":
        """The same reference, but only where `rows`, a mask that broadcasts to the array's shape, is true."""
        return dataclasses.replace(self, rows=rows if self.rows is None else rows & self.rows)

    def then(self, function: Callable[[Array], Array]) -> "Reference":
        """The reference of a function of this array."""
        return dataclasses.replace(self, oracle=function(self.oracle), orbit=[function(x) for x in self.orbit])


def identical(value: Any, expected: Any, rows: Array | None = None) -> Verdict:
    """The verdict on two results that a law says are the same bit for bit (NaN equals NaN), where rows is true."""
    return _noted(_identical(value, expected, rows), value, expected)


def _identical(value: Any, expected: Any, rows: Array | None) -> Verdict:
    value, expected = np.asarray(value), np.asarray(expected)
    if value.shape != expected.shape or value.dtype != expected.dtype:
        return refused(f"{value.dtype} {value.shape}, expected {expected.dtype} {expected.shape}")
    wide, expected_wide = value.astype(np.float64), expected.astype(np.float64)
    alike = same_places(wide, expected_wide)
    alike |= False if rows is None else ~np.broadcast_to(rows, value.shape)
    if alike.all():
        return Verdict(True, 0.0, 0.0, 0.0, (), 0.0, 0.0)
    where = tuple(int(i) for i in np.argwhere(~alike)[0])
    one, other = float(wide[where]), float(expected_wide[where])
    return refused(f"{one!r} ({_hex(one)}) at {where}, expected the same bits as {other!r} ({_hex(other)})")


def equal(value: Any, expected: Any) -> Verdict:
    """The verdict on two plain values, such as texts or lists of ids, that a law says are equal."""
    return _noted(_equal(value, expected), value, expected)


def _equal(value: Any, expected: Any) -> Verdict:
    if value == expected:
        return Verdict(True, 0.0, 0.0, 0.0, (), 0.0, 0.0)
    if isinstance(value, list | tuple | str) and isinstance(expected, type(value)):
        place = next((i for i, (one, other) in enumerate(zip(value, expected, strict=False)) if one != other), None)
        place = min(len(value), len(expected)) if place is None else place
        return refused(f"{reprlib.repr(value[place:])} from {place} on, expected {reprlib.repr(expected[place:])}")
    return refused(f"{reprlib.repr(value)}, expected {reprlib.repr(expected)}")


def close(
    value: Any, expected: Any, noise: float, dtype: np.dtype, rows: Array | None = None, size: float = 0.0
) -> Verdict:
    """The verdict on two results that a law says are equal in exact arithmetic, both computed in dtype.

    noise: the sum of the noise floors of the results that the two were computed from, as each may err by its floor.
    size: the largest number that was summed to compute them, if larger than they are. NaN and infinity must stand in
    the same places.
    """
    return _noted(_close(value, expected, noise, dtype, rows, size), value, expected, noise)


def _close(value: Any, expected: Any, noise: float, dtype: np.dtype, rows: Array | None, size: float) -> Verdict:
    value, expected = np.asarray(value).astype(np.float64), np.asarray(expected).astype(np.float64)
    if value.shape != expected.shape:
        return refused(f"shape {value.shape}, expected {expected.shape}")
    if not value.size:
        return Verdict(True, 0.0, noise, 0.0, (), 0.0, 0.0)
    kept = np.ones(value.shape, bool) if rows is None else np.broadcast_to(rows, value.shape)
    special = kept & ~(np.isfinite(value) & np.isfinite(expected))
    wrong = special & ~same_places(value, expected)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        return refused(f"{value[where]} at {where}, expected {expected[where]}")
    usual = kept & ~special
    value, expected = np.where(usual, value, 0.0), np.where(usual, expected, 0.0)
    unit = ulp(np.maximum(np.abs(value), size), dtype) + ulp(np.maximum(np.abs(expected), size), dtype)
    error = np.abs(value - expected)
    allowed = NOISE_FACTOR * noise + ULP_TERM * unit
    where = tuple(int(i) for i in np.unravel_index(np.argmax(error / allowed), error.shape))
    return Verdict(
        bool((error <= allowed).all()),
        float(error[where]),
        noise,
        float(unit[where]),
        where,
        float(value[where]),
        float(expected[where]),
    )


def same_places(value: Array, expected: Array) -> Array:
    """Where two float64 arrays are equal, or both NaN."""
    return (value == expected) | np.isnan(value) & np.isnan(expected)
