"""The judge on trial: put planted bugs to every rule, and note which rule sees which bug after how many cases."""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gpt2.backends import Backend, get_backend, numpy_dtype
from parity.check import Rule, draw, rules
from parity.mutants import Mutant, mutant
from parity.trial import Memory, Trial
from parity.verdict import Verdict

# A rule that finds a bug without any trace in so many cases is not asked again: it does not reach the changed lines.
PATIENCE = {"eager": 60, "pynative": 3, "graph": 2}


@dataclasses.dataclass
class Kill:
    """How a mutant fared: the rules that saw it, each with the number of the first case that did."""

    mutant: Mutant
    rules: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def cases(self) -> int | None:
        """The fewest cases that a rule needed; None if no rule saw it."""
        return min(self.rules.values(), default=None)

    @property
    def laws(self) -> list[str]:
        """The laws that saw it."""
        return [name for name in self.rules if name.startswith("laws.")]

    @property
    def right(self) -> bool:
        """Whether the judge did as it should: see it, or, of an equivalent mutant, see nothing."""
        return bool(self.rules) != bool(self.mutant.equivalent)

    def to_dict(self) -> dict[str, Any]:
        """The same facts for machines."""
        return {
            "name": self.mutant.name,
            "killed_by": list(self.rules),
            "cases": self.cases,
            "equivalent": bool(self.mutant.equivalent),
            "cases_by_rule": self.rules,
            "story": self.mutant.story,
            "proof": self.mutant.equivalent,
            "beyond_laws": self.mutant.beyond_laws,
        }


Group = tuple[str, str, str]  # engine, dtype, mode: what is judged with the same cases


def hunt(
    mutants: Iterable[Mutant], examples: int, seed: int, watch: Callable[[int, int], Any] | None = None,
    processes: int | None = None,
) -> list[Kill]:  # fmt: skip
    """Put every mutant to every rule, on at most that many cases of each; the same seed draws the same cases.

    watch is called with the number of tasks done and of all. processes: how many work at once (default: one per core).
    """
    kills = {each.name: Kill(each) for each in mutants}
    groups: dict[Group, list[str]] = {}
    for kill in kills.values():
        each = kill.mutant
        mode = "eager" if each.engine == "numpy" else each.mode or "pynative"
        groups.setdefault((each.engine, each.dtype, mode), []).append(each.name)
    tasks = [
        (rule.name, group, names, examples, seed)
        for group, names in groups.items()
        for rule in rules().values()
        if group[2] != "graph" or rule.contract.function.startswith("engine.")  # elsewhere every call is compiled
    ]
    context = multiprocessing.get_context("spawn")  # MindSpore does not survive a fork
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context) as pool:
        found = {pool.submit(kills_of_rule, *task): task[0] for task in tasks}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(found), start=1):
                for name, cases in future.result().items():
                    kills[name].rules[found[future]] = cases
                if watch is not None:
                    watch(done, len(tasks))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    order = list(rules())
    for kill in kills.values():
        kill.rules = dict(sorted(kill.rules.items(), key=lambda item: order.index(item[0])))
    return list(kills.values())


def kills_of_rule(rule_name: str, group: Group, names: list[str], examples: int, seed: int) -> dict[str, int]:
    """The mutants that one rule sees, each with the number of the case that did it."""
    rule, (engine, dtype, mode) = rules()[rule_name], group
    correct = get_backend(engine, dtype=dtype, mode=mode)
    alive: dict[str, Backend] = {name: mutant(name).backend() for name in names}
    traces: set[str] = set()
    kills: dict[str, int] = {}
    for number, case in enumerate(draw(rule, numpy_dtype(dtype), examples, seed), start=1):
        memory: Memory = {}
        own = _verdicts(rule, Trial(case, correct, memory))
        for name, backend in list(alive.items()):
            verdicts = _verdicts(rule, Trial(case, backend, memory))
            if not all(verdict.agrees for verdict in verdicts):
                kills[name] = number
                del alive[name]
            elif verdicts != own:
                traces.add(name)
        if number == PATIENCE[mode]:
            alive = {name: backend for name, backend in alive.items() if name in traces}
        if not alive:
            break
    return kills


def _verdicts(rule: Rule, trial: Trial) -> list[Verdict]:
    """A rule's verdicts; a backend that breaks down on an input has not kept the rule."""
    try:
        return list(_until_broken(rule.judge(trial)))
    except Exception as error:  # whatever a planted bug raises
        return [Verdict(False, 0.0, 0.0, 0.0, (), 0.0, 0.0, f"{type(error).__name__}: {error}")]


def _until_broken(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    for verdict in verdicts:
        yield verdict
        if not verdict.agrees:
            return
