"""What is asked of a candidate: are these its results? Of a comparison, of a law, and of one stage alone."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from parity.check import Rule
from parity.explanation.alternative import Alternative, noise_of
from parity.explanation.candidates import Candidate
from parity.verdict import orbit
from parity.verdict.steps import accuracy_of
from parity.verdict.trial import Trial
from parity.verdict.verdict import Claim, Reference, claims_made, close, equal, identical

Array = NDArray[Any]
Found = TypeVar("Found")
NOT_OFFERED = "not offered"


class Question(Generic[Found]):
    """One rule, and the trials in which a candidate has to give what their backend gave."""

    def __init__(self, rule: Rule, trials: Sequence[Trial]) -> None:
        self.rule, self.trials = rule, list(trials)
        self.distance = 0.0  # of what was found from the last candidate, where it is no mistake but coarse arithmetic
        self._found: dict[int, Found | str] = {}

    def found(self, index: int) -> Found | str:
        """What the backend gave on a case; if it raised an error, the name of that, or NOT_OFFERED."""
        if index not in self._found:
            self._found[index] = outcome(lambda: self.results(self.trials[index]))
        return self._found[index]

    def results(self, trial: Trial) -> Found:
        """What a trial's backend gives."""
        raise NotImplementedError

    def answer(self, candidate: Candidate, index: int) -> tuple[bool, bool]:
        """Whether a candidate gives what the backend gave on a case, and if so, whether that is evidence for it.

        It is where neither agrees with the reference: a correct value may lie in the noise of a mistake of rounding.
        """
        raise NotImplementedError


class OfComparison(Question[list[Array]]):
    """Are the arrays that a function returned those of the candidate?"""

    def results(self, trial: Trial) -> list[Array]:
        return trial.run()

    def answer(self, candidate: Candidate, index: int) -> tuple[bool, bool]:
        trial, found = self.trials[index], self.found(index)
        candidate.put_to(trial)
        made = outcome(lambda: Alternative(trial, candidate, truth_of(trial), accuracy_of(trial.backend)))
        if isinstance(made, str) or isinstance(found, str):
            return made == found, made == found
        agrees = outcome(lambda: made.agrees(found)) is True
        if agrees and candidate.switch:
            agrees, self.distance = not made.differs() or made.is_as_far(found), made.distance(found)
        return agrees, agrees and made.differs() and _is_wrong(found, trial.references())


def _is_wrong(values: list[Array], truth: list[Reference]) -> bool:
    """Whether values differ from the reference."""
    if len(values) != len(truth):
        return True
    return not all(known.judge(x).agrees for known, x in zip(truth, values, strict=True))


def truth_of(trial: Trial) -> list[Reference]:
    """The reference's results for a case."""
    return trial.with_members(orbit.MEMBERS).references()


Said = tuple[list[bool], list[Claim]]


class OfLaw(Question[Said]):
    """Does a law fail on the candidate by the same values, and hold by the same?"""

    def results(self, trial: Trial) -> Said:
        with claims_made() as claims:
            agreed = [verdict.agrees for verdict in self.rule.judge(trial.with_members(orbit.MEMBERS))]
        return agreed, claims

    def answer(self, candidate: Candidate, index: int) -> tuple[bool, bool]:
        trial, found = self.trials[index], self.found(index)
        candidate.put_to(trial)
        theirs = outcome(lambda: self.results(trial.on(candidate.backend(trial.backend.dtype))))
        if isinstance(found, str) or isinstance(theirs, str):
            return theirs == found, theirs == found
        if len(found[0]) != len(theirs[0]) or len(found[1]) != len(theirs[1]):
            return False, False
        if not found[1] and found[0] != theirs[0]:
            return False, False
        noise = self._noise(trial)
        pairs = zip(found[1], theirs[1], strict=True)
        return all(same(one, other, noise, trial.dtype) for one, other in pairs), not all(found[0])

    @staticmethod
    def _noise(trial: Trial) -> float:
        """How far results of the function that the law is about may stray on this case."""
        if not trial.case.contract.outputs:
            return 0.0
        return max((noise_of(known) for known in truth_of(trial)), default=0.0)


def same(one: Claim, other: Claim, noise: float, dtype: np.dtype) -> bool:
    """Whether two claims are about the same values: bits, or as near as their noise lets them be.

    noise: of numbers that should have had the same bits as others, and may differ between two engines.
    """
    allowed = noise if one.noise is None else max(one.noise, other.noise or 0.0)
    if one.noise is None and one.agrees != other.agrees:
        return False
    return _alike(one.value, other.value, allowed, dtype) and _alike(one.expected, other.expected, allowed, dtype)


def _alike(one: Any, other: Any, noise: float, dtype: np.dtype) -> bool:
    if not all(isinstance(x, np.ndarray | np.generic | float) for x in (one, other)):
        return equal(one, other).agrees if not _is_numeric(one) else bool(np.array_equal(one, other))
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind in "iubSUO" or other.dtype.kind in "iubSUO":
        return bool(identical(one, other).agrees) if one.dtype.kind not in "SUO" else bool(np.array_equal(one, other))
    return close(one, other, 2 * noise, dtype).agrees


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) or (
        isinstance(value, list | tuple) and any(isinstance(x, np.ndarray) for x in value)
    )


def outcome(run: Callable[[], Any]) -> Any:
    """What a call returns; if it raises an error, the name of that, or NOT_OFFERED."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return run()
    except NotImplementedError:
        return NOT_OFFERED
    except Exception as error:  # whatever a mistake raises
        return f"raises {type(error).__name__}"
