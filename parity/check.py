"""Run the judge: draw test cases for a rule, run a backend on them, keep the worst, shrink a failure.

A rule is either a comparison with the reference, "ops.layer_norm", or a law, "laws.causality".
"""

import contextlib
import dataclasses
import functools
import itertools
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky

from gpt2.backends import Backend, numpy_dtype
from gpt2.errors import described
from parity import time_limits
from parity.cases.cases import LARGE, Case, cases, resized
from parity.cases.contracts import SEEDED, Contract, contracts, engine_contracts
from parity.cases.supports import EVERYTHING, MODERATE, Supports
from parity.laws import LAWS
from parity.mutants.mistake import Explanation
from parity.verdict import training_band
from parity.verdict.trial import Trial, decide, other_numbers
from parity.verdict.verdict import Verdict
from reference.config import ACTIVATIONS


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
    compiled: bool = False
    """Whether it judges the compiled form of a backend that runs op by op: the same rule, on few shapes."""

    @property
    def is_law(self) -> bool:
        """Whether it needs no reference."""
        return "laws" in self.name.split(".")

    @property
    def group(self) -> str:
        """The name of the laws that it belongs to, besides "laws", if they are about no function of the mirror."""
        return self.contract.function if self.contract.function in SEEDED else ""

    @property
    def learns(self) -> bool:
        """Whether it is about training: gradients, updates or whole runs."""
        return self.trains or self.contract.function.endswith("_vjp") or self.name.startswith(("optim.", "train."))

    @property
    def is_cheap(self) -> bool:
        """Whether its cases take milliseconds, and what is hard to get right comes up in few of them."""
        file, _, name = self.contract.function.partition(".")
        return file == "generate" or name == "last_tokens" or name.removesuffix("_fast") in ACTIVATIONS


@dataclasses.dataclass
class SearchResult:
    """The result for one rule: the number of cases, the worst of them, and the smallest counterexample.

    not_offered: how many more cases the backend refused to run, by what it said. fatal: whether the failure ended the
    backend's process, or hung until its limit: then each further run costs a start, or that limit. places: the stage or
    the functions that are blamed. explained: the known mistakes that give these results.
    """

    function: str
    cases: int = 0
    worst: Verdict | None = None
    worst_case: Case | None = None
    failure: Verdict | None = None
    failing_case: Case | None = None
    error: str = ""
    fatal: bool = False
    not_offered: Counter[str] = dataclasses.field(default_factory=Counter)
    errors: list[float] = dataclasses.field(default_factory=list)
    blame: str = ""
    places: tuple[str, ...] = ()
    script: str = ""
    explained: Explanation | None = None

    @property
    def agrees(self) -> bool:
        """Whether every case agreed."""
        return self.failure is None and not self.error

    @property
    def offered(self) -> bool:
        """Whether the backend ran a case, or refused none."""
        return bool(self.cases) or not self.not_offered

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


# Rules that are put to the compiled form of a backend too: what users run.
COMPILED = (
    "engine.logits",
    "engine.cached",
    "engine.classify",
    "training.language_model",
    "training.sequence_classifier",
    "laws.a_run_goes_on_where_it_was_left",
    "laws.the_first_step_of_adamw_has_the_length_of_the_rate",
)
# In how many shapes it is judged, at most: every one is compiled; and every trainer is, which takes longer.
COMPILED_SHAPES, COMPILED_TRAINERS = 3, 2


def compiled_rules() -> dict[str, Rule]:
    """The rules for a backend's attribute `compiled`, the same backend with its functions compiled."""

    def of_compiled(judge: Callable[[Trial], Iterable[Verdict]]) -> Callable[[Trial], Iterable[Verdict]]:
        def put(trial: Trial) -> Iterable[Verdict]:
            compiled = getattr(trial.backend, "compiled", None)
            if compiled is None:
                raise NotImplementedError("compiled")
            return judge(trial.on(compiled))

        return put

    return {
        f"compiled.{name}": dataclasses.replace(
            rules()[name], name=f"compiled.{name}", judge=of_compiled(rules()[name].judge), compiled=True
        )
        for name in COMPILED
    }


def select(names: Iterable[str] = (), backend: Backend | None = None) -> dict[str, Rule]:
    """The rules of these functions, files or groups of laws ("layer_norm", "ops.layer_norm", "ops", "laws", "data").

    Without a name, all of them. backend: if it has a compiled form, "compiled" are the rules for that; if it has a
    method `offers`, only rules of functions that it offers are chosen, if there are any.
    Raises KeyError for an unknown name.
    """
    every = rules() | (compiled_rules() if hasattr(backend, "compiled") else {})
    chosen: dict[str, Rule] = {}
    for name in names:
        found = {r: rule for r, rule in every.items() if name in (r, *r.split("."), rule.group or r)}
        if not found:
            raise KeyError(name)
        chosen |= found
    # Of a port, rules about something else are left out, unless nothing else is asked for.
    offers = getattr(backend, "offers", None)
    about = {
        name: rule
        for name, rule in (chosen or every).items()
        if offers is None
        or (offers(rule.contract.function) and not rule.trains and (not rule.generates or offers("engine.cached")))
    }
    return about or chosen


# Hypothesis begins with the simplest case there is, whatever the seed: every size 1, every option the first. It tells
# little, and of few examples it would be a large part; among many, sizes of 1 come up by themselves.
SIMPLEST = 1
# Of the examples asked for, how many a rule that trains is tried on: each of its cases is a course of many steps.
SHARE_OF_TRAINING = 3
# How many times as many a cheap one is, whose cases take milliseconds: of a function of generation few cases have what
# ends, ties or is forbidden; of an activation few are of one number, whose noise no larger one covers; of the last
# tokens few have a pad that only its id tells. A law calls the function several times in a case.
TIMES_WHERE_CHEAP, TIMES_OF_CHEAP_LAWS = 12, 4
REFUSALS = 12  # after so many, and no case that was judged, a rule is not offered
# How many of the cases that come closest to an objection are looked at again, to say which comes closest.
CLOSEST = 3
# How often a graph is given other numbers, of the same shapes and options: to compile it takes a hundred times as long.
FILLINGS = 4


def check_at_its_cost(rule: Rule, backend: Backend, examples: int, start: int, seconds: float = 0.0) -> SearchResult:
    """Judge a backend by one rule on about `examples` cases: fewer where one takes long, more where they are cheap.

    seconds: how long to go on after that with more random cases, counted from the beginning.
    """
    more = 0
    if rule.trains:
        examples = -(-examples // SHARE_OF_TRAINING)
    elif rule.is_cheap and backend.mode != "graph":
        more = ((TIMES_OF_CHEAP_LAWS if rule.is_law else TIMES_WHERE_CHEAP) - 1) * examples
    return check_rule(rule, backend, examples, start, more=more, seconds=seconds)


def check_rule(
    rule: Rule,
    backend: Backend,
    examples: int = 25,
    start: int = 0,
    watch: Callable[[Verdict, Case], Any] | None = None,
    fillings: int | None = None,
    more: int = 0,
    seconds: float = 0.0,
    closest: int = CLOSEST,
) -> SearchResult:
    """Judge a backend by one rule on at least `examples` random cases; start is the random seed.

    fillings: how many of the cases have the same shapes and options, and other numbers (default: FILLINGS where graphs
    are compiled, else 1). watch is called with every verdict. Cases tried while shrinking a failure are not counted.
    more: how many cases are drawn after these, each independent of all others, while Hypothesis varies what it has
    drawn. seconds: more of them until so many seconds have passed. closest: how many cases are looked at again to say
    which is the worst; this settles nothing else, so that 0 saves a fifth of the time for who does not ask.
    """
    begun = time.monotonic()
    if rule.compiled:
        shapes = min(COMPILED_TRAINERS if rule.trains else COMPILED_SHAPES, examples)
        fillings, examples = (1, shapes) if rule.trains else (-(-examples // shapes), examples)
    if fillings is None:  # what trains is compiled for every trainer
        fillings = min(FILLINGS, examples) if backend.mode == "graph" and not rule.trains else 1
    result, seen, ranked = SearchResult(rule.name), list[Case](), list[tuple[Verdict, Trial]]()
    contract, supports = offered_contract(rule, backend), Supports.of(backend)

    def is_refused() -> bool:
        return not result.cases and result.not_offered.total() >= REFUSALS

    def search(count: int, number: int = 0) -> None:
        called = itertools.count()

        @seed(start + _FURTHER * number)
        @settings(
            max_examples=SIMPLEST + count,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            report_multiple_bugs=False,
        )
        @given(cases(contract, numpy_dtype(backend.dtype), supports))
        def draw_and_judge(case: Case) -> None:
            if next(called) < SIMPLEST:
                return
            seen.append(case)
            for filling in range(fillings):
                put(other_numbers(case, filling))

        draw_and_judge()

    failed_at = 0.0

    def put(case: Case) -> None:
        nonlocal failed_at
        if is_refused() or (not result.agrees and time.monotonic() - failed_at > time_limits.of_a_step()):
            return
        result.cases += result.agrees
        failed_at = time.monotonic() if result.agrees else failed_at
        try:
            judge_one(case)
        except NotImplementedError as error:
            if result.agrees:  # what is tried while a failure shrinks does not count
                result.cases -= 1
                result.not_offered[said(error)] += 1
        except DisagreementError:
            raise
        except Exception as error:  # whatever the backend raises
            result.failing_case = case
            result.fatal = getattr(error, "fatal", False)
            missing = isinstance(error, AttributeError) and rule.contract.function.endswith(str(error))
            result.error = (
                f"the backend has no {rule.contract.function}"
                if missing
                else described(error, getattr(backend, "file", None))
            )
            raise DisagreementError(result.error) from error

    def judge_one(case: Case) -> None:
        trial = Trial(case, backend)
        for verdict in decide(rule.judge, trial):
            if watch is not None:
                watch(verdict, case)
            if not verdict.agrees and result.failure is not None and result.failure.is_plain and not verdict.is_plain:
                return  # a smaller case, but weaker evidence
            if not verdict.agrees:
                result.failure, result.failing_case = verdict, case
                raise DisagreementError(verdict.explain())
            result.errors.append(verdict.severity)
            ranked.append((verdict, trial))
            if len(ranked) > closest:
                ranked.remove(min(ranked, key=lambda pair: pair[0].severity))

    with contextlib.suppress(DisagreementError, Flaky):  # the result holds it; Flaky: the backend is random
        search(-(-examples // fillings))
        for case in large_cases(rule, seen, supports)[: 1 if backend.mode == "graph" else None]:
            put(case)
        for number in itertools.count(1):
            if is_refused() or (number > more and time.monotonic() - begun >= seconds):
                break
            search(1, number)
    if result.failing_case in large_cases(rule, seen, supports):
        plain = result.failure is not None and result.failure.is_plain
        with contextlib.suppress(DisagreementError):
            put(_smallest(result.failing_case, lambda case: not agrees(rule, Trial(case, backend), plain)))
    if ranked and result.agrees:
        result.worst, result.worst_case = _worst(rule, ranked)
    return result


def _worst(rule: Rule, closest: list[tuple[Verdict, Trial]]) -> tuple[Verdict, Case]:
    """Which of these comes closest to an objection, by all forms of its input: a few have settled that it agrees.

    More forms only bring a case further from it, so those that are behind already are not looked at, nor those that
    are as far from it as can be.
    """
    ranked = sorted(closest, key=lambda pair: -pair[0].severity)
    again: list[tuple[Verdict, Trial]] = []
    for bound, trial in ranked[: 1 if rule.trains else None]:
        if not bound.severity or any(trial is other or verdict.severity >= bound.severity for verdict, other in again):
            continue
        with contextlib.suppress(Exception):  # a backend of chance may raise the second time
            again += [(verdict, trial) for verdict in rule.judge(trial) if verdict.agrees]
    worst, trial = max(again or ranked, key=lambda pair: pair[0].severity)
    return worst, trial.case


_FURTHER = 1_000_003  # from the seed of one search to that of the next


def verdicts(rule: Rule, trial: Trial) -> list[Verdict]:
    """A rule's verdicts up to the first disagreement; an exception of the backend breaks the rule.

    Empty if the backend does not offer what the rule needs.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):  # bugs overflow, and divide by zero
            warnings.simplefilter("ignore")
            return decide(rule.judge, trial)
    except NotImplementedError:
        return []
    except Exception as error:  # whatever a planted bug raises
        return [Verdict(False, 0.0, 0.0, 0.0, (), 0.0, 0.0, f"{type(error).__name__}: {error}")]


def agrees(rule: Rule, trial: Trial, plain: bool = False) -> bool:
    """Whether a rule objects to nothing; with `plain`, to nothing that is far more than rounding."""
    return not any(verdict.is_plain if plain else not verdict.agrees for verdict in verdicts(rule, trial))


def offered_contract(rule: Rule, backend: Backend) -> Contract:
    """The contract to draw cases for: dropout masks are for a backend that trains, or a function that needs them."""
    learns = getattr(backend, "trainer", None) is not None
    return rule.contract if learns or "keep" not in rule.contract.optional else rule.contract.without("keep")


# Files whose functions have branches for large inputs, or are made of such functions.
SIZED = ("ops", "activations", "attention", "model", "fast", "engine")


def large_cases(rule: Rule, drawn: list[Case], supports: Supports = EVERYTHING) -> list[Case]:
    """The first cases that a rule has drawn, in sizes beyond every threshold in the sources.

    There are two for a comparison, one for a law of engines or a rule that trains, none for other laws, for gradients,
    which follow the forward pass, or for the generation of text. Their options are those that are supported.
    """
    file, _, name = rule.contract.function.partition(".")
    of_others = rule.is_law and (file != "engine" or rule.trains)
    if rule.generates or file not in SIZED or name.endswith("_vjp") or of_others:
        return []
    sizes = LARGE[:1] if rule.is_law or rule.trains or rule.compiled else LARGE
    large = [_enlarged(case, number) for number, case in enumerate(drawn[: len(sizes)])]
    if rule.trains and large:  # of the few that are compiled, one has pads
        padding = "left" if large[0].padding == "none" else large[0].padding
        large = [dataclasses.replace(large[0], absent=large[0].absent - {"attention_mask"}, padding=padding)]
    return [_supported(case, supports) for case in large]


def _supported(case: Case, supports: Supports) -> Case:
    """The case with its options as they are supported."""
    if "config" in case.scalars:
        config = supports.config(case.config)
        scalars, sizes = case.scalars | {"config": config}, case.sizes | {"I": config.inner_size}
        case = dataclasses.replace(case, scalars=scalars, sizes=sizes)
    if case.padding not in supports.paddings([case.padding]) or "attention_mask" in supports.refused:
        case = dataclasses.replace(case, padding="none", absent=case.absent | supports.refused)
    return case if supports.regimes([case.regime]) else dataclasses.replace(case, regime=MODERATE)


def _enlarged(case: Case, number: int) -> Case:
    """The case in the sizes of that number, with the activation that has a form for large layers.

    The second has one layer, and rows far from zero where it has LayerNorms.
    """
    scalars, normed = case.scalars, "config" in case.scalars or "layer_norm" in case.contract.function
    if "config" in scalars:
        layers = 1 if number else min(2, case.config.n_layer)
        config = dataclasses.replace(case.config, activation_function="gelu_new", n_layer=layers)
        scalars = scalars | {"config": config}
    regime = "large offset" if number and normed else "live"
    return resized(dataclasses.replace(case, scalars=scalars, regime=regime), LARGE[number])


def _smallest(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The failing large case with every size as small as it still fails with, found by halving."""
    begun = time.monotonic()
    for letter in LARGE[0]:
        low, high = 0 if letter == "P" else 1, case.sizes[letter]
        while low < high:
            middle = (low + high) // 2
            smaller = resized(case, {letter: middle})
            if time.monotonic() - begun > time_limits.of_a_step():
                return case
            if fails(smaller):
                case, high = smaller, middle
            else:
                low = middle + 1
    return case


def said(error: Exception) -> str:
    """The first line of what an exception says, or what it is."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _EnoughError(Exception):
    """Raised to end a search that has drawn enough cases."""


def draw(
    rule: Rule,
    dtype: Any,
    examples: int,
    start: int = 0,
    first: int | None = None,
    supports: Supports = EVERYTHING,
) -> list[Case]:
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
    @given(cases(rule.contract, dtype, supports))
    def collect(case: Case) -> None:
        if next(called) < SIMPLEST:
            return
        drawn.append(case)
        if len(drawn) >= (first or examples + 1):
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        collect()
    return drawn[:first]


def draw_for(rule: Rule, backend: Backend, examples: int, start: int = 0) -> list[Case]:
    """The cases that a search draws for this backend: of its dtype, and none with what it does not offer."""
    offered = dataclasses.replace(rule, contract=offered_contract(rule, backend))
    return draw(offered, numpy_dtype(backend.dtype), examples, start, supports=Supports.of(backend))
