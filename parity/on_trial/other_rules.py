"""The rules by which other projects decide whether two results agree, on the judge's own cases: what would they see?

Each looks at a result and at what the reference says of it, and answers whether the two agree.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Backend, get_backend, numpy_dtype
from parity.check import Rule, draw, rules
from parity.mutants.all import mutant
from parity.mutants.base import Mutant
from parity.on_trial.hunt import Group
from parity.on_trial.pool import Work
from parity.verdict.trial import Memory, Trial
from parity.verdict.verdict import Reference, oracle_in_range

Array = NDArray[Any]
OtherRule = Callable[[Array, Array, Array, np.dtype], bool]


def msprobe(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """MindStudio's msprobe: cosine above 0.99 and no element off by 0.001 or more."""
    norms = float(np.linalg.norm(value) * np.linalg.norm(own))
    cosine = float((value * own).sum()) / norms if norms else float((value == own).all())
    return cosine > 0.99 and bool(np.abs(value - own).max() < 1e-3)


def mindone(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """MindONE's tests: the difference's Frobenius norm is below 5e-4 of the reference's."""
    return bool(np.linalg.norm(value - own) <= 5e-4 * np.linalg.norm(own))


def assert_close(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """PyTorch's assert_close with its defaults for float32 (rtol 1.3e-6, atol 1e-5) or float16 (1e-3, 1e-5)."""
    relative = 1.3e-6 if dtype == np.float32 else 1e-3
    return bool((np.abs(value - own) <= 1e-5 + relative * np.abs(own)).all())


def nmse(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """llama.cpp's test-backend-ops: the mean squared difference is at most 1e-7 of the mean square."""
    return bool(((value - own) ** 2).sum() <= 1e-7 * (own**2).sum())


def twice_the_reference(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """flash-attention's tests: at most twice as far from the truth as the reference in the same precision."""
    return bool(np.abs(value - oracle).max() <= 2 * np.abs(own - oracle).max())


OTHER_RULES: dict[str, OtherRule] = {
    "msprobe": msprobe,
    "mindone": mindone,
    "assert_close": assert_close,
    "llama.cpp NMSE": nmse,
    "flash-attention 2x": twice_the_reference,
}
OURS = "this judge"


@dataclasses.dataclass
class Score:
    """What a rule made of the mutants and of the correct twins."""

    rule: str
    killed: set[str] = dataclasses.field(default_factory=set)
    false_alarms: int = 0
    correct_cases: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same facts for machines."""
        return dataclasses.asdict(self) | {"killed": sorted(self.killed)}


def tried_on(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Those on which other projects' rules are tried: the bugs that run on NumPy."""
    return [each for each in mutants if each.engine == "numpy" and not each.equivalent]


def opinions(value: Any, known: Reference) -> dict[str, bool]:
    """Whether each rule, ours too, says that an array agrees. Shapes, dtypes and integers are the same for all."""
    value = np.asarray(value)
    ours = known.judge(value)
    own = known.orbit[0]
    if ours.reason or own.dtype.kind in "iub" or not own.size:
        return dict.fromkeys([OURS, *OTHER_RULES], ours.agrees)
    rows = np.isfinite(own.astype(np.float64))
    rows &= True if known.rows is None else known.rows
    oracle = oracle_in_range(known.oracle, own.dtype)
    a, b, c = (np.where(rows, x.astype(np.float64), 0) for x in (value, own, oracle))
    return {OURS: ours.agrees} | {name: rule(a, b, c, own.dtype) for name, rule in OTHER_RULES.items()}


def compare_rules(
    mutants: Iterable[Mutant], correct: Iterable[str], examples: int, seed: int, work: Work | None = None
) -> list[Score]:
    """Put mutants and correct backends, by name, to every comparison under every project's rule, on the same cases.

    work: how it is done; if that is interrupted, the scores are those until then.
    """
    scores = {name: Score(name) for name in [OURS, *OTHER_RULES]}
    groups: dict[Group, list[str]] = {}
    for each in mutants:
        groups.setdefault(("numpy", each.dtype, "eager"), []).append(each.name)
    names = [name for name in rules() if not name.startswith("laws.")]
    tasks = [
        (name, group, mutated, list(correct), examples, seed) for group, mutated in groups.items() for name in names
    ]
    for _, found in (work or Work()).do(_opinions_on, tasks):
        for score in found:
            total = scores[score.rule]
            total.killed |= score.killed
            total.false_alarms += score.false_alarms
            total.correct_cases += score.correct_cases
    return list(scores.values())


def _opinions_on(
    rule_name: str, group: Group, mutated: list[str], correct: list[str], examples: int, seed: int
) -> list[Score]:
    rule, (_, dtype, _) = rules()[rule_name], group
    scores = {name: Score(name) for name in [OURS, *OTHER_RULES]}
    right = [get_backend(name, dtype=dtype, mode="pynative" if name == "mindspore" else None) for name in correct]
    wrong: dict[str, Backend] = {name: mutant(name).backend() for name in mutated}
    for case in draw(rule, numpy_dtype(dtype), examples, seed):
        memory: Memory = {}
        for backend in right:
            for name, agrees in _all_opinions(rule, Trial(case, backend, memory)).items():
                scores[name].correct_cases += 1
                scores[name].false_alarms += not agrees
        for bug, backend in wrong.items():
            if all(bug in score.killed for score in scores.values()):
                continue
            for name, agrees in _all_opinions(rule, Trial(case, backend, memory)).items():
                if not agrees:
                    scores[name].killed.add(bug)
    return list(scores.values())


def _all_opinions(rule: Rule, trial: Trial) -> dict[str, bool]:
    """Each project's opinion on a case: agreed if it agrees on every array. A breakdown is seen by everybody."""
    try:
        values, known = trial.run(), trial.references()
    except Exception:  # whatever a planted bug raises
        return dict.fromkeys([OURS, *OTHER_RULES], False)
    if len(values) != len(known):
        return dict.fromkeys([OURS, *OTHER_RULES], False)
    each = [opinions(*pair) for pair in zip(values, known, strict=True)]
    return {name: all(opinion[name] for opinion in each) for name in [OURS, *OTHER_RULES]}
