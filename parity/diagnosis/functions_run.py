"""Which functions run when a rule judges a backend, and which of them is wrong by itself."""

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from gpt2.backends import Backend, NumPyBackend
from parity.cases.cases import Case
from parity.cases.supports import Supports
from parity.check import Rule, agrees, draw_for, large_cases, offered_contract, rules, verdicts
from parity.mutants.base import short_name
from parity.verdict.trial import Memory, Trial
from parity.verdict.verdict import Verdict

Place = tuple[str, str]  # a file, "reference/ops.py", and the name of a function in it; "" outside of all
# Cases of its own on which a function is judged, and where a graph is compiled for each.
OWN_CASES, OWN_GRAPHS = 12, 1


def functions_run(rule: Rule, trials: list[Trial]) -> set[Place]:
    """The functions that run when a rule judges a backend, and code outside of functions."""
    for trial in trials:
        verdicts(rule, trial)  # then the trial's memory holds the reference's results
    reached = {place for trial in trials for place, _ in _codes(rule, trial)}
    return reached | {(file, "") for file, _ in reached}


def _codes(rule: Rule, trial: Trial) -> Iterator[tuple[Place, CodeType]]:
    """The code of the backend's sources that runs when a rule judges it."""
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


@dataclasses.dataclass
class Walk:
    """The functions judged by their own rules, innermost first. verdict: that on the last, if it is wrong by itself.

    unjudged: other functions of the backend's sources that ran, for which there is no rule.
    """

    judged: list[str]
    unjudged: list[str]
    verdict: Verdict | None = None


def walk(rule: Rule, trial: Trial) -> Walk:
    """Judge every function that a failing case runs by its own rule, callees before callers, up to the first failure.

    Each on the failing case's sizes and options, if they fit, then on cases of its own.
    """
    reached, unjudged = _reached(rule, trial)
    done = Walk([], unjudged)
    for other in reached:
        found = verdicts(rule, trial) if other == rule else _own_verdicts(other, trial)
        done.judged += [other.name] * bool(found)  # there are none of what the backend does not offer
        done.verdict = _first_objection(found)
        if done.verdict is not None:
            break
    return done


def _reached(rule: Rule, trial: Trial) -> tuple[list[Rule], list[str]]:
    """The rules of the functions that run when a rule judges a trial, in the order of the lesson, and Walk.unjudged.

    They run in the backend, if it names its sources, or when the same rule judges NumPy: each function of the mirror
    stands for its twin. A graph hides what it calls: there, the names that the code around it mentions count too.
    """
    backend, numpy = trial.backend, NumPyBackend(dtype=trial.backend.dtype)
    own = [] if getattr(backend, "sources", None) is None else list(_codes(rule, trial))
    ran = own + list(_codes(rule, trial.on(numpy)))
    places, hidden = {(Path(file).stem, name) for (file, name), _ in ran}, backend.mode == "graph"
    words = {word for _, code in ran for word in _words(code)} if hidden else set()
    reached = []
    for each in reversed(_comparisons()):  # callers first: a graph's functions mention those that they call
        if each == rule or _place(each) in places or _place(each)[1] in words:
            reached.append(each)
            words |= _words(inspect.unwrap(each.contract.target).__code__) if hidden else set()
    judged = {_place(each) for each in reached}
    unjudged = {
        short_name(f"{file.removesuffix('.py').replace('/', '.')}.{getattr(code, 'co_qualname', name)}")
        for (file, name), code in own
        if file.startswith(f"{Path(backend.sources).name}/") and (Path(file).stem, name) not in judged
    }
    return reached[::-1], sorted(name for name in unjudged if "<" not in name)


def _comparisons() -> list[Rule]:
    """The rules of single functions."""
    return [rule for rule in rules().values() if rule.judge is Trial.compare and not rule.name.startswith("engine.")]


def _place(rule: Rule) -> tuple[str, ...]:
    return tuple(rule.contract.function.split("."))


def _words(code: CodeType) -> set[str]:
    """The names that code mentions, with those inside of it."""
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*map(_words, inner))


def _first_objection(found: list[Verdict]) -> Verdict | None:
    return next((verdict for verdict in found if not verdict.agrees), None)


def _own_verdicts(rule: Rule, failed: Trial) -> list[Verdict]:
    """Verdicts of a function's own rule: in the sizes and options of a failing case, if they fit; then on others."""
    fitted = _fitted(rule, failed)
    found = [] if fitted is None else verdicts(rule, fitted)
    return found if _first_objection(found) else found + _verdicts_on_others(rule, failed.backend)


def _verdicts_on_others(rule: Rule, backend: Backend) -> list[Verdict]:
    if _results.get("") is not backend:  # only those of one backend are kept: not every backend can be hashed
        _results.clear()
        _results[""] = backend
    if rule.name not in _results:
        count = OWN_GRAPHS if backend.mode == "graph" else OWN_CASES
        trials = (Trial(case, backend, memory) for case, memory in drawn(rule.name, backend, count, 0))
        known: list[Verdict] = []
        for trial in trials:
            known += verdicts(rule, trial)
            if _first_objection(known):
                break
        _results[rule.name] = known
    found: list[Verdict] = _results[rule.name]
    return found


_results: dict[str, Any] = {}  # the results of _verdicts_on_others by rule, for the backend that is under ""


def _fitted(rule: Rule, failed: Trial) -> Trial | None:
    """A function's trial in the sizes and options of a failing case; None if the function has others."""
    contract, case = offered_contract(rule, failed.backend), failed.case
    if not set(contract.scalars) <= set(case.scalars):
        return None
    past = set() if case.sizes["P"] else {"past"}
    fitted = dataclasses.replace(
        case,
        contract=contract,
        scalars={name: case.scalars[name] for name in contract.scalars},
        absent=frozenset((case.absent | past) & set(contract.optional)),
    )
    try:
        trial = Trial(fitted, NumPyBackend(dtype=failed.backend.dtype))
    except Exception:  # sizes that one function may have need not make sense for another
        return None
    return trial.on(failed.backend) if agrees(rule, trial) else None


def drawn(rule_name: str, backend: Backend, examples: int, start: int) -> list[tuple[Case, Memory]]:
    """The cases of a rule for a backend, each with a cache of the reference's results, which serve every backend."""
    key = rule_name, backend.dtype, getattr(backend, "trainer", None) is not None, Supports.of(backend), examples, start
    if key not in _drawn:
        rule = rules()[rule_name]
        cases = draw_for(rule, backend, examples, start)
        _drawn[key] = [(case, {}) for case in [*cases, *large_cases(rule, cases, Supports.of(backend))]]
    return _drawn[key]


_drawn: dict[tuple[Any, ...], list[tuple[Case, Memory]]] = {}
