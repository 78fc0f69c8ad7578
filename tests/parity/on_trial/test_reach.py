"""Reach: what the rules execute is measured, what they leave out has a reason, and no function is forgotten."""

import ast
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import settings

from gpt2.commands.main import cli
from gpt2.errors import GPT2Error
from parity import check
from parity.on_trial import reach, unreached
from parity.on_trial.arms import spread
from parity.on_trial.reach import SETTINGS, Reached, backend_of, run_rule, sources, summed
from tests.parity.report.pieces import validate

pytest.importorskip("coverage", reason="coverage is not installed")

ROOT = Path(__file__).parents[3]
ENGINES = ("numpy", "mindspore")
NUMPY, *_, PLAIN = SETTINGS["numpy"]

SOURCE = '''
def f(x, y=None):
    """Twice if that is asked for."""
    if x and (y or
              x > 3):
        x = 2 * x if x > 1 else (
            -x)  # a comment
    return [i if i else "é" for i in range(x)], lambda: y and x


def g(x):
    if not x:
        raise ValueError("none" if x is None else "zero")
    return x
'''


def test_arms_get_lines_of_their_own_and_nothing_else_changes() -> None:
    wide = spread(SOURCE)
    assert ast.dump(ast.parse(wide.text)) == ast.dump(ast.parse(SOURCE))
    texts = ["y or\n              x > 3", "x > 3", "2 * x", "-x", "i", '"é"', "x"]
    assert [arm.text for arm in wide.arms] == texts
    assert {arm.function for arm in wide.arms} == {"f"}
    old, new = SOURCE.split("\n"), wide.text.split("\n")
    for arm in wide.arms:
        assert arm.text.split("\n")[0] in new[arm.start - 1]
        assert arm.text.split("\n")[0] in old[wide.lines[arm.start - 1] - 1]
    assert len(wide.lines) == len(new)


@pytest.mark.parametrize("engine", ENGINES)
def test_sources_that_are_spread_mean_the_same(engine: str) -> None:
    for wide in sources(engine).values():
        assert ast.dump(ast.parse(wide.text)) == ast.dump(ast.parse(wide.source))
        assert len(wide.lines) == wide.text.count("\n") + 1


def executed(source: str, monkeypatch: pytest.MonkeyPatch, *calls: str) -> list[Reached]:
    """What calls reach of a source that is all of an engine."""
    coverage = pytest.importorskip("coverage")
    wide = spread(source)
    monkeypatch.setattr(reach, "sources", lambda engine: {"some.py": wide})
    module = types.ModuleType("some")
    exec(compile(wide.text, "/some.py", "exec"), module.__dict__)
    recorder = coverage.Coverage(data_file=None, config_file=False, branch=True, include=["/some.py"])
    with recorder.collect():
        for call in calls:
            eval(call, module.__dict__)
    return summed("numpy", [("a rule", {"some.py": recorder.get_data().arcs("/some.py") or []})])


def test_what_is_left_out_is_told_and_errors_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def left(*calls: str) -> dict[str, list[tuple[int, str]]]:
        found = executed(SOURCE, monkeypatch, *calls)
        return {each.function: [(one.line, one.what) for one in each.missed] for each in found}

    assert left("f(2, 1)[1]()", "f(1)", "f(4)", "f(0)", "g(1)") == {"f": [(7, "never computes -x")], "g": []}
    assert left("g(1)") == {"f": [(2, "never entered")], "g": []}
    assert left("f(0)", "g(1)")["f"] == [
        (6, "never runs"),
        (4, "never computes y or x > 3"),
        (5, "never computes x > 3"),
        (8, "never computes i"),
        (8, 'never computes "é"'),
        (8, "never computes x"),
    ]
    assert left("f(9, 1)", "g(1)")["f"] == [
        (4, "never followed by line 8"),
        (5, "never computes x > 3"),
        (7, "never computes -x"),
        (8, "never computes x"),
    ]


def test_a_reason_is_that_of_a_line_or_of_what_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def f(x):\n    if x:\n        x = 1\n        x = 2\n    return x\n"
    for place in ("f", "if x:", "x = 1", ""):
        monkeypatch.setattr(unreached, "REASONS", {("some.py", place): "because"})
        [found] = executed(source, monkeypatch, "f(0)")
        assert [(one.line, one.reason) for one in found.missed] == [(3, "because"), (4, "because")]
        assert not found.unexplained
    for place in ("g", "x = 2", "return x"):
        monkeypatch.setattr(unreached, "REASONS", {("some.py", place): "because"})
        [found] = executed(source, monkeypatch, "f(0)")
        assert [one.line for one in found.unexplained] == ([3] if place == "x = 2" else [3, 4])


@pytest.mark.parametrize(("file", "place"), unreached.REASONS)
def test_a_reason_is_about_what_is_there(file: str, place: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    function = place.rpartition(".")[2]
    assert place == "" or f"def {function}(" in text or place in [line.strip() for line in text.splitlines()]
    for path in re.findall(r"tests/[\w/]+\.py", unreached.REASONS[file, place]):
        assert (ROOT / path).is_file()


# Of the other rules, a few, and few cases: what is cheap, and yet enters every function.
ONE = (
    "laws.assigned_weights_are_used",
    "laws.an_engine_is_the_plain_model",
    "laws.a_level_runs_in_float16_what_it_says",
    "laws.an_overflow_leaves_everything_as_it_was",
    "laws.the_fast_update_is_the_plain_one",
    "laws.the_loss_reported_is_that_of_the_micro_batch",
)
SEVERAL = "laws.a_run_goes_on_where_it_was_left"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_function_of_the_numpy_engine_is_entered_by_some_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and branches are measured by `gpt2 reach`, and by the test below, which takes minutes."""
    monkeypatch.setattr(check, "large_cases", lambda *_: [])
    steps = []
    for name, rule in check.select((), backend_of(NUMPY)).items():
        if name in ONE or rule.generates or not (rule.trains or "laws." in name):
            steps.append((name, run_rule(name, NUMPY, 1, 0)))
        if name.startswith("engine."):
            steps.append((name, run_rule(name, PLAIN, 1, 0)))
    steps.append((SEVERAL, run_rule(SEVERAL, NUMPY, 4, 0)))
    forgotten = [each for each in summed("numpy", steps) if not each.rules]
    assert [f"{each.file}: {each.function}" for each in forgotten if each.unexplained] == []


@pytest.mark.skipif(settings().max_examples <= 100, reason="takes minutes: --hypothesis-profile=deep")
@pytest.mark.parametrize("engine", ENGINES)
def test_every_line_and_branch_is_reached_or_it_is_said_why_not(engine: str) -> None:
    if engine == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    assert reach.listed(each for each in reach.reach(engine, (), 25, 0) if each.unexplained) == ""


def test_the_command_lists_what_is_left_out_and_fails_without_a_reason() -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(cli, [*words, "--backend", "numpy", "--examples", "1"], catch_exceptions=False)

    ran = run("reach", "ops.gelu", "--json")
    validate(json.loads(ran.stdout))
    found = json.loads(ran.stdout)["reach"]
    assert {each["function"]: each["rules"] for each in found}["gelu"] == ["ops.gelu"]
    assert "gelu_new" not in {each["function"] for each in found}
    assert ran.exit_code == any(not one["reason"] for each in found for one in each["missed"])
    ran = run("check", "ops.gelu", "--reach")
    assert "`gpt2 check --reach` is `gpt2 reach` now" in ran.stderr
    assert "only the complex step has complex numbers" in ran.stdout
    assert "Rules: 1. They reach" in ran.stdout


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coverage", None)
    with pytest.raises(GPT2Error, match=r"pip install 'gpt2-parity\[dev\]'"):
        reach.reach("numpy", ("ops.gelu",), 1, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reach", "--backend", "einsum"], "reach is measured of numpy and mindspore, whose sources are here"),
        (["--reach", "--dtype", "float16"], "gpt2 check --reach takes no --dtype: leave it out"),
        (["--reach", "--script"], "gpt2 check --reach takes no --script: leave it out"),
        (["ops", "--mutants"], "gpt2 check --mutants takes no names of functions: leave them out"),
        (["ops", "--mutants", "--diagnose"], "gpt2 check --mutants --diagnose takes no names of functions: leave them"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words: list[str], said: str) -> None:
    ran = CliRunner().invoke(cli, ["check", *words])
    assert isinstance(ran.exception, GPT2Error)
    assert said in str(ran.exception)
