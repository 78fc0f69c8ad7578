"""What a failure looks like over all cases that are drawn: the smallest alone may be weak, or look like chance."""

import collections
import dataclasses
import time
import warnings
from collections.abc import Iterator

import numpy as np

from gpt2.backends import Backend
from parity import time_limits
from parity.check import Rule, draw_for
from parity.verdict import orbit
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict

# The name of an array, its verdict, whether numbers other than 0 are right, and whether it is 0 all the same.
Judged = tuple[str, Verdict, bool, bool]
MOST_LINES = 4  # of facts, one for each array
OF_TRAINING = 3  # cases of a rule that trains, each of which takes seconds


@dataclasses.dataclass
class Evidence:
    """What is known of one array over all cases: in how many it fails, should not be 0, and fails with 0 alone.

    worst: the largest error as a multiple of the noise; expected: the largest number that would be right where it is 0.
    """

    fails: int = 0
    not_zero: int = 0
    zero: int = 0
    worst: float = 0.0
    expected: float = 0.0


def evidence(rule: Rule, backend: Backend, examples: int, start: int) -> str:
    """The facts in one line per array that fails; "" if no case could be judged.

    They are of as many of the cases as are judged in the time of a step.
    """
    count = min(examples, OF_TRAINING) if rule.trains else examples
    cases = draw_for(rule, backend, count, start)
    facts: dict[str, Evidence] = collections.defaultdict(Evidence)
    judged, raised, begun = 0, 0, time.monotonic()
    for case in cases:
        if time.monotonic() - begun > time_limits.of_a_step():
            break
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = _decided(rule, Trial(case, backend))
        except NotImplementedError:
            continue
        except Exception:  # whatever the backend raises
            raised += 1
            judged += 1
            continue
        judged += 1
        for name in {name for name, verdict, *_ in found if not verdict.agrees}:
            facts[name].fails += 1
        for name, verdict, not_zero, zero in found:
            facts[name].not_zero += not_zero
            if not verdict.agrees:
                facts[name].worst = max(facts[name].worst, verdict.noise_ratio)
                facts[name].zero += zero
                facts[name].expected = max(facts[name].expected, zero * abs(verdict.expected))
    failing = sorted(((name, each) for name, each in facts.items() if each.fails), key=_rank)
    others = "" if failing or raised == judged else f"; the other {judged - raised} agree"
    lines = [f"an error is raised in {raised} of {judged} cases{others}"] if raised else []
    lines += [_line(name, each, judged) for name, each in failing[:MOST_LINES]]
    if failing[MOST_LINES:]:
        lines.append(f"over all: {len(failing) - MOST_LINES} other arrays differ too")
    return "\n".join(lines)


def _rank(fact: tuple[str, Evidence]) -> tuple[bool, float]:
    """First what is 0 wherever it should not be, however small what is missing is; then by the worst error."""
    _, each = fact
    return not (each.zero and each.zero == each.not_zero), -each.worst


def _decided(rule: Rule, trial: Trial) -> list[Judged]:
    """The verdicts by few forms of the input, unless more of them could decide otherwise."""
    few = list(_verdicts(rule, trial.with_members(orbit.MEMBERS)))
    settled = all(verdict.agrees or verdict.is_plain for _, verdict, *_ in few)
    return few if settled else list(_verdicts(rule, trial))


def _verdicts(rule: Rule, trial: Trial) -> Iterator[Judged]:
    """The verdict on each array, or of a law."""
    if rule.judge is not Trial.compare:
        for verdict in rule.judge(trial):
            yield verdict.name, verdict, False, False
        return
    values, references = trial.run(), trial.references()
    count = min(len(values), len(references))
    for number, (value, reference) in enumerate(zip(values, references, strict=False), start=1):
        name = reference.name or (f"array {number} of {count}" if count > 1 else "")
        not_zero = bool(np.any(reference.oracle))
        yield name, reference.judge(value), not_zero, not_zero and not np.any(value)


def _line(name: str, each: Evidence, judged: int) -> str:
    """One line of the facts."""
    where = f"{name} differs" if name else "it differs"
    line = f"over all: {where} in {each.fails} of {judged} cases"
    if each.zero:
        count = f"all {each.zero}" if each.zero == each.not_zero else f"{each.zero} of {each.not_zero}"
        return f"{line}; exactly 0 in {count} where it should not be (but up to {each.expected:.3g})"
    return f"{line}; by up to {each.worst:.2g} x noise" if np.isfinite(each.worst) and each.worst else line
