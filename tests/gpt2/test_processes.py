"""Work spread over processes: all of it is done, or what was done until Ctrl-C is kept."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpt2.commands.main import cli
from gpt2.errors import GPT2Error
from gpt2.processes import Work, cores

ROOT = Path(__file__).parents[2]


def test_every_task_is_done_and_watched() -> None:
    watched: list[tuple[int, int]] = []
    work = Work(2, lambda *counts: watched.append(counts))
    assert sorted(work.do(math.gcd, [(12, 18), (8, 20), (7, 3)])) == [((7, 3), 1), ((8, 20), 4), ((12, 18), 6)]
    assert watched == [(1, 3), (2, 3), (3, 3)]
    assert not work.interrupted


def test_what_a_task_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="domain"):
        Work(1).do(math.sqrt, [(4.0,), (-1.0,)])


def test_nothing_is_left_of_temporary_files() -> None:
    [(_, folder)] = Work(1).do(tempfile.mkdtemp, [()])
    assert not Path(folder).exists()


def test_results_are_kept_as_they_come_in() -> None:
    kept: list[float] = []
    Work(2).do(math.sqrt, [(4.0,), (9.0,)], kept.append)
    assert sorted(kept) == [2.0, 3.0]


def test_processes_have_cores_of_their_own() -> None:
    found = Work(len(cores())).do(_cores_after, [(0.5,) for _ in cores()])
    assert sorted(core for _, share in found for core in share) == cores()


def _cores_after(seconds: float) -> list[int]:
    time.sleep(seconds)  # so that the other process gets the other task
    return cores()


def test_a_process_that_dies_is_told_in_a_line() -> None:
    with pytest.raises(GPT2Error, match="one of 2 processes died"):
        Work(2).do(os._exit, [(9,), (9,)])


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM], ids=lambda asked: asked.name)
def test_work_stops_when_it_is_asked_to(asked: signal.Signals) -> None:
    program = """
import multiprocessing, sys, time
from gpt2.processes import Work

if __name__ == "__main__":
    work = Work(2, lambda *counts: print(*counts, file=sys.stderr, flush=True))
    found = work.do(time.sleep, [(0,), (60,), (61,), (62,)])
    print(work.interrupted, [task for task, _ in found], multiprocessing.active_children())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "1 4\n"
    for _ in range(2):  # as `timeout` sends it
        process.send_signal(asked)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("True [(0,)] []\n", "", 0)


@pytest.mark.parametrize("of_them", ["--mutants", "--other-rules"])
def test_an_interrupted_trial_shows_what_it_found(
    of_them: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(work: Work, *_: Any) -> list[Any]:
        work.interrupted = True
        return []

    monkeypatch.setattr(Work, "do", stop)
    page = tmp_path / "page.md"
    shown = CliRunner().invoke(cli, ["check", of_them, "--markdown", str(page)])
    facts = CliRunner().invoke(cli, ["check", of_them, "--json"])
    assert (shown.exit_code, facts.exit_code) == (130, 130)
    assert "interrupted: these are the results so far" in shown.stderr
    assert f"{page} was not written" in shown.stderr
    assert not page.exists()
    assert ("not seen yet" in shown.stdout) == (of_them == "--mutants")
    assert "SURVIVES" not in shown.stdout
    assert json.loads(facts.stdout)["interrupted"]
