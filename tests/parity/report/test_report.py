"""A report tells the same facts as a table, as JSON and as JUnit."""

import json
import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from gpt2 import progress
from gpt2.backends import NumPyBackend
from parity.mutants.all import mutant
from parity.on_trial.diagnosis_table import Diagnosis
from parity.on_trial.other_rules import Score
from parity.report import print_results
from parity.report.expected import EXPECTED, MOVED, PASSES
from parity.report.junit import document
from parity.report.record import AGREES, DIFFERS, IDENTICAL, NOT_OFFERED, UNTRIED, Report
from tests.parity.report.pieces import RULES, SCHEMA, printed, validate
from tests.parity.report.reports import HOSTILE, Scripted, failure, finding, full_report, report

# What a run finds.


def test_every_way_to_fail_has_its_verdict(wrong: Report) -> None:
    verdicts = {found.function: wrong.verdict(found) for found in wrong.findings}
    assert verdicts == {
        "ops.relu": IDENTICAL,
        "ops.softmax": DIFFERS,
        "ops.gelu": DIFFERS,
        "ops.layer_norm": DIFFERS,
        "generate.sample": NOT_OFFERED,
        "laws.causality": IDENTICAL,
    }
    assert wrong.exit_code == 1
    assert wrong.headline == "3 of 5 functions and laws differ"


def test_a_failure_keeps_its_figure_case_blame_and_script(wrong: Report) -> None:
    found = {found.function: found for found in wrong.findings}
    worst = found["ops.layer_norm"]
    assert worst.noise_ratio is not None
    assert worst.noise_ratio > 1
    assert worst.severities[-1] is not None
    assert worst.severities[-1] > 1
    assert "seed" in (worst.case or "")
    assert "ops.py" in worst.blame
    assert "float.fromhex" in worst.script


@pytest.mark.parametrize("function", ["ops.softmax", "ops.gelu"])
def test_nan_and_exceptions_have_no_figure(wrong: Report, function: str) -> None:
    found = next(found for found in wrong.findings if found.function == function)
    assert (found.noise_ratio, found.ulps, found.severities[-1]) == (None, None, None)


def test_a_rule_that_had_nothing_to_judge_does_not_agree() -> None:
    made = report(finding("ops.relu"), finding("laws.the_past_has_no_order", severities=()))
    assert [made.verdict(found) for found in made.findings] == [AGREES, UNTRIED]
    assert made.headline == "ops.relu agrees"
    assert "1 untried" in made.basis


def test_a_search_that_judged_nothing_does_not_say_that_all_agree() -> None:
    assert report(finding("ops.relu", offered=False)).headline == "Nothing was judged"


@pytest.mark.parametrize(
    ("findings", "headline"),
    [
        ([finding("ops.a"), finding("ops.b")], "All 2 functions agree"),
        ([finding("ops.a"), finding("ops.b"), finding("laws.c")], "2 functions and 1 law agree"),
        ([finding("ops.a"), failure("ops.b")], "1 of 2 functions differs"),
        ([failure("laws.a"), failure("laws.b")], "2 of 2 laws differ"),
    ],
)
def test_the_headline_counts(findings: list[Any], headline: str) -> None:
    assert report(*findings).headline == headline


def test_expected_failures_are_counted_by_what_became_of_them() -> None:
    made = full_report()
    assert Counter(map(made.verdict, made.findings)) == {
        IDENTICAL: 1,
        AGREES: 3,
        DIFFERS: 3,
        EXPECTED: 1,
        PASSES: 1,
        MOVED: 1,
        NOT_OFFERED: 1,
    }
    assert made.headline == (
        "3 of 10 functions and laws differ, 1 passes unexpectedly, 1 fails by another figure than expected, "
        "1 fails as expected"
    )


# The table.


def test_the_table_says_everything_to_people() -> None:
    shown = printed(full_report())
    rows = {cells[0]: cells for cells in (re.findall(r"[^│ ]+", line) for line in shown.splitlines() if "│" in line)}
    assert rows["ops.layer_norm"] == ["ops.layer_norm", "4", "30.00", "99", "DIFFERS"]
    assert rows["ops.relu"] == ["ops.relu", "4", "0", "0", "identical"]
    assert rows["ops.gelu"][2:] == ["-", "-", "DIFFERS"]
    assert rows["model.mlp"][-2:] == ["UNEXPECTED", "PASS"]
    assert "ops.layer_norm: 99 ulp: differs at (0, 0)\n  smallest case: B=1" in shown
    assert "  first wrong stage: h.0.attn.scores\n" in shown
    assert "ops.silu: fails as expected: " in shown
    assert "ops.relu: expected failure measured with numpy 0.9" in shown


def test_text_is_not_taken_for_markup() -> None:
    odd = failure("ops.y", explanation="[/bold] at [0]", case="[1]", blame="[2]")
    shown = printed(report(finding("ops.[red]x[/red]"), odd))
    for text in ("│ ops.[red]x[/red] │", "[/bold] at [0]", "[1]", "[2]"):
        assert text in shown


def test_progress_shows_on_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_results(RULES, NumPyBackend(), 1, 0, None, check=Scripted())
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_results(RULES, NumPyBackend(), 1, 0, None, check=Scripted())
    out, err = capsys.readouterr()
    assert out == ""
    assert f"/{len(RULES)}" in err


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    print_results(RULES, NumPyBackend(), 1, 0, None, check=Scripted())
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"gpt2: {done} of {len(RULES)} {name}" for done, name in enumerate(RULES)
    ]


# JSON.


def test_json_is_what_the_schema_describes(wrong: Report) -> None:
    for made in (wrong, full_report()):
        validate(json.loads(made.to_json()))


def test_json_of_planted_bugs_is_what_the_schema_describes() -> None:
    command = {"schema": "gpt2-check/1", "seed": 0, "examples": 25}
    seen = {"name": "erf for tanh", "killed_by": ["ops.gelu_new"], "cases": 1, "equivalent": False}
    unseen = {"name": "b + a for a + b", "killed_by": [], "cases": None, "equivalent": True}
    validate(command | {"mutants": [seen, unseen]})
    validate(command | {"bugs": 60, "rules": [Score("msprobe", {"erf for tanh"}, 2, 300).to_dict()]})
    measured = Diagnosis(mutant("erf for tanh"), "mlp.gelu_new", "ops.gelu_new", 1, (1, 0)).to_dict()
    placed = Diagnosis(mutant("erf for tanh"), "mlp.gelu_new", not_shrunk="it was not asked for").to_dict()
    validate(command | {"interrupted": True, "diagnoses": [measured, placed]})
    with pytest.raises(jsonschema.ValidationError):
        validate(command | {"mutants": [seen | {"cases": "1"}]})


@pytest.mark.parametrize("missing", ["backend", "environment", "results", "seed", "interrupted"])
def test_the_schema_refuses_a_report_with_something_missing(missing: str) -> None:
    facts = full_report().to_dict()
    del facts[missing]
    with pytest.raises(jsonschema.ValidationError):
        validate(facts)


def test_the_schema_describes_every_field() -> None:
    objects = [SCHEMA, *SCHEMA["$defs"].values()]
    for described in objects:
        assert described["description"]
        for name, field in described["properties"].items():
            assert "$ref" in field or field["description"], name


# JUnit.


def test_junit_has_one_case_per_function() -> None:
    made = full_report()
    root = ET.fromstring(document(made))
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("11", "5", "2")
    cases = {f"{case.get('classname')}.{case.get('name')}": case for case in suite.iter("testcase")}
    assert set(cases) == {found.function for found in made.findings}
    properties = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert properties["numpy"] == made.environment["numpy"]
    assert (properties["dtype"], properties["interrupted"]) == ("float32", "false")
    failed = cases["ops.layer_norm"].find("failure")
    assert failed is not None
    assert failed.text is not None
    for part in ("99 ulp: differs", "case: B=1 T=1; live; seed 0", "first wrong stage"):
        assert part in failed.text
    assert cases["ops.layer_norm"].findtext("system-out") == "import numpy\nassert 1 < 0"
    kinds = {name: case[0].get("type") for name, case in cases.items() if len(case)}
    assert kinds["ops.silu"] == EXPECTED
    assert kinds["model.mlp"] == PASSES
    assert kinds["generate.sample"] == NOT_OFFERED
    assert "ops.softmax" not in kinds
    assert "ops.conv1d: this run did not judge it" in (suite.findtext("system-out") or "")


def test_junit_takes_any_text() -> None:
    made = report(failure("ops.x", explanation=HOSTILE, blame="\x1b[31mred\x00"))
    text = ET.fromstring(document(made)).findtext(".//failure") or ""
    assert HOSTILE in text
    assert "\ufffd[31mred\ufffd" in text
