"""Records of a training run: metrics as JSON lines, a log, TensorBoard event files, and a plot."""

import datetime
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from gpt2.errors import GPT2Error
from gpt2.files import write_whole

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"
UPDATE_TAGS = {name: f"training/{name}" for name in ("loss", "lr", "grad_norm", "scale")}
EVALUATION_TAGS = {name: f"validation/{name.removeprefix('validation_')}" for name in ("validation_loss", "perplexity")}


def perplexity(loss: float) -> float:
    """exp of a mean loss; infinity if a float cannot hold it."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class TrainingLog:
    """Writes folder/metrics.jsonl and, on request, a log and folder/tensorboard.

    A run that resumes after resume_step first cuts off later metrics, and an incomplete last line. resume_step None
    starts a new file. The log is only appended to. Raises GPT2Error if tensorboardX is needed but not installed, if
    the old metrics are damaged, or if a file cannot be written.
    """

    def __init__(
        self, folder: Path, resume_step: int | None = None, tensorboard: bool = False, log: Path | None = None
    ) -> None:
        path = folder / METRICS
        lines = [] if resume_step is None else _read_lines(path)
        self._events = _Events(folder / TENSORBOARD, resume_step) if tensorboard else None
        with write_whole(path) as part:
            part.write_bytes(b"".join(line for line, fact in lines if fact["step"] <= resume_step))
        self._metrics = _Lines(path)
        self._log = None if log is None else _Lines(log)

    def update(
        self,
        *,
        step: int,
        micro_batch: int,
        loss: float,
        lr: float,
        grad_norm: float,
        scale: float,
        skipped: int,
        tokens: int,
        seconds: float,
    ) -> None:
        """Record update number `step` of the weights, after micro-batch `micro_batch`.

        skipped: micro-batches since the last update that were skipped, as their gradients overflowed.

        In the file, a number that is not finite is null, as JSON has no such number.
        """
        facts = {"loss": loss, "lr": lr, "grad_norm": grad_norm, "scale": scale}
        rest = {"skipped": skipped, "tokens": tokens, "seconds": seconds}
        self._add({"step": step, "micro_batch": micro_batch, **facts, **rest}, UPDATE_TAGS)
        outcome = f", micro-batches skipped: {skipped}" if skipped else ""
        self.note(
            f"step {step}: loss {loss:.4f}, learning rate {lr:.3g}, gradient norm {grad_norm:.3g}, "
            f"scale {scale:g}{outcome}"
        )

    def evaluation(self, step: int, validation_loss: float) -> None:
        """Record the mean loss on held-out data after update number `step`, and its perplexity."""
        facts = {"validation_loss": validation_loss, "perplexity": perplexity(validation_loss)}
        self._add({"step": step, **facts}, EVALUATION_TAGS)
        self.note(f"step {step}: validation loss {validation_loss:.4f}, perplexity {facts['perplexity']:.4g}")

    def note(self, text: str) -> None:
        """Append a line to the log, if there is one."""
        if self._log is not None:
            now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
            self._log.add(f"{now} {text}")

    def sync(self) -> None:
        """Sync all records to disk. Call it before writing a checkpoint, which needs the metrics up to its step."""
        self._metrics.sync()
        if self._events is not None:
            self._events.sync()

    def close(self) -> None:
        """Close the files."""
        for file in (self._metrics, self._log, self._events):
            if file is not None:
                file.close()

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, facts: Mapping[str, float], tags: Mapping[str, str]) -> None:
        plain = {name: x if math.isfinite(x) else None for name, x in facts.items()}
        self._metrics.add(json.dumps(plain, allow_nan=False))
        if self._events is not None:
            self._events.add(int(facts["step"]), {tag: facts[name] for name, tag in tags.items()})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every complete line of a metrics file. Raises GPT2Error if the file is missing or damaged."""
    if not path.is_file():
        raise GPT2Error(f"no metrics in {path}: expected the {METRICS} of a training run")
    return [fact for _, fact in _read_lines(path)]


def plot_curves(series: Mapping[str, Path], image: Path) -> None:
    """Plot the metrics files of labelled runs: training loss (thin), validation loss (points), learning rate.

    The image is a PNG, SVG or PDF, by its suffix. Raises GPT2Error if a file cannot be read or written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for number, (label, path) in enumerate(series.items()):
        metrics, colour = read_metrics(path), f"C{number}"
        _draw(losses, metrics, "loss", "-", color=colour, linewidth=0.7, alpha=0.7, label=f"{label}, training")
        _draw(losses, metrics, "validation_loss", "o", color=colour, markersize=5, label=f"{label}, validation")
        _draw(rates, metrics, "lr", "-", color=colour, linewidth=1)
    losses.set_ylabel("loss")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")  # hides no curve there
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    for axes in (losses, rates):
        axes.grid(linewidth=0.4)
    with write_whole(image) as part:
        figure.savefig(part, dpi=150)


def _draw(axes: Any, metrics: list[dict[str, Any]], name: str, style: str, **look: Any) -> None:
    points = [(fact["step"], fact[name]) for fact in metrics if name in fact]
    axes.plot([step for step, _ in points], [y for _, y in points], style, **look)  # None leaves a gap


def _read_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
    return [
        (line, _fact(line, f"{path}: line {number}"))
        for number, line in enumerate(lines, start=1)
        if line.endswith(b"\n")
    ]


def _fact(line: bytes, where: str) -> dict[str, Any]:
    try:
        fact = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{where} is not valid JSON ({error}): fix the line or remove the file") from error
    if not isinstance(fact, dict) or type(fact.get("step")) is not int:
        raise GPT2Error(f"{where} is not an object with an integer 'step': fix the line or remove the file")
    return fact


class _Lines:
    """A text file to append whole lines to, each unbuffered, so that a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _refusal(path, error) from error

    def add(self, line: str) -> None:
        """Append a line."""
        rest = f"{line}\n".encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _refusal(self._path, error) from error

    def sync(self) -> None:
        """Sync the lines to disk, so that they survive a power failure."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _refusal(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Events:
    """Writes event files for TensorBoard.

    It uses tensorboardX's EventsWriter. SummaryWriter writes from a thread that a full disk ends, and the run would
    then wait for it forever.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.summary import scalar
        except ImportError as error:
            raise GPT2Error(
                "TensorBoard's files need tensorboardX: pip install tensorboardX, or do without them"
            ) from error
        self._folder, self._event, self._scalar = folder, Event, scalar
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The library's file names have seconds only: a run resumed within a second would overwrite its file.
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        except OSError as error:
            raise _refusal(folder, error) from error
        if resume_step is not None:  # makes TensorBoard hide later steps of earlier files
            self._write(Event(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the value of each tag at this step."""
        for tag, x in values.items():
            self._write(self._event(step=step, summary=self._scalar(tag, x)))

    def sync(self) -> None:
        """Write all events to disk."""
        try:
            self._writer.flush()
        except OSError as error:
            raise _refusal(self._folder, error) from error

    def close(self) -> None:
        """Close the file."""
        try:
            self._writer.close()
        except OSError as error:
            raise _refusal(self._folder, error) from error

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        try:
            self._writer.write_event(event)
        except OSError as error:
            raise _refusal(self._folder, error) from error


def _refusal(path: Path, error: OSError) -> GPT2Error:
    return GPT2Error(f"cannot write {path}: {error.strerror}; make room, or name a place that can be written to")
