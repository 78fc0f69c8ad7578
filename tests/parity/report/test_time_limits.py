"""Many failures of one backend, most often of one cause, do not each take minutes to look into."""

import time
from typing import Any

import pytest

from gpt2.backends import NumPyBackend
from parity import time_limits
from parity.check import rules
from parity.report.run import judge
from parity.time_limits import Failures


class Slow(NumPyBackend):
    """A wrong backend of which every call takes long, by a clock of its own."""

    now = 0.0

    def call(self, function: str, arguments: Any) -> Any:
        self.now += time_limits.STEP / 40
        return super().call(function, arguments) + 1


def test_a_later_failure_takes_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, failures = Slow(), Failures()
    monkeypatch.setattr(time, "monotonic", lambda: backend.now)
    taken = []
    for name in ("ops.relu", "ops.gelu", "ops.gelu_new", "ops.softmax"):
        before = backend.now
        assert not judge(rules()[name], backend, 25, 0, failures=failures).agrees
        taken.append(backend.now - before)
    assert failures.spent == sum(taken)
    hurried = [spent for number, spent in enumerate(taken) if sum(taken[:number]) > time_limits.TOGETHER]
    assert hurried
    assert max(hurried) < taken[0]


def test_who_agrees_has_no_failures() -> None:
    failures = Failures()
    assert judge(rules()["ops.relu"], NumPyBackend(), 2, 0, failures=failures).agrees
    assert failures.spent == 0
