"""The search: which known mistake gives the results that were found, on every case?"""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gpt2.backends import Backend
from parity.cases.cases import Case
from parity.check import Rule, SearchResult, rules
from parity.diagnosis.diagnose import blame_stages
from parity.diagnosis.functions_run import Place, drawn
from parity.diagnosis.shrink import breaks
from parity.explanation.candidates import Candidate, blamed_first, can_change, candidates_for, reached_by
from parity.explanation.families import every_choice, families, numbered
from parity.explanation.questions import NOT_OFFERED, OfComparison, OfLaw, Question, outcome, truth_of
from parity.explanation.stage_alone import OfStage, role
from parity.mutants.mistake import Explanation, Mistake
from parity.verdict.trial import Trial

# How many seconds a search may take for a function, and for what runs whole models.
SECONDS, SECONDS_OF_MODELS = 10.0, 60.0
TRAINED = 3  # cases of a rule that trains, each of which takes seconds
TELLING = 6  # cases besides the failing one that may tell a number
BLAMED = 4  # cases besides the failing one in which stages are looked at alone


def explain(
    rule: Rule,
    result: SearchResult,
    backend: Backend,
    examples: int = 25,
    start: int = 0,
    seconds: float | None = None,
) -> Explanation | None:
    """The known mistakes that explain a failure; None if there is no failure, or it cannot be run again.

    examples, start: the cases that count, as in the search. seconds: how long to look at most.
    """
    case = result.failing_case
    if result.agrees or case is None or result.fatal:
        return None
    if rule.compiled:
        rule, backend = rules()[rule.name.removeprefix("compiled.")], getattr(backend, "compiled", backend)
    limit = (SECONDS_OF_MODELS if _is_of_models(rule) else SECONDS) if seconds is None else seconds
    compared = _comparison_of(rule, Trial(case, backend))
    return Search(compared, backend, case, examples, start, time.monotonic() + limit).explain(result.places)


def name_the_bug(rule: Rule, result: SearchResult, backend: Backend, examples: int, start: int) -> None:
    """Store in a result what explains it. A wrong backend may raise anything when it runs again: then nothing does."""
    with contextlib.suppress(Exception):
        result.explained = explain(rule, result, backend, examples, start)


def _is_of_models(rule: Rule) -> bool:
    of_model = any(item.name == "params" for item in rule.contract.inputs)
    return of_model or rule.trains or rule.generates or bool(rule.group)


def _comparison_of(rule: Rule, trial: Trial) -> Rule:
    """The comparison of the function that a law is about, if that fails too: it shows more than the law does."""
    if not rule.is_law or rule.group:
        return rule
    compared = rules().get(rule.contract.function)
    return compared if compared is not None and breaks(compared, trial, breakdown=True) else rule


@dataclasses.dataclass
class Standing:
    """A candidate that agrees so far: on how many cases, and on how many of them it is not the reference."""

    candidate: Candidate
    cases: int = 0
    differs: int = 0


class Search:
    """The search for one failure, until a moment in time (of time.monotonic)."""

    def __init__(self, rule: Rule, backend: Backend, case: Case, examples: int, start: int, end: float) -> None:
        self.rule, self.backend, self.case, self.end = rule, backend, case, end
        self._examples, self._start = min(examples, TRAINED) if rule.trains else examples, start
        self.not_tried = 0

    def explain(self, places: Iterable[str]) -> Explanation:
        """What explains the whole result, or, if nothing does, each of the stages that are wrong by themselves."""
        reached = reached_by(self.rule, Trial(self.case, self.backend))
        candidates = candidates_for(self.backend, reached, places)
        kind = OfComparison if self.rule.judge is Trial.compare else OfLaw
        known = [each for each in candidates if each in _known_of(self.backend)]
        if known:  # what explains another failure of this backend is the likeliest
            standing = self.survivors(known, kind)
            if standing:
                return Explanation((mistake(standing),), len(known))
        standing = self.survivors(candidates, kind)
        if not standing:
            kindred = can_change([*every_choice(), *self._numbered(kind, reached)], reached)
            standing, candidates = self.survivors(kindred, kind), [*candidates, *kindred]
        found = [mistake(standing)] if standing else self._stages(candidates)
        _known_of(self.backend).extend(each.candidate for each in standing)
        return Explanation(tuple(found), len(candidates) - self.not_tried, self.not_tried)

    def _numbered(self, kind: type[Question[Any]], reached: set[Place]) -> list[Candidate]:
        """The mistakes with a number, as it is estimated from the failing case, or else from one that tells it."""
        if kind is not OfComparison:
            return []
        cases = [(self.case, {}), *drawn(self.rule.name, self.backend, self._examples, self._start)[:TELLING]]
        question, found = kind(self.rule, self.backend, cases), list[Candidate]()
        for family in families(self.rule.contract.function):
            stands_for = Candidate(family.name, family.story, family.edits)
            for index, trial in enumerate(question.trials):
                values = question.found(index)
                if time.monotonic() > self.end or isinstance(values, str) or not can_change([stands_for], reached):
                    break
                made = outcome(lambda at=trial, x=values, of=family: list(numbered(of, at, x, truth_of(at))))
                if made and not isinstance(made, str):
                    found += made
                    break
        return found

    def _stages(self, candidates: Sequence[Candidate]) -> list[Mistake]:
        """What explains the stages that are wrong by themselves, each alone; stages of one mistake together."""
        found: dict[Candidate, tuple[list[Standing], list[str]]] = {}
        for name, case in self._wrong_stages().items():
            others = [each for each in candidates if each not in found]
            standing = self.survivors([*found], OfStage.named(name), case) or self.survivors(
                blamed_first(others, [name]), OfStage.named(name), case
            )
            if standing:
                found.setdefault(standing[0].candidate, (standing, []))[1].append(name)
        return [mistake(standing, ", ".join(names)) for standing, names in found.values()]

    def _wrong_stages(self) -> dict[str, Case]:
        """The stages that are wrong by themselves, each with a case that shows it: one head may hide what heads do."""
        found: dict[str, Case] = {}
        if self.rule.is_law:
            return found
        others = drawn(self.rule.name, self.backend, self._examples, self._start)[:BLAMED]
        for case, memory in [(self.case, {}), *others]:
            with contextlib.suppress(Exception):  # whatever a wrong backend raises
                for stage in blame_stages(Trial(case, self.backend, memory)) or []:
                    if not stage.alone.agrees:
                        found.setdefault(role(stage.name), case)
        return found

    def survivors(
        self, candidates: Sequence[Candidate], kind: type[Question[Any]], case: Case | None = None
    ) -> list[Standing]:
        """The candidates that agree with all that was found, on fresh cases too if more than one is left.

        case: the one to begin with, on which most fall (default: the failing one).
        """
        standing = [Standing(candidate) for candidate in candidates]
        for standing in self._rounds(standing, kind, case or self.case):
            if not standing:
                break
        return [each for each in standing if each.differs]

    def _rounds(self, standing: list[Standing], kind: type[Question[Any]], case: Case) -> Iterator[list[Standing]]:
        """What is left after every case."""
        first = kind(self.rule, self.backend, [(case, {})])
        left = []
        for number, each in enumerate(standing):
            if number and time.monotonic() > self.end:
                self.not_tried = max(self.not_tried, len(standing) - number)
                break
            left += [each] * self._stands(each, first, 0)
        yield left
        for fresh in (0, 1):
            if not left or (fresh and len(left) < 2):
                return
            cases = drawn(self.rule.name, self.backend, self._examples, self._start + fresh)
            question = kind(self.rule, self.backend, cases)
            for index in range(len(cases)):
                if time.monotonic() > self.end or question.found(index) == NOT_OFFERED:
                    continue
                left = [each for each in left if self._stands(each, question, index)]
                yield left
                if not left:
                    return

    @staticmethod
    def _stands(each: Standing, question: Question[Any], index: int) -> bool:
        agrees, differs = question.answer(each.candidate, index)
        each.cases, each.differs = each.cases + agrees, each.differs + (agrees and differs)
        return agrees


_known: dict[str, Any] = {"backend": None, "mistakes": []}  # of one backend: not every one can be hashed


def _known_of(backend: Backend) -> list[Candidate]:
    """What explained earlier failures of this backend; only the last backend's are kept."""
    if _known["backend"] is not backend:
        _known.update(backend=backend, mistakes=[])
    found: list[Candidate] = _known["mistakes"]
    return found


def mistake(standing: list[Standing], stage: str = "") -> Mistake:
    """The first of these candidates, which were put in order before, with the names of the others."""
    first, *others = standing
    return Mistake(
        first.candidate.name,
        first.candidate.story,
        first.cases,
        first.differs,
        first.candidate.changes,
        tuple(dict.fromkeys(each.candidate.name for each in others)),
        stage,
        first.candidate.number,
    )
