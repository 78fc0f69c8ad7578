"""A failure's facts over all cases, and that smaller cases do not weaken them."""

import math
import re
import time
from typing import Any

import numpy as np
import pytest

from gpt2.backends import NumPyBackend
from parity import time_limits
from parity.check import check_rule, draw, rules
from parity.diagnosis.diagnose import diagnose, smallest_trial
from parity.diagnosis.evidence import evidence
from parity.diagnosis.shrink import shrink
from parity.verdict.trial import Trial
from reference.config import map_tree


class Edited(NumPyBackend):
    """A backend whose functions return something else."""

    def call(self, function: str, arguments: Any) -> Any:
        return self.edit(super().call(function, arguments), arguments)

    def edit(self, returned: Any, arguments: Any) -> Any:
        return returned


def test_a_gradient_that_is_always_zero_is_told_over_all_cases() -> None:
    class Zero(Edited):
        def edit(self, returned: Any, arguments: Any) -> Any:
            return returned | {"wpe": {"weight": np.zeros_like(returned["wpe"]["weight"])}}

    line = evidence(rules()["model.language_model_loss_vjp"], Zero(), 6, 0)
    told = re.fullmatch(
        r"over all: wpe.weight differs in (\d) of 6 cases; "
        r"exactly 0 in all (\d) where it should not be \(but up to \S+\)",
        line,
    )
    assert told is not None, line
    assert int(told[1]) == int(told[2]) > 3  # of a case without a scored token, 0 is right


def test_what_is_always_zero_is_told_first() -> None:
    """Errors of other arrays are larger, as multiples of the noise, and their lines would hide it."""

    class ZeroAmongOthers(Edited):
        def edit(self, returned: Any, arguments: Any) -> Any:
            others = {name: tree for name, tree in returned.items() if name != "wpe"}
            return map_tree(lambda _, x: x + 1, others) | {"wpe": {"weight": np.zeros_like(returned["wpe"]["weight"])}}

    first, *others = evidence(rules()["model.language_model_loss_vjp"], ZeroAmongOthers(), 4, 0).splitlines()
    assert first.startswith("over all: wpe.weight differs in ")
    assert len(others) > 3


def test_all_that_fails_is_counted_and_what_is_raised() -> None:
    class Sometimes(Edited):
        def edit(self, returned: Any, arguments: Any) -> Any:
            if arguments["x"].size % 2:
                raise RuntimeError("odd")
            return returned + off

    off = 1

    rule = rules()["ops.relu"]
    odd = [math.prod(case.sizes[letter] for letter in "BTC") % 2 for case in draw(rule, np.dtype(np.float32), 12, 0)]
    assert 0 < sum(odd) < 12
    raised, differs = evidence(rule, Sometimes(), 12, 0).splitlines()
    assert raised == f"an error is raised in {sum(odd)} of 12 cases"
    assert differs.startswith(f"over all: it differs in {12 - sum(odd)} of 12 cases")
    off = 0
    assert evidence(rule, Sometimes(), 12, 0) == f"{raised}; the other {12 - sum(odd)} agree"


def test_the_facts_stand_beside_the_smallest_failure() -> None:
    class Off(Edited):
        def edit(self, returned: Any, arguments: Any) -> Any:
            return returned + 1

    rule = rules()["ops.silu"]
    result = check_rule(rule, Off(), 5)
    diagnose(rule, result, Off(), 5, 0)
    assert "over all: it differs in 5 of 5 cases" in result.blame
    assert evidence(rules()["laws.activations_have_known_values"], Off(), 5, 0).startswith("over all: it differs in ")
    assert evidence(rule, NumPyBackend(), 5, 0) == ""


def test_a_smaller_case_does_not_weaken_the_evidence() -> None:
    """Two or three numbers are off by a little, more of them by a factor: it does not end with two."""

    class Worse(Edited):
        def edit(self, returned: Any, arguments: Any) -> Any:
            count = np.count_nonzero(returned)
            return returned * returned.dtype.type(2 if count > 3 else 1 + 3e-6 if count > 1 else 1)

    rule = rules()["ops.silu_vjp"]
    result = check_rule(rule, Worse(), 10)
    assert result.failure is not None
    assert result.failing_case is not None
    assert result.failure.is_plain
    assert 3 < math.prod(result.failing_case.sizes[letter] for letter in "BTC") < 8
    smallest = smallest_trial(rule, result, Worse())
    assert smallest is not None
    assert any(verdict.is_plain for verdict in rule.judge(smallest))


def test_slow_backends_are_not_looked_at_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, now = [], [0.0]

    class Slow(Edited):
        def edit(self, returned: Any, arguments: Any) -> Any:
            now[0] += time_limits.STEP / 4
            tried.append(arguments)
            return returned + np.float32(np.any(arguments["x"]))

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    rule, backend = rules()["ops.relu"], Slow()
    line = evidence(rule, backend, 25, 0)
    assert re.match(r"over all: it differs in (\d) of \1 cases", line), line
    of_evidence = len(tried)
    case = max(draw(rule, np.dtype(np.float32), 25, 0), key=lambda case: math.prod(case.sizes.values()))
    shrink(rule, Trial(case, backend), NumPyBackend())
    assert len(tried) - of_evidence < 10 > of_evidence
