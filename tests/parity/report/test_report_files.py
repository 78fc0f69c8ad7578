"""Files are written whole; Ctrl-C ends a search and not its report; a search goes on where it stopped."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from gpt2.backends import NumPyBackend, get_backend
from gpt2.errors import GPT2Error
from gpt2.files import require_writable, write_text
from gpt2.processes import Work, cores
from parity.check import select
from parity.report import print_results, processes_for
from parity.report.html import page
from parity.report.run import RULES_PER_PROCESS
from tests.parity.report.pieces import ROOT, RULES, Page, printed, validate, without_times
from tests.parity.report.reports import Scripted, Wrong

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
from gpt2.backends import NumPyBackend, get_backend
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


def test_several_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin, kept = "twin:reordered", tmp_path / "kept.json"
    arguments: Any = (select(["relu", "greedy"]), get_backend(twin), 3, 0, None)
    engine = (twin, None, None, None)
    alone, together = print_results(*arguments), print_results(*arguments, engine=engine, processes=2, resume=kept)
    assert without_times(together) == without_times(alone)
    assert len(alone.findings) == len(arguments[0]) > 1
    monkeypatch.setattr(Work, "do", None)  # nothing is judged again
    assert without_times(print_results(*arguments, resume=kept, check=Scripted())) == without_times(alone)


def test_several_processes_stop_when_they_are_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = select(["relu", "softmax"])

    def stop(work: Work, function: Any, tasks: list[Any], keep: Any) -> None:
        keep(function(*tasks[0]))
        work.interrupted = True

    monkeypatch.setattr(Work, "do", stop)
    stopped = print_results(rules, NumPyBackend(), 2, 0, None, engine=("numpy", None, None, None), processes=2)
    assert (stopped.exit_code, [found.function for found in stopped.findings]) == (130, [next(iter(rules))])


def test_processes_are_as_many_as_there_is_work_for() -> None:
    assert processes_for(select(["relu"]), NumPyBackend()) == 1
    assert processes_for(select(), NumPyBackend()) == min(len(cores()), len(select()) // RULES_PER_PROCESS)
    away = NumPyBackend()
    away.device = "Ascend"
    assert processes_for(select(), away) == 1


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
        (lambda text: "[]", r"must be an object, but is \[\]"),
        (lambda text: text.replace("progress/1", "progress/2"), "holds no results of a check"),
        (lambda text: text.replace('"settings"', '"sittings"'), "'settings' must be an object, but is None"),
        (
            lambda text: text.replace('"cases": 3', '"cases": "3"', 1),
            r"'results\[0\]\.cases' must be an integer, but is '3'",
        ),
        (lambda text: text.replace('"blame": "", ', "", 1), r"'results\[0\]' has no field 'blame'"),
        (
            lambda text: text.replace('"case"', '"casing": 1, "case"', 1),
            r"'results\[0\]' has an unknown field 'casing': is 'case' meant",
        ),
    ],
    ids=["cut off", "no object", "other", "no settings", "type", "missing", "unknown"],
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
