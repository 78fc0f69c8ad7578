"""The record of a run: metrics that a resumed run continues without gap or repetition, a log, event files, a plot."""

import datetime
import json
import math
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from gpt2.errors import GPT2Error
from gpt2.training.metrics_file import TrainingLog, perplexity, plot_curves, read_metrics
from tests.gpt2.small import ROOT

FIELDS = ["step", "micro_batch", "loss", "lr", "grad_norm", "scale", "skipped", "tokens", "seconds"]


def update(step: int, **changes: Any) -> dict[str, Any]:
    """What there is to note of an update."""
    facts = {"loss": 3 / step, "lr": 0.1 / step, "grad_norm": 1 / 3, "scale": 65536.0, "skipped": 0}
    return {"step": step, "micro_batch": 4 * step, **facts, "tokens": 512, "seconds": 0.25} | changes


def run(folder: Path, first: int, last: int, resume_step: int | None = None, **options: Any) -> None:
    """Note updates first to last, and an evaluation after every second one."""
    with TrainingLog(folder, resume_step, **options) as kept:
        for step in range(first, last + 1):
            kept.update(**update(step))
            if step % 2 == 0:
                kept.evaluation(step, 2 / step)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The metrics, as any reader of JSON lines sees them."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Metrics.


def test_every_line_is_an_object_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, 1, 2)
    first, second, evaluation = lines(tmp_path)
    assert (first, second) == (update(1), update(2))
    assert list(first) == FIELDS
    assert evaluation == {"step": 2, "validation_loss": 1.0, "perplexity": math.e}
    assert read_metrics(tmp_path / "metrics.jsonl") == [first, second, evaluation]


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with TrainingLog(tmp_path) as kept:
        kept.update(**update(1, loss=math.inf, grad_norm=math.nan, skipped=3))
        kept.evaluation(1, 1000.0)
        kept.evaluation(2, math.nan)
    constants: list[str] = []
    text = (tmp_path / "metrics.jsonl").read_text()
    found = [json.loads(line, parse_constant=constants.append) for line in text.splitlines()]
    assert constants == []
    assert found[0] == update(1, loss=None, grad_norm=None, skipped=3)
    assert found[1] == {"step": 1, "validation_loss": 1000.0, "perplexity": None}
    assert found[2] == {"step": 2, "validation_loss": None, "perplexity": None}


def test_perplexity_is_the_exponential_wherever_it_has_a_value() -> None:
    assert perplexity(0.0) == 1
    assert perplexity(709.0) < perplexity(710.0) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_a_new_run_begins_with_an_empty_file(tmp_path: Path) -> None:
    run(tmp_path / "new" / "folder", 1, 3)
    run(tmp_path / "new" / "folder", 1, 1)
    assert lines(tmp_path / "new" / "folder") == [update(1)]


@given(killed=st.integers(0, 9), resumed=st.integers(0, 9), half=st.integers(0, 200))
def test_a_resumed_run_leaves_the_bytes_of_an_uninterrupted_one(
    killed: int, resumed: int, half: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    run(whole, 1, 9)
    run(broken, 1, killed)
    next_line = (whole / "metrics.jsonl").read_bytes()[(broken / "metrics.jsonl").stat().st_size :].split(b"\n")[0]
    with (broken / "metrics.jsonl").open("ab") as file:
        file.write(next_line[:half])
    step = min(killed, resumed)
    run(broken, step + 1, 9, resume_step=step)
    assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_run_goes_on_without_a_metrics_file(tmp_path: Path) -> None:
    run(tmp_path, 8, 8, resume_step=7)
    assert [fact["step"] for fact in lines(tmp_path)] == [8, 8]


def test_lines_are_there_at_once_and_a_killed_process_loses_none(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from gpt2.training.metrics_file import TrainingLog
from tests.gpt2.training.test_metrics_file import update
kept = TrainingLog(Path({str(tmp_path)!r}), log=Path({str(tmp_path / "train.log")!r}))
kept.update(**update(1))
os.kill(os.getpid(), signal.SIGKILL)
"""
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGKILL")
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert lines(tmp_path) == [update(1)]
    assert len((tmp_path / "train.log").read_text().splitlines()) == 1


@pytest.mark.parametrize("bad", [b"{", b"\xff", b"[1]", b"7", b'{"loss": 1}', b'{"step": "1"}', b'{"step": true}', b""])
def test_a_damaged_line_is_named_and_the_file_left_alone(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + bad + b"\n")
    before = path.read_bytes()
    with pytest.raises(GPT2Error, match=r"metrics\.jsonl: line 2 is not .*: fix the line or remove the file$"):
        TrainingLog(tmp_path, 1)
    with pytest.raises(GPT2Error, match=r"line 2 is not"):
        read_metrics(path)
    assert path.read_bytes() == before


def test_metrics_that_are_missing_are_no_metrics(tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"no metrics in .*metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")


# The log.


def test_the_log_has_a_dated_line_for_everything_and_is_only_added_to(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "train.log"
    with TrainingLog(tmp_path, log=log) as kept:
        kept.note("begins: né")
        kept.update(**update(1))
        kept.update(**update(2, skipped=3))
        kept.evaluation(2, 1.0)
    with TrainingLog(tmp_path, 2, log=log) as kept:
        kept.note("goes on")
    found = log.read_text(encoding="utf-8").splitlines()
    dates = [datetime.datetime.fromisoformat(line[:19]) for line in found]
    assert dates == sorted(dates)
    assert [line[20:] for line in found] == [
        "begins: né",
        "step 1: loss 3.0000, learning rate 0.1, gradient norm 0.333, scale 65536",
        "step 2: loss 1.5000, learning rate 0.05, gradient norm 0.333, scale 65536, micro-batches skipped: 3",
        "step 2: validation loss 1.0000, perplexity 2.718",
        "goes on",
    ]


def test_nothing_but_the_metrics_is_written_unasked(tmp_path: Path) -> None:
    run(tmp_path, 1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


# TensorBoard.


def events(folder: Path) -> list[Event]:
    """The events in a folder, in TensorBoard's order. The format: length, its checksum, an Event, its checksum."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def scalars(found: list[Event]) -> dict[tuple[int, str], float]:
    """The values by step and tag."""
    return {(event.step, value.tag): value.simple_value for event in found for value in event.summary.value}


def test_event_files_hold_the_metrics(tmp_path: Path) -> None:
    run(tmp_path, 1, 2, tensorboard=True)
    found = events(tmp_path)
    assert found[0].file_version == "brain.Event:2"
    assert all(event.wall_time > 0 for event in found)
    noted = [("loss", "loss"), ("lr", "lr"), ("grad_norm", "grad_norm"), ("scale", "scale")]
    expected = {(k, f"training/{tag}"): np.float32(update(k)[name]) for k in (1, 2) for tag, name in noted}
    expected |= {(2, "validation/loss"): np.float32(1), (2, "validation/perplexity"): np.float32(math.e)}
    assert scalars(found) == expected


def test_tensorboard_is_told_what_a_resumed_run_replaces(tmp_path: Path) -> None:
    run(tmp_path, 1, 3, tensorboard=True)
    run(tmp_path, 3, 4, resume_step=2, tensorboard=True)
    found = events(tmp_path)
    starts = [i for i, event in enumerate(found) if event.session_log.status == SessionLog.START]
    assert [found[i].step for i in starts] == [3]
    assert [step for step, tag in scalars(found[: starts[0]]) if tag == "training/loss"] == [1, 2, 3]
    assert [step for step, tag in scalars(found[starts[0] :]) if tag == "training/loss"] == [3, 4]


def test_sync_brings_events_to_disk(tmp_path: Path) -> None:
    with TrainingLog(tmp_path, tensorboard=True) as kept:
        kept.update(**update(1))
        kept.sync()
        assert (1, "training/loss") in scalars(events(tmp_path))


def test_without_tensorboardx_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    run(tmp_path, 1, 1)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(GPT2Error, match=r"^TensorBoard's files need tensorboardX: pip install tensorboardX"):
        TrainingLog(tmp_path, tensorboard=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


# What cannot be written.


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 64 KiB."""
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("options", [{}, {"tensorboard": True}])
def test_a_full_disk_ends_in_one_line(options: dict[str, bool], full_disk: Path) -> None:
    program = f"""
from pathlib import Path
from gpt2.errors import GPT2Error
from tests.gpt2.training.test_metrics_file import run
try:
    run(Path({str(full_disk)!r}), 1, 10_000, **{options})
except GPT2Error as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.count("\n") == 1
    assert ran.stdout.startswith(f"cannot write {full_disk}")
    assert "No space left on device" in ran.stdout
    assert ran.stderr == ""


@pytest.mark.parametrize("options", [{}, {"tensorboard": True}, {"log": True}])
def test_a_place_that_cannot_be_written_to_is_refused_in_one_line(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    below = tmp_path / "file" / "below"
    folder = tmp_path if "log" in options else below
    with pytest.raises(GPT2Error, match=r"^cannot write .*file/below") as caught:
        TrainingLog(folder, **options | ({"log": below} if "log" in options else {}))
    assert "\n" not in str(caught.value)


# The plot.


@pytest.fixture
def series(tmp_path: Path) -> dict[str, Path]:
    """The metrics of two runs, one of them with what is not finite, by their labels."""
    run(tmp_path / "a", 1, 6)
    with TrainingLog(tmp_path / "b") as kept:
        kept.update(**update(1, loss=math.nan))
        kept.update(**update(2))
        kept.evaluation(2, math.inf)
    return {"numpy": tmp_path / "a" / "metrics.jsonl", "mind & spore": tmp_path / "b" / "metrics.jsonl"}


def test_the_plot_draws_every_curve_of_every_run(series: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, *data, **look: drawn.append(data) or plot(axes, *data, **look))
    plot_curves(series, series["numpy"].with_name("curves.png"))
    losses, validation, rates = drawn[:3]
    assert losses == ([1, 2, 3, 4, 5, 6], [3 / step for step in range(1, 7)], "-")
    assert validation == ([2, 4, 6], [2 / step for step in (2, 4, 6)], "o")
    assert rates == ([1, 2, 3, 4, 5, 6], [0.1 / step for step in range(1, 7)], "-")
    assert [data[0] for data in drawn[3:]] == [[1, 2], [2], [1, 2]]


def test_the_plot_is_an_image_that_names_the_runs(series: dict[str, Path], tmp_path: Path) -> None:
    plot_curves(series, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_curves(series, tmp_path / "curves.svg")
    texts = "".join(ElementTree.parse(tmp_path / "curves.svg").getroot().itertext())
    for text in ("numpy, training", "mind & spore, validation", "learning rate", "step"):
        assert text in texts


def test_a_run_that_has_only_begun_can_be_drawn(tmp_path: Path) -> None:
    with TrainingLog(tmp_path):
        plot_curves({"new": tmp_path / "metrics.jsonl"}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_plot_that_fails_leaves_the_old_one(series: dict[str, Path], tmp_path: Path) -> None:
    image = tmp_path / "curves.png"
    image.write_bytes(b"old")
    with pytest.raises(GPT2Error, match="no metrics"):
        plot_curves(series | {"gone": tmp_path / "gone.jsonl"}, image)
    assert image.read_bytes() == b"old"
