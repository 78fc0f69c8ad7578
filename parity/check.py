"""Run the judge: draw test cases for a rule, run a backend on them, keep the worst, shrink a failure.

A rule is either a comparison with the reference, "ops.layer_norm", or a law, "laws.causality".
"""

import contextlib
import dataclasses
import functools
import itertools
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from gpt2.backends import Backend, numpy_dtype
from parity.cases.cases import Case, cases
from parity.cases.contracts import SEEDED, Contract, contracts, engine_contracts
from parity.laws import LAWS
from parity.verdict import training_band
from parity.verdict.trial import Trial, decide
from parity.verdict.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Rule:
    """One check of a backend: cases are drawn for the contract, and `judge` gives the verdicts on each."""

    name: str
    contract: Contract
    judge: Callable[[Trial], Iterable[Verdict]] = Trial.compare
    trains: bool = False
    """Whether it trains models, in float32, which takes many times as long as any other rule."""
    generates: bool = False
    """Whether it generates text, which takes about ten times as long as scoring it."""

    @property
    def is_law(self) -> bool:
        """Whether it needs no reference."""
        return self.name.startswith("laws.")

    @property
    def group(self) -> str:
        """The name of the laws that it belongs to, besides "laws", if they are about no function of the mirror."""
        return self.contract.function if self.contract.function in SEEDED else ""

    @property
    def learns(self) -> bool:
        """Whether it is about training: gradients, updates or whole runs."""
        return self.trains or self.contract.function.endswith("_vjp") or self.name.startswith(("optim.", "train."))


@dataclasses.dataclass
class SearchResult:
    """The result for one rule: the number of cases, the worst of them, and the smallest counterexample."""

    function: str
    cases: int = 0
    worst: Verdict | None = None
    worst_case: Case | None = None
    failure: Verdict | None = None
    failing_case: Case | None = None
    error: str = ""
    offered: bool = True
    errors: list[float] = dataclasses.field(default_factory=list)
    blame: str = ""
    script: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every case agreed."""
        return self.failure is None and not self.error

    def to_dict(self) -> dict[str, Any]:
        """The same facts as a dict, fit for JSON."""
        shown = self.failure or self.worst
        case = self.failing_case or self.worst_case
        return {
            "function": self.function,
            "cases": self.cases,
            "agrees": self.agrees,
            "noise_ratio": None if shown is None else shown.noise_ratio,
            "ulps": None if shown is None else shown.ulps,
            "case": None if case is None else case.describe(),
            "explanation": self.error or ("" if shown is None else shown.explain()),
        }


class DisagreementError(AssertionError):
    """Raised inside a search, so that Hypothesis shrinks the case."""


@functools.cache
def rules() -> dict[str, Rule]:
    """Every rule by name: the comparisons in the order of the lesson, then the laws."""
    every = contracts() | engine_contracts()
    comparisons = {name: Rule(name, contract) for name, contract in every.items()}
    for head in ("language_model", "sequence_classifier"):
        name = f"training.{head}"
        comparisons[name] = Rule(name, every[f"model.{head}_loss"], training_band.judge_training, trains=True)
    every |= SEEDED
    plain = {name: contract.without("keep") for name, contract in every.items()}  # laws cut and pad the tokens
    laws = {
        f"laws.{law.name}": Rule(f"laws.{law.name}", plain[law.draws], law.holds, law.trains, law.generates)
        for law in LAWS
    }
    return comparisons | laws


def select(names: Iterable[str] = ()) -> dict[str, Rule]:
    """The rules of these functions, files or groups of laws ("layer_norm", "ops.layer_norm", "ops", "laws", "data").

    Without a name, all of them.
    Raises KeyError for an unknown name.
    """
    every = rules()
    chosen: dict[str, Rule] = {}
    for name in names:
        found = {r: rule for r, rule in every.items() if name in (r, *r.split("."), rule.group or r)}
        if not found:
            raise KeyError(name)
        chosen |= found
    return chosen or every


# Hypothesis begins with the simplest case there is, whatever the seed: every size 1, every option the first. It tells
# little, and of few examples it would be a large part; among many, sizes of 1 come up by themselves.
SIMPLEST = 1
# How often a graph is given other numbers, of the same shapes and options: to compile it takes a hundred times as long.
FILLINGS = 4


def check_rule(
    rule: Rule,
    backend: Backend,
    examples: int = 25,
    start: int = 0,
    watch: Callable[[Verdict, Case], Any] | None = None,
    fillings: int | None = None,
) -> SearchResult:
    """Judge a backend by one rule on at least `examples` random cases; start is the random seed.

    fillings: how many of the cases have the same shapes and options, and other numbers (default: FILLINGS where graphs
    are compiled, else 1). watch is called with every verdict. Cases tried while shrinking a failure are not counted.
    """
    if fillings is None:  # what trains is compiled for every trainer
        fillings = min(FILLINGS, examples) if backend.mode == "graph" and not rule.trains else 1
    result = SearchResult(rule.name)
    learns = getattr(backend, "trainer", None) is not None
    contract = rule.contract if learns else rule.contract.without("keep")  # only training needs dropout
    called = itertools.count()

    @seed(start)
    @settings(
        max_examples=SIMPLEST + -(-examples // fillings),
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(cases(contract, numpy_dtype(backend.dtype)))
    def search(case: Case) -> None:
        if next(called) < SIMPLEST:
            return
        for number in range(fillings):
            put(filled_anew(case, number))

    def put(case: Case) -> None:
        if not result.offered:
            return
        result.cases += result.agrees
        try:
            judge_one(case)
        except NotImplementedError:
            result.offered = False
        except DisagreementError:
            raise
        except Exception as error:  # whatever the backend raises
            result.failing_case = case
            missing = isinstance(error, AttributeError) and rule.contract.function.endswith(str(error))
            result.error = f"the backend has no {rule.contract.function}" if missing else describe(error)
            raise DisagreementError(result.error) from error

    def judge_one(case: Case) -> None:
        for verdict in decide(rule.judge, Trial(case, backend)):
            if watch is not None:
                watch(verdict, case)
            if not verdict.agrees:
                result.failure, result.failing_case = verdict, case
                raise DisagreementError(verdict.explain())
            result.errors.append(verdict.severity)
            if result.worst is None or verdict.severity > result.worst.severity:
                result.worst, result.worst_case = verdict, case

    with contextlib.suppress(DisagreementError, Flaky):  # the result holds it; Flaky: the backend is random
        search()
    if result.agrees and result.worst_case is not None:
        again = [verdict for verdict in rule.judge(Trial(result.worst_case, backend)) if verdict.agrees]
        result.worst = max(again, key=lambda verdict: verdict.severity)
    return result


def filled_anew(case: Case, number: int) -> Case:
    """The case with other numbers in the same shapes, for number 0 itself; a seed that is drawn is below a million."""
    return dataclasses.replace(case, seed=case.seed + 1_000_001 * number)


def describe(error: Exception) -> str:
    """The first line of an exception that a backend raised, and its place in the sources."""
    said = str(error).strip().splitlines()
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {said[0] if said else ''} ({Path(where.filename).name}:{where.lineno})"


class _EnoughError(Exception):
    """Raised to end a search that has drawn enough cases."""


def draw(rule: Rule, dtype: Any, examples: int, start: int = 0, first: int | None = None) -> list[Case]:
    """The cases that a search of `examples` examples by this rule draws; only the first `first` of them, if given.

    The cases drawn depend on `examples`.
    """
    drawn: list[Case] = []
    called = itertools.count()

    @seed(start)
    @settings(
        max_examples=SIMPLEST + examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(cases(rule.contract, dtype))
    def collect(case: Case) -> None:
        if next(called) < SIMPLEST:
            return
        drawn.append(case)
        if len(drawn) >= (first or examples + 1):
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        collect()
    return drawn[:first]
