"""The search: which known mistake gives the results that were found, on every case?"""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from gpt2.backends import Backend
from parity import time_limits
from parity.cases.cases import Case
from parity.check import Rule, SearchResult, rules
from parity.diagnosis.diagnose import blame_stages
from parity.diagnosis.functions_run import Place, drawn
from parity.diagnosis.shrink import breaks
from parity.explanation.arithmetic import PROFILES
from parity.explanation.candidates import Candidate, blamed_first, can_change, candidates_for, reached_by
from parity.explanation.choices import every_choice
from parity.explanation.families import Family, families, numbered
from parity.explanation.questions import NOT_OFFERED, OfComparison, OfLaw, Question, outcome, truth_of
from parity.explanation.stage_alone import OfStage, role
from parity.mutants.mistake import Explanation, Mistake
from parity.verdict.trial import Trial
from parity.verdict.verdict import NOISE_FACTOR
from reference.config import GPT2Config, axis_sizes, nest

Array = NDArray[Any]
# How many seconds a search may take for a function, and for what runs whole models.
SECONDS, SECONDS_OF_MODELS = 10.0, 60.0
HIDES_ITS_BUG = "hides_its_bug"
TRAINED = 3  # cases of a rule that trains, each of which takes seconds
TELLING = 3  # cases besides the failing one that may tell a number
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
    trial = Trial(case, backend)
    compared, end = _comparison_of(rule, trial), time.monotonic() + time_limits.at_most(limit)
    return Search(compared, trial, end, examples, start).explain(result.places)


def explain_stages(
    backend: Backend, config: GPT2Config, parameters: Mapping[str, Array], ids: Array, wrong: Iterable[str]
) -> Explanation:
    """The known mistakes that explain stages of a model, "h.0.attn.q", that are wrong by themselves on ids (B, T)."""
    rule = rules()["model.sequence_classifier" if "score.weight" in parameters else "model.language_model"]
    sizes = axis_sizes(config) | dict(zip("BT", ids.shape, strict=True)) | {"S": ids.shape[1], "P": 0}
    absent = frozenset(item.name for item in rule.contract.inputs) - {"params", "ids"}
    case = Case(rule.contract, sizes, {"config": config}, absent, "none", "live", 0)
    arguments = {"params": nest(dict(parameters)), "ids": ids, "config": config}
    trial = Trial(case, backend, {"arguments": arguments})
    small = [Trial(case, backend, memory) for case, memory in drawn(rule.name, backend, TELLING, 0)[:TELLING]]
    reached = set().union(*(reached_by(rule, each) for each in small))  # of a large model, this would take minutes
    search = Search(rule, trial, time.monotonic() + SECONDS_OF_MODELS)
    candidates = candidates_for(backend, reached, ())
    found = search.of_stages({role(name): trial for name in wrong}, [*candidates, *can_change(every_choice(), reached)])
    return Explanation(tuple(found), len(candidates) - search.not_tried, search.not_tried)


def name_the_bug(rule: Rule, result: SearchResult, backend: Backend, examples: int, start: int) -> None:
    """Store in a result what explains it. A wrong backend may raise anything when it runs again: then nothing does.

    Nothing is said of a backend with the attribute HIDES_ITS_BUG: of an exercise, the reader has to find it.
    """
    if hasattr(backend, HIDES_ITS_BUG):
        return
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
    """A candidate that agrees so far: on how many cases, and on how many of them it is not the reference.

    distance: of coarse arithmetic, the sum of squares of how far the results are from its own.
    """

    candidate: Candidate
    cases: int = 0
    differs: int = 0
    distance: float = 0.0


class Search:
    """The search for what explains one failing trial, until a moment in time (of time.monotonic)."""

    def __init__(self, rule: Rule, failing: Trial, end: float, examples: int = 0, start: int = 0) -> None:
        self.rule, self.failing, self.backend, self.end = rule, failing, failing.backend, end
        self._examples, self._start = min(examples, TRAINED) if rule.trains else examples, start
        self._kind = OfComparison if rule.judge is Trial.compare else OfLaw
        self.not_tried = 0

    def others(self, fresh: int = 0) -> list[Trial]:
        """The other trials that count: those of the check, or as many fresh ones; none if no examples are asked for."""
        if not self._examples:
            return []
        cases = drawn(self.rule.name, self.backend, self._examples, self._start + fresh)
        return [Trial(case, self.backend, memory) for case, memory in cases]

    def explain(self, places: Iterable[str]) -> Explanation:
        """What explains the whole result, or, if nothing does, each of the stages that are wrong by themselves."""
        reached = reached_by(self.rule, self.failing)
        candidates = candidates_for(self.backend, reached, places)
        ways = can_change(PROFILES, reached) if self.backend.dtype == "float32" else []
        known = [each for each in [*ways, *candidates] if each in _known_of(self.backend)]
        standing = self.explained_by(known)  # what explains another failure of this backend is the likeliest
        if standing:
            return Explanation((mistake(standing),), len(known))
        standing = self.explained_by(candidates)
        if not standing:
            kindred = can_change([*every_choice(), *self._numbered(reached)], reached)
            standing, candidates = self.explained_by(kindred), [*candidates, *kindred]
        if not standing or _is_arithmetic(standing[0].candidate):  # last: what is coarse hides a small mistake
            standing, candidates = [*_nearest(self.explained_by(ways)), *standing], [*candidates, *ways]
        found = [mistake(standing)] if standing else self.of_stages(self._wrong_stages(), candidates)
        _known_of(self.backend).extend(each.candidate for each in standing)
        return Explanation(tuple(found), len(candidates) - self.not_tried, self.not_tried)

    def explained_by(self, candidates: Sequence[Candidate]) -> list[Standing]:
        """Those of the candidates that explain the whole result."""
        return self.survivors(candidates, self._kind)

    def _numbered(self, reached: set[Place]) -> list[Candidate]:
        """The mistakes with a number, as it is estimated from the failing case, or else from one that tells it."""
        found: list[Candidate] = []
        if self._kind is not OfComparison:
            return found
        question = OfComparison(self.rule, [self.failing, *self.others()[:TELLING]])
        for family in families(self.rule.contract.function):
            if not can_change([Candidate(family.name, family.story, family.edits)], reached):
                continue
            for index in range(len(question.trials)):
                made = _with_numbers(question, index, family)
                found += made
                if made or time.monotonic() > self.end:
                    break
        return found

    def of_stages(self, wrong: Mapping[str, Trial], candidates: Sequence[Candidate]) -> list[Mistake]:
        """What explains stages that are wrong by themselves, each alone; stages of one mistake together.

        wrong: the stages without their layers, "attn.q", each with a trial that shows it.
        """
        found: dict[Candidate, tuple[list[Standing], list[str]]] = {}
        for name, trial in wrong.items():
            others = [each for each in candidates if each not in found]
            standing = self.survivors([*found], OfStage.named(name), trial) or self.survivors(
                blamed_first(others, [name]), OfStage.named(name), trial
            )
            if standing:
                found.setdefault(standing[0].candidate, (standing, []))[1].append(name)
        return [mistake(standing, ", ".join(names)) for standing, names in found.values()]

    def _wrong_stages(self) -> dict[str, Trial]:
        """The stages that are wrong by themselves, each with a trial that shows it: one head may hide what heads do."""
        found: dict[str, Trial] = {}
        for trial in [] if self.rule.is_law else [self.failing, *self.others()[:BLAMED]]:
            with contextlib.suppress(Exception):  # whatever a wrong backend raises
                for stage in blame_stages(trial) or []:
                    if not stage.alone.agrees:
                        found.setdefault(role(stage.name), trial)
        return found

    def survivors(
        self, candidates: Sequence[Candidate], kind: type[Question[Any]], first: Trial | None = None
    ) -> list[Standing]:
        """The candidates that agree with all that was found, on fresh cases too if more than one is left.

        first: the trial to begin with, on which most fall (default: the failing one).
        """
        question, left = kind(self.rule, [first or self.failing]), list[Standing]()
        for number, candidate in enumerate(candidates):
            if number and time.monotonic() > self.end:
                self.not_tried = max(self.not_tried, len(candidates) - number)
                break
            standing = Standing(candidate)
            left += [standing] * self._stands(standing, question, 0)
        for fresh in (0, 1):
            if not left or (fresh and len(left) < 2):
                break
            question = kind(self.rule, self.others(fresh))
            for index in range(len(question.trials)):
                if time.monotonic() > self.end or question.found(index) == NOT_OFFERED:
                    continue
                left = [each for each in left if self._stands(each, question, index)]
        return [each for each in left if each.differs]

    @staticmethod
    def _stands(each: Standing, question: Question[Any], index: int) -> bool:
        agrees, differs = question.answer(each.candidate, index)
        each.cases, each.differs = each.cases + agrees, each.differs + (agrees and differs)
        each.distance += question.distance**2
        return agrees


def _nearest(ways: list[Standing]) -> list[Standing]:
    """Those as near as the noise of the nearest allows, that first: in what is coarser still, anything is noise."""
    least = min((each.distance for each in ways), default=0.0)
    near = [each for each in ways if each.distance <= NOISE_FACTOR**2 * least]
    return sorted(near, key=lambda each: each.distance)


def _is_arithmetic(mistake: Candidate) -> bool:
    """Whether a mistake is one of dtypes: it may have been meant so."""
    return any("float16" in edit.new for edit in mistake.edits)


def _with_numbers(question: OfComparison, index: int, family: Family) -> list[Candidate]:
    """The candidates of a family with the number that one trial tells; [] if it tells none."""
    trial, values = question.trials[index], question.found(index)
    if isinstance(values, str):
        return []
    made = outcome(lambda: list(numbered(family, trial, values, truth_of(trial))))
    return [] if isinstance(made, str) else made


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
        first.candidate.switch,
    )
