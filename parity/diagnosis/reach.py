"""Which functions run when a rule judges a backend, and which of them is wrong by itself."""

import contextlib
import dataclasses
import functools
import inspect
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np

from gpt2.backends import Backend, NumPyBackend, numpy_dtype
from parity.cases.cases import Case
from parity.check import Rule, draw, rules
from parity.verdict.trial import Memory, Trial, decide
from parity.verdict.verdict import Verdict

Place = tuple[str, str]  # a file, "reference/ops.py", and the name of a function in it; "" outside of all
# Cases, beside the failing one, on which a function is judged by its own rule; a graph is compiled for each.
OWN_CASES, OWN_GRAPHS = 6, 2


def reach(rule: Rule, trials: list[Trial]) -> set[Place]:
    """The functions that run when a rule judges a backend, and code outside of functions."""
    for trial in trials:
        verdicts(rule, trial)  # then the trial's memory holds the reference's results
    reached = {place for trial in trials for place, _ in _codes(rule, trial)}
    return reached | {(file, "") for file, _ in reached}


def _codes(rule: Rule, trial: Trial) -> Iterator[tuple[Place, CodeType]]:
    """The code of the backend's sources that runs when a rule judges it, and has judged it before."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        verdicts(rule, trial)
    finally:
        sys.setprofile(None)
    root = Path(trial.backend.sources).parent
    for code in codes:
        if Path(code.co_filename).is_relative_to(root):
            yield (Path(code.co_filename).relative_to(root).as_posix(), code.co_name), code


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


def agrees(rule: Rule, trial: Trial) -> bool:
    """Whether a rule objects to nothing."""
    return all(verdict.agrees for verdict in verdicts(rule, trial))


@dataclasses.dataclass
class Walk:
    """The functions judged by their own rules, innermost first. verdict: that on the last, if it is wrong by itself."""

    judged: list[str] = dataclasses.field(default_factory=list)
    verdict: Verdict | None = None


def walk(rule: Rule, trial: Trial) -> Walk:
    """Judge every function that a failing case runs by its own rule, callees before callers, up to the first failure.

    Each on the failing case's sizes and options, if they fit, then on cases of its own.
    """
    done = Walk()
    for other in reached_rules(rule, trial):
        done.judged.append(other.name)
        for each in [trial] if other == rule else _own_trials(other, trial):
            done.verdict = next((verdict for verdict in verdicts(other, each) if not verdict.agrees), None)
            if done.verdict is not None:
                return done
    return done


def reached_rules(rule: Rule, trial: Trial) -> list[Rule]:
    """The rules of the functions that run when a rule judges a trial, in the order of the lesson.

    They run in the backend, if it names its sources, or when the same rule judges NumPy: each function of the mirror
    stands for its twin. A graph hides what it calls: there, the names that the code around it mentions count too.
    """
    backends: list[Backend] = [NumPyBackend(dtype=trial.backend.dtype)]
    if getattr(trial.backend, "sources", NumPyBackend.sources) != NumPyBackend.sources:
        backends.append(trial.backend)
    verdicts(rule, trial)  # then the trial's memory holds the reference's results
    ran = [found for backend in backends for found in _codes(rule, trial.on(backend))]
    places = {(Path(file).stem, name) for (file, name), _ in ran}
    hidden = trial.backend.mode == "graph"
    words = {word for _, code in ran for word in _words(code)} if hidden else set()
    reached = []
    for each in reversed(_comparisons()):  # callers first: a graph's functions mention those that they call
        if each == rule or _place(each) in places or _place(each)[1] in words:
            reached.append(each)
            words |= _words(inspect.unwrap(each.contract.target).__code__) if hidden else set()
    return reached[::-1]


def _comparisons() -> list[Rule]:
    """The rules of single functions."""
    return [rule for rule in rules().values() if rule.judge is Trial.compare and not rule.name.startswith("engine.")]


def _place(rule: Rule) -> tuple[str, ...]:
    return tuple(rule.contract.function.split("."))


def _words(code: CodeType) -> set[str]:
    """The names that code mentions, with those inside of it."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*map(_words, inner))


def _own_trials(rule: Rule, failed: Trial) -> Iterator[Trial]:
    """A function's trials: the sizes and options of a failing case, if they fit it, then cases of its own."""
    fitted = _fitted(rule, failed.case)
    if fitted is not None:
        with contextlib.suppress(Exception):  # of two functions, the sizes need not fit
            yield Trial(fitted, failed.backend)
    count = OWN_GRAPHS if failed.backend.mode == "graph" else OWN_CASES
    for case, memory in drawn(rule.name, failed.backend.dtype, count, 0):
        yield Trial(case, failed.backend, memory)


def _fitted(rule: Rule, case: Case) -> Case | None:
    """A case of a function in the sizes and options of another function's; None if its options are others."""
    contract = rule.contract
    if not set(contract.scalars) <= set(case.scalars):
        return None
    past = set() if case.sizes["P"] else {"past"}
    return dataclasses.replace(
        case,
        contract=contract,
        scalars={name: case.scalars[name] for name in contract.scalars},
        absent=frozenset((case.absent | past) & set(contract.optional)),
    )


@functools.cache
def drawn(rule_name: str, dtype: str, examples: int, start: int) -> list[tuple[Case, Memory]]:
    """The cases of a rule, each with a cache of the reference's results, which serve every backend."""
    return [(case, {}) for case in draw(rules()[rule_name], numpy_dtype(dtype), examples, start)]
