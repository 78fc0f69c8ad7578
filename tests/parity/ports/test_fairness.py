"""Conventions that ports may declare, or need not; and what is said of what cannot be right."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gpt2 import progress
from gpt2.backends import NumPyBackend
from gpt2.backends.elementary_errors import INSIDE
from parity import time_limits
from parity.check import Rule, SearchResult, agrees, check_rule, draw, rules
from parity.diagnosis.diagnose import find_fault
from parity.ports.frameworks import NumPy, measured_accuracy
from parity.ports.port import get_port
from parity.report.run import print_results
from parity.report.table import print_report
from parity.verdict.trial import Trial
from reference import elementary
from tests.gpt2.command import run

FLOAT32 = np.dtype(np.float32)
FILE = """
import numpy as np
from reference import model, ops
from reference.attention import attention as right
from reference.config import nest


def cross_entropy(logits, labels, ignore_index=-100):
    scored = (labels != ignore_index).any()
    return ops.cross_entropy(logits, labels, ignore_index) if scored else np.float32(np.nan)


def attention(x, params, config, layer=0, attention_mask=None, past=None):
    return right(x, params, config, layer, attention_mask, past)[0]


def build(config, parameters):
    def scores(ids, attention_mask=None, position_ids=None):
        if attention_mask is None and position_ids is not None and (np.diff(position_ids) != 1).any():
            position_ids = position_ids * 0  # packed texts, each with positions of its own
        return model.language_model(nest(parameters), ids, config, attention_mask, position_ids)[0]

    return scores
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "fair.py").write_text(FILE, encoding="utf-8")
    return tmp_path / "fair.py"


def test_what_a_loss_of_nothing_is_can_be_declared(file: Path) -> None:
    name = f"ops.cross_entropy={file}:cross_entropy"
    assert not check_rule(rules()["ops.cross_entropy"], get_port(name), 40).agrees
    file.write_text(f"{FILE}\n\nsupports = {{'nothing_scored': False}}\n", encoding="utf-8")
    declared = file.rename(file.with_name("declared.py"))
    result = check_rule(rules()["ops.cross_entropy"], get_port(f"ops.cross_entropy={declared}:cross_entropy"), 40)
    assert result.agrees
    assert result.cases > 20


def test_positions_are_given_with_a_mask(file: Path) -> None:
    """As transformers reads odd ones without a mask."""
    result = check_rule(rules()["engine.logits"], get_port(f"{file}:build"), 40)
    assert result.agrees, result.to_dict()
    assert any("position_ids" not in case.absent for case in draw(rules()["engine.logits"], FLOAT32, 40))


def test_a_wrong_number_of_results_is_told_in_the_words_of_the_contract(file: Path) -> None:
    result = check_rule(rules()["attention.attention"], get_port(f"attention.attention={file}:attention"), 10)
    assert result.failure is not None
    assert result.failure.explain() == "returned 1 array; the contract is (B, T, C) kept, (B, H, S, D) pair"


class Offering(NumPyBackend):
    """Some functions of the reference, each changed in its own way."""

    sources = None  # type: ignore[assignment]

    def __init__(self, **changes: Callable[[Any], Any]) -> None:
        super().__init__()
        self.changes = changes

    def call(self, function: str, arguments: Any) -> Any:
        name = function.partition(".")[2]
        if name not in self.changes:
            raise NotImplementedError(function)
        return self.changes[name](super().call(function, arguments))


def test_a_wrong_loss_of_a_right_model_is_traced() -> None:
    rule = rules()["model.language_model_loss"]
    backend = Offering(language_model=lambda x: x, language_model_loss=lambda x: x * np.float32(1.1))
    trials = (Trial(case, backend) for case in draw(rule, FLOAT32, 20))
    fault = find_fault(rule, next(trial for trial in trials if not agrees(rule, trial)))
    assert fault.places == ("model.language_model_loss",)
    assert "1 functions inside agree" in fault.text


def test_the_worst_comes_first_and_says_that_there_is_a_script() -> None:
    backend = Offering(relu=lambda x: x, gelu=lambda x: x * np.float32(1 + 2.0**-14), silu=lambda x: x * np.float32(2))

    def check(rule: Rule, backend: Any, examples: int, seed: int) -> SearchResult:
        result = check_rule(rule, backend, examples, seed)
        result.script = "" if result.agrees else "import nothing"
        return result

    console = Console(record=True, width=200, file=io.StringIO())
    chosen = {name: rules()[name] for name in ("ops.relu", "ops.gelu", "ops.silu")}
    report = print_results(chosen, backend, 3, 0, None, check=check)
    for with_scripts, said in ((False, "--script prints a script"), (True, "import nothing")):
        print_report(report, console, with_scripts=with_scripts)
        shown = console.export_text().partition("└")[2]
        assert shown.index("ops.silu: ") < shown.index("ops.gelu: ")
        assert shown.count(said) == 2


def test_which_rule_is_judged_is_said_where_standard_error_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    chosen = {name: rules()[name] for name in ("ops.relu", "ops.gelu")}
    print_results(chosen, NumPyBackend(), 1, 0, None)
    assert re.fullmatch(
        r"gpt2: 0 of 2 ops.relu, after \d+ s\ngpt2: 1 of 2 ops.gelu, after \d+ s.*\n", capsys.readouterr().err
    )


def test_a_failure_is_not_made_smaller_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, now = [], [0.0]

    def slowly(x: Any) -> Any:
        now[0] += time_limits.STEP
        tried.append(x)
        return x + np.float32(1)

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert not check_rule(rules()["ops.relu"], Offering(relu=slowly), 20).agrees
    assert len(tried) <= 4


@pytest.mark.parametrize("kernel", ["gelu", "gelu_new"])
def test_the_accuracy_of_a_kernel_is_measured_and_kept(kernel: str) -> None:
    """What stands inside of it may be coarser than the function of that name."""

    class Coarse(NumPy):
        def elementary(self, name: str) -> Any:  # type: ignore[override]
            return lambda x: getattr(elementary, name)(x)

        def activation(self, name: str) -> Any:  # type: ignore[override]
            function, inner = {activation: (f, inner) for f, (activation, inner) in INSIDE.items()}[name]
            exact = getattr(elementary, function)
            coarse = np.float32(1 - 2.0**-16 * (name == kernel))
            return lambda x: 0.5 * x * (1 + coarse * exact(inner(x)))

    framework = Coarse()
    found = measured_accuracy(framework)
    for function, (activation, _) in INSIDE.items():
        assert (found[function] > 2.0**-17) == (activation == kernel)
    assert found["exp"] < 2.0**-22
    assert measured_accuracy(framework) is found


def test_blame_takes_every_mode_of_a_backend() -> None:
    ran = run("blame", "tiny", "sort: cba", "--backend", "numpy", "--mode", "plain", "--json")
    assert ran.code == 0
    assert '"mode": "plain"' in ran.out
    assert "numpy" in run("blame", "tiny", "sort: cba", "--backend", "numpy", "--mode", "graph").err
