"""The judge on trial: run every rule on planted bugs; record which rule detects which bug after how many cases."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from gpt2.backends import Backend, get_backend, numpy_dtype
from gpt2.processes import Work
from parity.check import Rule, agrees, draw, large_cases, rules
from parity.diagnosis.functions_run import Place, functions_run
from parity.mutants.all import OF_TRAINING, mutant
from parity.mutants.base import Mutant
from parity.mutants.generation import GENERATION
from parity.verdict.trial import Memory, Trial

# Cases on which we trace the functions that a rule runs. A bug in any other function is out of its sight.
WATCHED = 6
# Bugs that are not yet detected get the first so many cases of every rule, then so many more.
ROUNDS = (4, 20)


@dataclasses.dataclass
class Kill:
    """The result for a mutant: the rules that detect it, each with the number of the first case that does.

    out_of_sight: rules that do not run the mutant's lines.
    """

    mutant: Mutant
    rules: dict[str, int] = dataclasses.field(default_factory=dict)
    out_of_sight: set[str] = dataclasses.field(default_factory=set)

    @property
    def cases(self) -> int | None:
        """The fewest cases that a rule needed; None if no rule detects it."""
        return min(self.rules.values(), default=None)

    @property
    def laws(self) -> list[str]:
        """The laws that detect it."""
        return [name for name in self.rules if name.startswith("laws.")]

    @property
    def right(self) -> bool:
        """Whether the judge is right: it detects a bug, or accepts an equivalent mutant."""
        return bool(self.rules) != bool(self.mutant.equivalent)

    def to_dict(self) -> dict[str, Any]:
        """The same facts as a dict, fit for JSON."""
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
    mutants: Iterable[Mutant], examples: int, seed: int, thorough: bool = True, work: Work | None = None
) -> list[Kill]:
    """Run the rules on mutants, on at most `examples` cases of each rule; the same seed draws the same cases.

    thorough: run every rule on every mutant. Otherwise, other comparisons skip a mutant that a comparison has detected,
    and other laws skip a mutant that a law has detected or that is declared beyond the laws. Rules of training and laws
    of generation come last, for their own bugs and bugs not yet detected (rules of training skip bugs of generation).
    Unless thorough, laws of generation run only on the bugs that name them. Bugs planted in MindSpore, where a case
    takes about fifty times as long, get only the rules of their place, until one detects them. work: how the tasks run;
    after an interruption, the result is the kills found so far.
    """
    work = work or Work()
    kills = {bug.name: Kill(bug) for bug in mutants}
    bounds = [0, *(end for end in ROUNDS if not thorough and end < examples), examples]
    for (start, end), dear in itertools.product(itertools.pairwise(bounds), (False, True)):
        tasks = [
            (rule.name, group, names, slice(start, end), examples, seed)
            for rule in rules().values()
            if (rule.learns or rule.generates) == dear
            for group, names in _groups(rule, kills.values(), thorough).items()
        ]
        for (rule_name, *_), (first_cases, out_of_sight) in work.do(look, tasks):
            for name, cases in first_cases.items():
                kills[name].rules[rule_name] = cases
            for name in out_of_sight:
                kills[name].out_of_sight.add(rule_name)
        if work.interrupted:
            break
    order = list(rules())
    for kill in kills.values():
        kill.rules = dict(sorted(kill.rules.items(), key=lambda item: order.index(item[0])))
    return list(kills.values())


def _groups(rule: Rule, kills: Iterable[Kill], thorough: bool) -> dict[Group, list[str]]:
    """The mutants that a rule has still to run on, grouped by the cases that they get."""
    groups: dict[Group, list[str]] = {}
    for kill in kills:
        bug, law = kill.mutant, rule.name.startswith("laws.")
        mode = "eager" if bug.engine == "numpy" else bug.mode or "pynative"
        enough = (kill.laws or bug.beyond_laws) if law else len(kill.rules) > len(kill.laws)
        wanted = rule.name not in kill.rules and rule.name not in kill.out_of_sight and (thorough or not enough)
        if rule.learns or rule.generates:
            of_this_area = bug in (GENERATION if rule.generates else OF_TRAINING)
            wanted = wanted and (of_this_area or not (kill.rules or bug.equivalent))
            wanted = wanted and not (rule.trains and bug.dtype != "float32")
        if rule.learns and bug in GENERATION:
            wanted = False  # no rule of training runs the code of generation
        if rule.generates and not thorough:
            wanted = wanted and rule.name in bug.where
        if bug.engine != "numpy":
            wanted = rule.name in bug.where and not kill.rules
        if wanted:
            groups.setdefault((bug.engine, bug.dtype, mode), []).append(bug.name)
    return groups


def look(
    rule_name: str, group: Group, names: list[str], part: slice, examples: int, seed: int
) -> tuple[dict[str, int], list[str]]:
    """The mutants that one rule detects on a part of its cases, each with the number of the first such case.

    Also the mutants out of its sight, which the first part decides.
    """
    rule, (engine, dtype, mode) = rules()[rule_name], group
    drawn = draw(rule, numpy_dtype(dtype), examples, seed, max(part.stop, WATCHED))
    numbered = list(enumerate(drawn, start=1))[part]
    if part.stop >= examples:  # the last ones
        numbered += enumerate(large_cases(rule, drawn), start=examples + 1)
    memories: dict[int, Memory] = collections.defaultdict(dict)
    out_of_sight: list[str] = []
    if not part.start and engine == "numpy" and not rule.generates:  # laws of generation reach all of their bugs
        correct = get_backend(engine, dtype=dtype, mode=mode)
        watched = list(enumerate(drawn[:WATCHED], start=1))
        reached = functions_run(rule, [Trial(case, correct, memories[number]) for number, case in watched])
        out_of_sight = [name for name in names if places(mutant(name)).isdisjoint(reached)]
    alive: dict[str, Backend] = {name: mutant(name).backend() for name in names if name not in out_of_sight}
    kills: dict[str, int] = {}
    for number, case in numbered:
        for name, backend in list(alive.items()):
            if not agrees(rule, Trial(case, backend, memories[number])):
                kills[name] = number
                del alive[name]
        memories.pop(number, None)
        if not alive:
            break
    return kills, out_of_sight


def places(each: Mutant) -> set[Place]:
    """The functions in which a mutant's lines stand."""
    return {(edit.file, edit.name.rpartition(".")[2]) for edit in each.edits}
