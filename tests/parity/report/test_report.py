"""The report: the same facts as a table, a page, JSON and JUnit; whole files; Ctrl-C; going on where a run stopped."""

import html.parser
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from rich.console import Console

from gpt2.backends import NumPyBackend
from gpt2.errors import GPT2Error
from gpt2.files import require_writable, write_text
from parity.check import select
from parity.mutants.all import mutant
from parity.on_trial.diagnosis_table import Diagnosis
from parity.on_trial.other_rules import Score
from parity.report import print_results
from parity.report.expected import EXPECTED, MOVED, PASSES
from parity.report.html import page
from parity.report.junit import document
from parity.report.record import AGREES, DIFFERS, IDENTICAL, NOT_OFFERED, UNTRIED, Report
from parity.report.table import print_report
from tests.parity.report.reports import HOSTILE, Scripted, Wrong, failure, finding, full_report, report

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "parity" / "check.schema.json").read_text(encoding="utf-8"))
RULES = select(["ops.relu", "ops.softmax", "ops.gelu", "ops.layer_norm", "generate.sample", "causality"])


def printed(made: Report, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(made, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# What a run finds.


@pytest.fixture(scope="module")
def wrong() -> Report:
    """What a real search finds on a backend that fails in every way."""
    return print_results(RULES, Wrong(), 5, 0, None)


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


# JSON.


def closed(schema: Any) -> Any:
    """The schema, refusing every field that it does not describe."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    extra = {"additionalProperties": False} if "properties" in schema else {}
    return extra | {key: closed(value) for key, value in schema.items()}


def validate(facts: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(closed(SCHEMA), format_checker=checker).validate(facts)


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


# HTML.


class Page(html.parser.HTMLParser):
    """What a page holds: elements, their attributes, its text; and whether every element is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_everything() -> None:
    made = full_report()
    shown = Page(page(made))
    assert made.headline in shown.text
    for found in made.findings:
        assert found.function in shown.text
        if not found.agrees:
            for part in (found.explanation, found.case or "", found.blame, found.script):
                assert part in shown.text
    for outcome in made.outcomes:
        assert outcome.message in shown.text
    for value in made.environment.values():
        assert value is None or value[:10] in shown.text


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    source = page(full_report())
    shown = Page(source)
    assert {tag for tag, _ in shown.tags} & {"script", "link", "img", "iframe", "object", "base"} == set()
    for _, attributes in shown.tags:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert all((value or "").startswith("#") for name, value in attributes.items() if name.endswith("href"))
    assert not re.search(r"@import|url\((?!#)", source)


def test_no_id_is_there_twice() -> None:
    ids = [attributes["id"] for _, attributes in Page(page(full_report())).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0


def test_the_same_report_is_the_same_page() -> None:
    made = full_report()
    assert page(made) == page(made)


def test_what_is_identical_is_counted_and_not_drawn() -> None:
    same = [finding(name, noise_ratio=0.0, ulps=0.0, severities=(0.0,) * 4) for name in ("ops.relu", "ops.embedding")]
    assert not [tag for tag, _ in Page(page(report(*same))).tags if tag == "svg"]
    shown = Page(page(report(*same, finding("ops.softmax"))))
    assert "Not drawn: 2 with identical bits in every case." in shown.text
    assert [tag for tag, _ in shown.tags if tag == "svg"] == ["svg", "svg"]


def test_failures_are_linked_from_the_table() -> None:
    tags = Page(page(full_report())).tags
    ids = [attributes["id"] for tag, attributes in tags if tag == "article" and "id" in attributes]
    assert len(ids) == 5
    assert [attributes["href"] for tag, attributes in tags if tag == "a"] == [f"#{name}" for name in ids]


def test_a_report_without_any_result_is_a_page_too() -> None:
    assert "Nothing was judged" in Page(page(report())).text


def colours(source: str, scheme: str) -> dict[str, tuple[float, ...]]:
    """The CSS variables of a colour scheme, as linear RGB."""
    blocks = re.findall(r":root \{(.*?)\}", source, flags=re.DOTALL)
    found = re.findall(r"--(\w+): #(\w{6})", blocks[("light", "dark").index(scheme)])
    channels = {name: [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for name, code in found}
    return {
        name: tuple(x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in values)
        for name, values in channels.items()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    """The contrast that WCAG 2 asks for at level AA: 4.5."""
    palette = colours(page(report()), scheme)
    luminance = {name: 0.2126 * r + 0.7152 * g + 0.0722 * b for name, (r, g, b) in palette.items()}
    for text in ("ink", "quiet", "good", "bad", "known"):
        for behind in ("page", "card", "tint"):
            high, low = sorted((luminance[text], luminance[behind]), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, behind)


@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int) -> None:
    made = full_report()
    (tmp_path / "report.html").write_text(page(made), encoding="utf-8")
    with browser.new_context(viewport={"width": width, "height": 800}, offline=True) as context:
        opened, said = context.new_page(), []
        opened.on("console", lambda message: said.append(message.text))
        opened.goto((tmp_path / "report.html").as_uri())
        assert opened.locator("h1").inner_text() == made.headline
        rows = opened.locator("tbody th .name").all_inner_texts()
        assert sorted(rows) == sorted(found.function for found in made.findings)
        row = opened.locator("tr.fails").first
        assert row.inner_text().split() == ["ops.layer_norm", "4", "30.00", "99", "differs"]
        assert made.headline in opened.title()  # no script has changed it
        for whole in opened.locator("html, .scroll").all():
            assert whole.evaluate("whole => whole.scrollWidth == whole.clientWidth")  # nothing sticks out
        plots = [plot for plot in opened.locator("figure svg").all() if plot.is_visible()]
        assert len(plots) == 1
        drawn = plots[0].locator("text")
        assert {"ops.softmax", "ops.layer_norm", "allowed", "none"} <= set(drawn.all_text_contents())
        frame = plots[0].bounding_box()
        for text in drawn.all():
            box, name = text.bounding_box(), text.text_content()
            assert box["height"] >= 10, name
            assert frame["x"] <= box["x"], name
            assert box["x"] + box["width"] <= frame["x"] + frame["width"], name
        assert said == []


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


# Files.


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_text(path, "old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(GPT2Error, match=r"cannot write .*report\.html: No space left on device"):
        write_text(path, "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("report.html", "old")]


def test_a_file_that_can_be_written_is_not_touched_before(tmp_path: Path) -> None:
    require_writable(tmp_path / "new")
    (tmp_path / "old").write_text("old")
    require_writable(tmp_path / "old")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("old", "old")]


def test_a_file_has_the_usual_rights_and_links_stay(tmp_path: Path) -> None:
    usual, link = tmp_path / "usual", tmp_path / "link"
    usual.write_text("")
    link.symlink_to(tmp_path / "target")
    write_text(link, "text")
    assert link.is_symlink()
    assert (tmp_path / "target").read_text() == "text"
    assert (tmp_path / "target").stat().st_mode == usual.stat().st_mode


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder in which this process may write nothing, root or not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.rmdir()


@pytest.mark.parametrize("option", ["html", "junit", "resume"])
def test_what_cannot_be_written_is_said_before_the_search(option: str, tmp_path: Path, read_only: Path) -> None:
    check = Scripted()
    for path in (tmp_path / "absent" / "file", read_only / "file", read_only):
        with pytest.raises(GPT2Error, match="cannot write"):
            print_results(RULES, NumPyBackend(), 1, 0, None, check=check, **{option: path})
    assert check.judged == []
    assert list(read_only.iterdir()) == []


# Ctrl-C, and going on.


def without_times(made: Report) -> Any:
    facts = json.loads(made.to_json())
    del facts["seconds"], facts["environment"]["time"]
    return facts


def test_ctrl_c_ends_the_search_and_not_the_report(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    stopped = print_results(
        RULES,
        NumPyBackend(),
        3,
        0,
        console,
        check=Scripted("ops.gelu"),
        html=tmp_path / "report.html",
        junit=tmp_path / "report.xml",
    )
    assert stopped.exit_code == 130
    assert [found.function for found in stopped.findings] == ["ops.relu", "ops.softmax"]
    facts = json.loads(stopped.to_json())
    validate(facts)
    assert facts["interrupted"]
    assert facts["not_run"] == ["ops.gelu", "ops.layer_norm", "generate.sample", "laws.causality"]
    assert isinstance(console.file, io.StringIO)
    for text in (console.file.getvalue(), Page((tmp_path / "report.html").read_text()).text):
        assert "Interrupted: 2 of 6 were judged." in text
    properties = ET.parse(tmp_path / "report.xml").iter("property")
    assert {each.get("name"): each.get("value") for each in properties}["interrupted"] == "true"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (signal.SIGINT, "raise"),
        (signal.SIGTERM, "raise"),
        (signal.SIGINT, "pass"),  # as MindSpore's compiler can do where it calls Python
        (signal.SIGINT, "raise RuntimeError from interrupt"),
    ],
)
def test_a_real_search_stops_when_it_is_asked_to(asked: signal.Signals, answer: str) -> None:
    program = f"""
import sys, time
from gpt2.backends import NumPyBackend
from parity.check import select
from parity.report import print_results

class Backend(NumPyBackend):
    seconds = 60

    def call(self, function, arguments):
        if function == "ops.softmax" and self.seconds:
            print("in the middle of it", file=sys.stderr, flush=True)
            try:
                time.sleep(self.seconds)
            except KeyboardInterrupt as interrupt:
                self.seconds = 0
                {answer}
        return super().call(function, arguments)

report = print_results(select(["ops.relu", "ops.softmax"]), Backend(), 3, 0, None)
print(report.to_json())
sys.exit(report.exit_code)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "in the middle of it\n"
    process.send_signal(asked)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    facts = json.loads(out)
    assert [result["function"] for result in facts["results"]] == ["ops.relu"]
    assert facts["not_run"] == ["ops.softmax"]


def test_a_run_goes_on_where_another_stopped(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted("ops.layer_norm"), resume=kept)
    check = Scripted()
    resumed = print_results(RULES, NumPyBackend(), 3, 0, None, check=check, resume=kept)
    assert check.judged == ["ops.layer_norm", "generate.sample", "laws.causality"]
    whole = print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted())
    assert without_times(resumed) == without_times(whole)
    assert printed(resumed) == printed(whole)
    resumed.environment = whole.environment  # the time is another
    assert page(resumed) == page(whole)


def test_a_real_finding_is_the_same_after_it_was_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    live = print_results(RULES, Wrong(), 3, 0, None, resume=kept)
    resumed = print_results(RULES, Wrong(), 3, 0, None, check=Scripted(), resume=kept)
    assert resumed.findings == live.findings


def test_findings_of_other_functions_stay_in_the_file(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    print_results(select(["ops.relu"]), NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)
    second = print_results(select(["ops.silu"]), NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)
    assert [found.function for found in second.findings] == ["ops.silu"]
    third = Scripted()
    print_results(select(["ops.relu", "ops.silu"]), NumPyBackend(), 3, 0, None, check=third, resume=kept)
    assert third.judged == []


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ((NumPyBackend(dtype="float16"), 3, 0), "dtype 'float32', this run has 'float16'"),
        ((NumPyBackend(), 4, 0), "examples 3, this run has 4"),
        ((NumPyBackend(), 3, 1), "seed 0, this run has 1"),
    ],
    ids=["dtype", "examples", "seed"],
)
def test_a_run_with_other_settings_does_not_go_on(tmp_path: Path, run: tuple[Any, int, int], said: str) -> None:
    kept = tmp_path / "kept.json"
    print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)
    with pytest.raises(GPT2Error, match=said):
        print_results(RULES, *run, None, check=Scripted(), resume=kept)


def test_a_run_with_other_versions_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept.json"
    print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)
    monkeypatch.setattr("platform.python_version", lambda: "2.7.18")
    with pytest.raises(GPT2Error, match=r"made with python '3.*', this run has '2\.7\.18'"):
        print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-9], "not valid JSON"),
        (lambda text: "[]", "not what a check keeps"),
        (lambda text: text.replace('"settings"', '"sittings"'), "no settings and results"),
        (lambda text: text.replace('"cases": 3', '"cases": "3"', 1), "result 1: the field 'cases' must be int"),
        (lambda text: text.replace('"blame": "", ', "", 1), "result 1: the field 'blame' is missing"),
        (lambda text: text.replace('"case"', '"casing": 1, "case"', 1), "result 1: there is no field 'casing'"),
    ],
    ids=["cut off", "other", "no settings", "type", "missing", "unknown"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Any, said: str) -> None:
    kept = tmp_path / "kept.json"
    print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)
    kept.write_text(damage(kept.read_text()))
    with pytest.raises(GPT2Error, match=said):
        print_results(RULES, NumPyBackend(), 3, 0, None, check=Scripted(), resume=kept)


def test_a_failure_that_cannot_be_traced_is_reported_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr("parity.report.run.diagnose", lost)
    made = print_results(select(["ops.layer_norm"]), Wrong(), 3, 0, None)
    assert made.headline == "1 of 1 functions differs"
    assert "could not be traced: RuntimeError: the device is gone" in made.findings[0].blame
