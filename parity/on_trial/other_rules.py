"""Other projects' rules for whether two results agree, run on the judge's cases: which bugs would they detect?

Each rule takes a result and those of the reference, and returns whether they agree.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Backend, get_backend, numpy_dtype
from gpt2.processes import Work
from parity.check import Rule, draw, rules
from parity.mutants.all import FEEDING, mutant
from parity.mutants.base import Mutant
from parity.on_trial.hunt import Group
from parity.verdict.trial import Memory, Trial
from parity.verdict.verdict import Reference, oracle_in_range

Array = NDArray[Any]
OtherRule = Callable[[Array, Array, Array, np.dtype], bool]


def msprobe(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """MindStudio's msprobe on two dumps: no when cosine < 0.99 and largest error > 0.001, or < 0.9, or > 1.

    A single number has no cosine and no verdict; where one of two arrays is 0, only the error is left to decide.
    Source: mindstudio-probe 26.2.0, `check_accuracy` in msprobe/core/compare/multiprocessing_compute.py:85-101, by the
    thresholds in msprobe/core/common/const.py:901-905, on the cosine of msprobe/core/compare/algorithm/
    builtin_algorithm/alg_cosine_similarity.py:28-48.
    """
    if value.size == 1:
        return True
    norms = float(np.linalg.norm(value)), float(np.linalg.norm(own))
    absent = [norm <= np.finfo(float).eps for norm in norms]
    cosine = 1.0 if all(absent) else np.nan if any(absent) else float((value * own).sum()) / (norms[0] * norms[1])
    error = float(np.abs(value - own).max())
    return not (cosine < 0.99 and error > 1e-3) and not (cosine < 0.9 or error > 1)


def msprobe_precheck(value: Array, own: Array, oracle: Array, dtype: np.dtype) -> bool:
    """msprobe's accuracy pre-check of MindSpore's functions: cosine above 0.99 and no element off by 0.001 or more.

    Source: mindstudio-probe 26.2.0, msprobe/mindspore/api_accuracy_checker/api_accuracy_checker.py:244-246, which asks
    for both of base_compare_algorithm.py:145-182, there; 1e-8 is EPSILON in msprobe/mindspore/common/const.py:137.
    """
    norms = float(np.linalg.norm(value) * np.linalg.norm(own))
    cosine = (1e-8 + float((value * own).sum())) / (1e-8 + norms)
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
    "msprobe compare": msprobe,
    "msprobe pre-check": msprobe_precheck,
    "mindone": mindone,
    "assert_close": assert_close,
    "llama.cpp NMSE": nmse,
    "flash-attention 2x": twice_the_reference,
}
OURS = "this judge"


@dataclasses.dataclass
class Score:
    """The score of a rule: the mutants that it detects, and its false alarms on correct backends."""

    rule: str
    killed: set[str] = dataclasses.field(default_factory=set)
    false_alarms: int = 0
    correct_cases: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same facts as a dict, fit for JSON."""
        return dataclasses.asdict(self) | {"killed": sorted(self.killed)}


def tried_on(mutants: Iterable[Mutant]) -> list[Mutant]:
    """The mutants on which other projects' rules are tried: the bugs of a model on NumPy."""
    return [bug for bug in mutants if bug.engine == "numpy" and not bug.equivalent and bug not in FEEDING]


def opinions(value: Any, known: Reference) -> dict[str, bool]:
    """Whether an array agrees under each rule, ours too. All rules treat shapes, dtypes and integers alike."""
    value = np.asarray(value)
    ours = known.judge(value)
    plain_run = known.orbit[0]
    if ours.reason or plain_run.dtype.kind in "iub" or not plain_run.size:
        return dict.fromkeys([OURS, *OTHER_RULES], ours.agrees)
    rows = np.isfinite(plain_run.astype(np.float64))
    rows &= True if known.rows is None else known.rows
    oracle = oracle_in_range(known.oracle, plain_run.dtype)
    a, b, c = (np.where(rows, x.astype(np.float64), 0) for x in (value, plain_run, oracle))
    return {OURS: ours.agrees} | {name: rule(a, b, c, plain_run.dtype) for name, rule in OTHER_RULES.items()}


def compare_rules(
    mutants: Iterable[Mutant], correct: Iterable[str], examples: int, seed: int, work: Work | None = None
) -> list[Score]:
    """Compare mutants and correct backends, by name, with the reference under every project's rule, on the same cases.

    work: how the tasks run; after an interruption, the result is the scores so far.
    """
    scores = {name: Score(name) for name in [OURS, *OTHER_RULES]}
    groups: dict[Group, list[str]] = {}
    for bug in mutants:
        groups.setdefault(("numpy", bug.dtype, "eager"), []).append(bug.name)
    names = [name for name in rules() if not name.startswith("laws.")]
    tasks = [
        (name, group, mutated, list(correct), examples, seed) for group, mutated in groups.items() for name in names
    ]
    for _, task_scores in (work or Work()).do(_opinions_on, tasks):
        for score in task_scores:
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
    """Each project's opinion on a case: it agrees if every array does. Every rule detects an exception."""
    try:
        values, known = trial.run(), trial.references()
    except Exception:  # whatever a planted bug raises
        return dict.fromkeys([OURS, *OTHER_RULES], False)
    if len(values) != len(known):
        return dict.fromkeys([OURS, *OTHER_RULES], False)
    per_array = [opinions(*pair) for pair in zip(values, known, strict=True)]
    return {name: all(opinion[name] for opinion in per_array) for name in [OURS, *OTHER_RULES]}
