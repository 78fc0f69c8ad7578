"""A known mistake as a reference: its exact results, its own rounding noise, and the project's one rule."""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.cases.cases import case_axes
from parity.explanation.candidates import Candidate
from parity.verdict import orbit
from parity.verdict.agreement import FLOAT64_ALIKE
from parity.verdict.trial import OrbitRuns, Trial, as_float64, leaves, result_axes, run
from parity.verdict.verdict import NOISE_FACTOR, PLAIN, ULP_TERM, Reference, oracle_in_range, ulp

Array = NDArray[Any]
FLOAT64 = np.dtype(np.float64)
HIDDEN = 1e300  # what hides a score in float64 is no measure of the others


class Alternative(OrbitRuns):
    """The runs of a mistake on one case; `truth` are the reference's results for it.

    A mistake need not be invariant: only axes are permuted of which the order proves, in float64, to change nothing. A
    mistake that is one of rounding alone is right in float64: there its own run, in the dtype asked for, is the centre.
    """

    def __init__(
        self, trial: Trial, candidate: Candidate, truth: list[Reference], accuracy: Mapping[str, float]
    ) -> None:
        self._trial, self._candidate, self._accuracy, self._truth = trial, candidate, accuracy, truth
        self._observing = candidate.module("reference.stages").observing
        self._exact, self._rounded = candidate.backend("float64"), candidate.backend(trial.backend.dtype)
        self._letters: set[str] | None = None
        with np.errstate(all="ignore"):
            super().__init__(self._results(as_float64(trial.arguments), FLOAT64, self._exact))
            self.own = self._member(0, frozenset())
        self._runs = [[x] for x in self.own]
        if self._is_of_rounding():
            self._oracle = [x.astype(np.float64) if x.dtype.kind not in "iub" else x for x in self.own]

    def references(self, most: int) -> list[Reference]:
        """The reference of every array, with orbits of at most `most` members."""
        rows = (
            [known.rows for known in self._truth] if len(self._truth) == len(self._oracle) else [None] * len(self.own)
        )
        return [Reference(*found) for found in zip(self._oracle, self.runs(most), rows, strict=True)]

    def agrees(self, values: list[Array]) -> bool:
        """Whether these are the results of the mistake, by the one rule."""
        if len(values) != len(self.own) or (not self._candidate.switch and self._is_far(values)):
            return False
        for most in (orbit.FEWEST, orbit.MEMBERS, orbit.SAMPLES):
            found = [known.judge(x) for known, x in zip(self.references(most), values, strict=True)]
            if all(verdict.agrees for verdict in found):
                return True
            if any(verdict.is_plain for verdict in found) and not self._candidate.switch:
                return False
        return False

    def differs(self) -> bool:
        """Whether the mistake shows on this case: its result is not the reference's."""
        if len(self.own) != len(self._truth):
            return True
        return not all(known.judge(x).agrees for known, x in zip(self._truth, self.own, strict=True))

    def distance(self, values: list[Array]) -> float:
        """How far values are from the exact results."""
        return _distance(values, self._oracle)

    def is_as_far(self, values: list[Array]) -> bool:
        """Whether values are as far from the reference as the candidate's own: nearer to it, or half as far at least.

        Where much is rounded, noise is so large that right values are within it, and those of a small mistake.
        """
        truth = [known.oracle for known in self._truth]
        of_values = _distance(values, truth)
        own = min(_distance([runs[i] for runs in self._runs], truth) for i in range(len(self._runs[0])))
        return self.distance(values) < of_values or of_values >= own / 2

    def member(self, member: int) -> list[Array]:
        if self._letters is None:
            self._letters = self._free_letters()
        return self._member(member, frozenset(self._letters))

    def _member(self, member: int, letters: frozenset[str]) -> list[Array]:
        dtype, case = self._trial.dtype, self._trial.case
        with self._observing(orbit.inexact(self._accuracy, case, member)), self._candidate.member(case.seed, member):
            return self._results(self._trial.arguments, dtype, self._rounded, self._orders(member, letters))

    def _orders(self, member: int, letters: frozenset[str] | set[str]) -> orbit.Permutations:
        return {x: order for x, order in orbit.permutations(self._trial.case, member).items() if x in letters}

    def _results(
        self, arguments: dict[str, Any], dtype: np.dtype, backend: Any, orders: orbit.Permutations | None = None
    ) -> list[Array]:
        """The results on permuted arguments, permuted back."""
        case = self._trial.case
        if not orders:
            return list(leaves(run(case, backend, arguments), dtype))
        axes = case_axes(case)
        permuted = {name: orbit.permute(x, axes.get(name), case, orders) for name, x in arguments.items()}
        returned = list(leaves(run(case, backend, permuted), dtype))
        results = result_axes(case, len(returned))
        return [orbit.undo(x, letters, case, orders) for x, letters in zip(returned, results, strict=True)]

    def _free_letters(self) -> set[str]:
        """The axes of which the order changes nothing."""
        every = set(orbit.permutations(self._trial.case, 1))
        if not every or self._candidate.switch or self._is_invariant(every):
            return every
        return {letter for letter in every if self._is_invariant({letter})}

    def _is_invariant(self, letters: set[str]) -> bool:
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            again = self._results(as_float64(self._trial.arguments), FLOAT64, self._exact, self._orders(1, letters))
            first = self._results(as_float64(self._trial.arguments), FLOAT64, self._exact)
            return all(_alike(x, y) for x, y in zip(first, again, strict=True))
        return False

    def _is_of_rounding(self) -> bool:
        """Whether the mistake is none in exact arithmetic, as far as this case shows."""
        return len(self._truth) == len(self._oracle) and all(
            known.oracle.shape == x.shape and _within(known, x)
            for known, x in zip(self._truth, self._oracle, strict=True)
        )

    def _is_far(self, values: list[Array]) -> bool:
        """Whether values are so far away that no noise brings them near: most mistakes are ruled out here."""
        truth = [noise_of(known) for known in self._truth] if len(self._truth) == len(values) else [0.0] * len(values)
        for value, known, noise in zip(values, self.references(1), truth, strict=True):
            first = known.judge(value)
            if first.reason or first.error > PLAIN * (NOISE_FACTOR * max(first.noise, noise) + ULP_TERM * first.ulp):
                return True
        return False


def _distance(values: list[Array], others: list[Array]) -> float:
    """The distance of some arrays from others, as one vector, as far as all is finite."""
    total = 0.0
    for x, y in zip(values, others, strict=True):
        if x.dtype.kind not in "iub":
            difference = x.astype(np.float64) - y
            total += float(np.sum(difference[np.isfinite(difference)] ** 2))
    return math.sqrt(total)


def noise_of(known: Reference) -> float:
    """The noise floor of a reference; integers and booleans have none."""
    return 0.0 if known.orbit[0].dtype.kind in "iub" else known.noise


def _within(known: Reference, x: Array) -> bool:
    """Whether an exact result is the reference's, but for what rounding does to it."""
    own = known.orbit[0]
    if own.dtype.kind in "iub":
        return bool(np.array_equal(x, own))
    expected = oracle_in_range(np.nan_to_num(known.oracle), own.dtype)
    error = np.abs(oracle_in_range(np.nan_to_num(x), own.dtype) - expected)
    kept = np.isfinite(known.oracle) if known.rows is None else np.isfinite(known.oracle) & known.rows
    return bool((error <= NOISE_FACTOR * known.noise + ULP_TERM * ulp(expected, own.dtype))[kept].all())


def _alike(x: Array, y: Array) -> bool:
    if x.shape != y.shape or x.dtype.kind in "iub":
        return bool(np.array_equal(x, y))
    size = np.abs(x[np.abs(x) < HIDDEN]).max(initial=0.0)
    with np.errstate(invalid="ignore"):
        same = (np.abs(x - y) <= FLOAT64_ALIKE * size) | (x == y) | np.isnan(x) & np.isnan(y)
    return bool(same.all())
