"""A run that a signal stops leaves a checkpoint, from which it goes on to the same end."""

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gpt2.interrupt import postponed_interrupt
from gpt2.training import run as training_run
from gpt2.training.checkpoint import latest_checkpoint, read_checkpoint
from tests.gpt2.command import Ran, run
from tests.gpt2.small import ROOT
from tests.gpt2.training.runs import LEARNING, WEIGHTS, command, same_run, train


def interrupt_outside(arguments: list[Any], folder: Path, number: int) -> Ran:
    """The command in a process of its own, sent a signal once it has learnt something."""
    words = [sys.executable, "-m", "gpt2", *map(str, arguments)]
    process = subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    noted = folder / "metrics.jsonl"
    while process.poll() is None and not (noted.is_file() and noted.read_bytes().count(b"\n") >= 2):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_ends_the_run_with_a_checkpoint(number: int, text: Path, tmp_path: Path) -> None:
    steps = 300
    options = {"steps": steps, "save-every": steps, "eval-every": steps, "backend": "numpy"}
    ran = interrupt_outside(command(text, tmp_path / "run", **options), tmp_path / "run", number)
    path = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert path is not None
    reached = read_checkpoint(path).step
    assert 0 < reached < steps
    heard, stopped = (line for line in ran.said.splitlines() if line)
    assert heard == "gpt2: interrupted: this step is finished first, and a checkpoint is written"
    assert (ran.code, stopped) == (130, f"gpt2: interrupted at step {reached}: --resume continues from there")
    assert not (tmp_path / "run" / WEIGHTS).exists()
    assert run(*command(text, tmp_path / "run", "--resume", **options)).result
    assert run(*command(text, tmp_path / "whole", **options)).result
    assert same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("micro_batches", range(2 * LEARNING["accumulate_step"] + 1))
def test_a_run_stopped_after_any_micro_batch_goes_on_to_the_same_end(
    micro_batches: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the first, and between two that make one update."""
    train(text, tmp_path / "whole")
    step, taken = training_run._Loop._micro_batch, 0

    def counted(loop: Any, rows: Any) -> Any:
        nonlocal taken
        taken += 1
        report = step(loop, rows)
        if taken == micro_batches:
            signal.raise_signal(signal.SIGINT)
        return report

    with monkeypatch.context() as patched:
        patched.setattr(training_run._Loop, "_micro_batch", counted)
        if micro_batches == 0:
            patched.setattr(training_run._Loop, "_rows", lambda _: signal.raise_signal(signal.SIGINT))
        stopped = train(text, tmp_path / "run")
    assert (stopped.step, stopped.interrupted) == (micro_batches // 2, True)
    result = train(text, tmp_path / "run", resume=True)
    assert dataclasses.replace(result, folder=tmp_path / "whole") == train(text, tmp_path / "whole", resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


def test_signals_are_noted_in_between_only_and_left_alone_in_threads() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    told = []
    with postponed_interrupt(lambda: told.append("once")) as interrupt:
        assert not interrupt.asked
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked
        signal.raise_signal(signal.SIGINT)
        assert told == ["once"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    seen = []

    def elsewhere() -> None:
        with postponed_interrupt() as interrupt:
            seen.append(interrupt.asked)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
