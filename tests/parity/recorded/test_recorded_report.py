"""The report of a recorded run: table, page, JSON and JUnit XML, made of the same facts; and hostile names in it."""

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from gpt2.arguments import LANGUAGES
from parity.recorded.recording import Call, RecordedRun, Recording
from parity.report.recorded.facts import RecordedReport
from parity.report.recorded.machine import junit, to_dict, to_json
from parity.report.recorded.page import recorded_page
from parity.report.recorded.run import Judge, LoadedModel, judge_recording
from parity.report.recorded.table import BARS, histogram, print_recorded
from parity.report.recorded.words import WORDS, fit
from parity.verdict.verdict import Verdict
from tests.parity.recorded.made_runs import (
    CONFIG,
    hugging_face_run,
    judged_as,
    operator,
    operators_run,
    parameters_of,
    recording,
    tensor,
)
from tests.parity.report.pieces import ROOT, Page, closed

PARAMETERS = parameters_of()
MODEL = LoadedModel("FOLDER", CONFIG, PARAMETERS)
SCHEMA = json.loads((ROOT / "parity" / "judge.schema.json").read_text(encoding="utf-8"))
WRONG = "Module.transformer.h.1.ln_2.LayerNorm.forward.0"
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e&\"'[/bold]\ud800"


def judged(
    read: Recording, judge: Judge, model: LoadedModel | None = None, against: Recording | None = None
) -> RecordedReport:
    return judge_recording(read, model, against, judge=judge)


@pytest.fixture(scope="module")
def right() -> RecordedReport:
    """A correct run, by its model, beside another form of it."""
    runs = recording(hugging_face_run(PARAMETERS)), recording(operators_run(PARAMETERS), source="other")
    return judged(runs[0], judged_as(), MODEL, runs[1])


@pytest.fixture(scope="module")
def wrong() -> RecordedReport:
    """A run with a wrong call, without a model."""
    run = hugging_face_run(PARAMETERS)
    run = dataclasses.replace(run, place="step 0, rank 0", parameter_gradients={"h.0.ln_1.bias": tensor(np.ones(4))})
    return judged(recording(run, notes=("a.txt is not read",)), judged_as(WRONG))


@pytest.fixture(scope="module")
def hostile() -> RecordedReport:
    """A run whose every text would break a page or a terminal."""

    def spoilt(call: Call) -> Call:
        stack = (f"File /{HOSTILE}.py, line 1, in {HOSTILE}, \n {HOSTILE}",)
        path = f"{call.path}.{HOSTILE}" if call.path else ""
        return dataclasses.replace(call, name=f"{HOSTILE}{call.name}", operator=HOSTILE, path=path, stack=stack)

    run = hugging_face_run(PARAMETERS)
    calls = tuple(map(spoilt, run.calls))
    spoilt_run = RecordedRun(HOSTILE, HOSTILE, HOSTILE, place=HOSTILE, calls=calls)
    spoilt_run = dataclasses.replace(spoilt_run, parameter_gradients={HOSTILE: tensor(np.ones(2))})
    read = recording(spoilt_run, source="a" + HOSTILE.replace("\ud800", ""), notes=(HOSTILE,))
    return judged(read, judged_as(calls[7].name), None, read)


def printed(report: RecordedReport, language: str = "en", width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_recorded(report, console, language)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def every_form(report: RecordedReport) -> list[str]:
    """The text of each form of a report that is shown to people."""
    pages = [Page(recorded_page(report, language)).text for language in LANGUAGES]
    return [*pages, *(printed(report, language) for language in LANGUAGES)]


def validated(said: Any) -> Any:
    """These facts, which the schema describes."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(closed(SCHEMA)).validate(said)
    return said


def validate(report: RecordedReport) -> Any:
    return validated(json.loads(to_json(report)))


def test_a_report_is_described_by_its_schema(
    right: RecordedReport, wrong: RecordedReport, hostile: RecordedReport
) -> None:
    facts = validate(right)
    assert (facts["agrees"], facts["model"], facts["against"]["source"]) == (True, "FOLDER", "other")
    assert all(pair["agrees"] for pair in facts["against"]["pairs"])
    facts = validate(wrong)
    assert (facts["agrees"], facts["against"], facts["notes"]) == (False, None, ["a.txt is not read"])
    assert facts["runs"][0]["first_wrong"]["name"] == WRONG
    assert facts["runs"][0]["first_wrong"]["lines"] == ["/home/me/my_gpt2.py:7, in forward: x = self.part(x)"]
    assert facts["runs"][0]["first_wrong"]["reference"][0].startswith("reference/ops.py:")
    assert facts["runs"][0]["not_judged"] == {"nobody knows this operator": 2}
    validate(hostile)


def test_the_exit_code_says_whether_anything_differs(right: RecordedReport, wrong: RecordedReport) -> None:
    assert (right.exit_code, wrong.exit_code) == (0, 1)
    unknown = judged(recording(RecordedRun(calls=hugging_face_run(PARAMETERS).calls[:1])), judged_as())
    assert unknown.exit_code == 3
    assert "Nothing was judged" in printed(unknown)


def test_every_form_names_what_is_wrong_and_where_it_was_called(wrong: RecordedReport) -> None:
    for text in every_form(wrong):
        assert WRONG in text
        assert "/home/me/my_gpt2.py:7" in text
        assert "reference/ops.py:" in text
        assert "nobody knows this operator" in text
        assert "a.txt is not read" in text
        assert "step 0, rank 0" in text


def test_layers_stand_down_the_side_with_what_is_in_them(right: RecordedReport) -> None:
    said = printed(right)
    assert re.findall(r"^│ (\S+)", said.partition("Against")[0], re.MULTILINE)[:5] == [
        "wte",
        "wpe",
        "drop",
        "h.0",
        "h.1",
    ]
    assert re.search(r"│   attn.c_attn +│ +0.50 │", said)
    assert "All" in said.splitlines()[-1]
    assert "全部一致" in printed(right, "zh")


def test_a_wrong_parameter_comes_before_what_follows_from_it() -> None:
    name = "h.0.attn.c_proj.weight"
    other = {**PARAMETERS, name: PARAMETERS[name].T.copy()}
    report = judged(recording(hugging_face_run(other)), judged_as(), MODEL)
    said = printed(report)
    assert f"What is wrong first: {name}\n  {name} is transposed" in said
    assert "the call computes what it was given" in said
    assert f"{name} 被转置了" in printed(report, "zh")
    assert f"{name} is transposed" in Page(recorded_page(report)).text
    assert report.exit_code == 1


def test_a_stage_that_is_wrong_is_told_with_what_stands_before_it() -> None:
    run = hugging_face_run(PARAMETERS, change={"h.0.attn.scores": lambda x: x * 2})
    said = printed(judged(recording(run), judged_as(), MODEL))
    assert "What is wrong first: h.0.attn.merged" in said
    assert "it went wrong between h.0.attn.qkv and here" in said
    assert "reference/attention.py:" in said


def test_a_missing_gradient_and_lower_precision_are_in_every_form() -> None:
    run = hugging_face_run(PARAMETERS)
    asking = [
        dataclasses.replace(
            call, parameters={name: dataclasses.replace(x, requires_grad=True) for name, x in call.parameters.items()}
        )
        for call in run.calls
    ]
    back = dataclasses.replace(asking[-1], name=asking[-1].name.replace("forward", "backward"), is_backward=True)
    half = operator("softmax", 0, np.ones(4, np.float16), result=np.ones(4, np.float16))
    gradients = {"transformer.wpe.weight": tensor(PARAMETERS["wpe.weight"])}
    run = dataclasses.replace(run, calls=(*asking, half, back), parameter_gradients=gradients)
    report = judged(recording(run), judged_as())
    assert report.exit_code == 1
    for text in every_form(report):
        assert "lm_head.weight" in text
        assert re.search("float16.*Functional.softmax.0.forward", text, re.DOTALL)
    facts = validate(report)["runs"][0]
    (missing,) = facts["missing_gradients"]
    assert (missing["name"], missing["call"]) == ("lm_head.weight", "Module.lm_head.Linear.forward.0")
    assert facts["first_wrong"]["what"] == "gradient"
    assert facts["lower_precision"] == [{"dtype": "float16", "calls": ["Functional.softmax.0.forward"]}]
    failures = ET.fromstring(junit(report)).findall("testsuite/testcase[@classname='gradients']/failure")
    assert "though one reached" in str(failures[0].get("message"))


def test_layers_of_a_large_model_that_agree_are_one_row_each() -> None:
    calls = [
        dataclasses.replace(call, name=f"{call.name}{i}", path=call.path.replace("h.0", f"h.{i}"))
        for i in range(12)
        for call in hugging_face_run(PARAMETERS).calls
        if "h.0" in call.path
    ]
    wrong = next(call.name for call in calls if call.path == "transformer.h.7.mlp")
    said = printed(judged(recording(RecordedRun(calls=tuple(calls))), judged_as(wrong)))
    rows = re.findall(r"^│ (.+?) *│", said, re.MULTILINE)
    assert [row for row in rows if not row.startswith(" ")] == [f"h.{i}" for i in range(12)]
    assert len([row for row in rows if row.startswith("  ")]) == 10


def test_junit_has_a_case_for_each_call_and_stage(right: RecordedReport, wrong: RecordedReport) -> None:
    suites = ET.fromstring(junit(wrong))
    calls = len(wrong.runs[0].calls)
    assert [suites.get(name) for name in ("tests", "failures", "skipped")] == [str(calls), "1", "2"]
    failed = suites.find("testsuite/testcase[@name='Module.transformer.h.1.ln_2.LayerNorm.forward.0']/failure")
    assert failed is not None
    assert "differs" in str(failed.get("message"))
    cases = ET.fromstring(junit(right)).findall("testsuite/testcase")
    assert {case.get("classname") for case in cases} >= {"parameters", "stages", "h.0.attn.c_attn"}


# hostile names


def test_names_from_a_recording_cannot_break_the_page(hostile: RecordedReport) -> None:
    for language in LANGUAGES:
        source = recorded_page(hostile, language)
        page = Page(source)
        assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "link", "object", "a"}
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert "<script>alert(1)</script>" in page.text
        source.encode()
        assert not re.search("[\x00-\x08\x1b\u202e\ud800]", source)


def test_names_from_a_recording_cannot_break_the_terminal(hostile: RecordedReport) -> None:
    for language in LANGUAGES:
        said = printed(hostile, language)
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e\ud800]", said)
        assert "\\x1b[31m\\u202e" in said
        assert "[/bold]" in said
        said.encode()


def test_machines_get_strict_text(hostile: RecordedReport) -> None:
    to_json(hostile).encode("ascii")
    ET.fromstring(junit(hostile))


def test_what_is_fit_to_be_shown_has_no_controls() -> None:
    assert fit("a\nb\x1b\x9b\u202e\ufeff\ud800") == "a\\nb\\x1b\\x9b\\u202e\\ufeff\\ud800"
    assert fit("h.0.注意力 é") == "h.0.注意力 é"


# the parts


def test_the_histogram_counts_ulps() -> None:
    def of(ulps: float) -> Verdict:
        return Verdict(True, ulps, 1.0, 1.0, (), 0.0, 0.0)

    assert histogram([of(0.0), of(0.5), of(1.5), of(99.0)]) == f"{BARS[-1]}{BARS[-1]} {BARS[-1]}  {BARS[-1]}"
    assert histogram([of(0.0)] * 7 + [of(8.0)]) == f"{BARS[-1]}    {BARS[1]} "
    assert histogram([]) == ""


def test_both_languages_have_every_word_with_the_same_gaps() -> None:
    for name, texts in WORDS.items():
        assert len({frozenset(re.findall(r"{(\w+)", text)) for text in texts}) == 1, name
        assert all(texts), name


def test_an_interruption_keeps_what_was_judged() -> None:
    run = hugging_face_run(PARAMETERS)

    def judge(*_: Any) -> Any:
        yield from list(judged_as()(run))[:5]
        raise KeyboardInterrupt

    report = judged(recording(run), judge)
    assert report.interrupted
    assert len(report.runs[0].calls) == 5
    assert to_dict(report)["interrupted"]
    assert "Interrupted" in printed(report)


def test_ranks_that_part_are_named() -> None:
    one = hugging_face_run(PARAMETERS)
    other = hugging_face_run(PARAMETERS, recorded={"ln_f.bias": PARAMETERS["ln_f.bias"] + np.float32(1)})
    report = judged(recording(one, dataclasses.replace(other, rank=1)), judged_as())
    assert report.exit_code == 1
    assert "step 0: rank 1 and rank 0 have a different ln_f.bias" in printed(report)
    alike = judged(recording(one, dataclasses.replace(one, rank=1)), judged_as())
    assert "2 steps and ranks: parameters are the same" in printed(alike)


def test_a_step_after_an_update_is_judged_by_its_own_parameters() -> None:
    moved = {name: x + np.float32(0.01) for name, x in PARAMETERS.items()}
    first = hugging_face_run(PARAMETERS)

    def report(later: RecordedRun) -> RecordedReport:
        return judged(recording(first, dataclasses.replace(later, step=1)), judged_as(), MODEL)

    right = report(hugging_face_run(moved))
    assert right.exit_code == 0
    assert right.runs[1].stages
    assert "those of an earlier step" in printed(right)
    for text in (printed(right, "zh"), Page(recorded_page(right, "zh")).text):
        assert "按它自己记录的参数评判" in text
    wrong = report(hugging_face_run(moved, change={"h.1.ln_2": lambda x: x * 2}))
    assert wrong.exit_code == 1
    assert wrong.runs[1].first_wrong is not None
    assert wrong.runs[1].first_wrong.name == "h.1.ln_2"
    bare = hugging_face_run(moved)
    few = [dataclasses.replace(call, parameters={}) if call.path.endswith("wpe") else call for call in bare.calls]
    part = report(dataclasses.replace(bare, calls=tuple(few)))
    assert part.exit_code == 0
    assert "not all of its own" in part.runs[1].whole[0].reason
    name = "h.0.attn.c_proj.weight"
    spoilt = report(hugging_face_run({**moved, name: PARAMETERS[name].T.copy()}))
    assert spoilt.exit_code == 1


def test_the_page_fits_any_screen(browser: Any, right: RecordedReport, wrong: RecordedReport, tmp_path: Path) -> None:
    """Nothing is asked of a network, nothing is complained of, and no page is wider than its window."""
    for report, language, width in ((right, "zh", 360), (wrong, "en", 360), (right, "en", 1300)):
        file = tmp_path / f"{language}-{width}.html"
        file.write_text(recorded_page(report, language), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (said, asked) == ([], [file.as_uri()])
        context.close()
