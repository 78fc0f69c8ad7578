"""What a training run leaves to be read: metrics as JSON lines, a log, TensorBoard's event files, and a plot."""

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
    """e to the power of a mean loss; infinite where that is more than a float can hold."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class TrainingLog:
    """The files of a run: folder/metrics.jsonl, and on request a log and folder/tensorboard.

    A run that goes on after resume_step finds the metrics as they were then: later lines are cut off, as is a last line
    that is only half written. resume_step None starts anew. The log is only ever added to. Raises GPT2Error if
    tensorboardX is wanted but absent, if metrics to go on from are damaged, or if a file cannot be written.
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
        """Note one update of the weights: number `step`, after micro-batch `micro_batch`.

        skipped: micro-batches since the last update that were passed over, as their gradients overflowed.

        In the file, a number that is not finite is null, as JSON knows no other word for it.
        """
        facts = {"loss": loss, "lr": lr, "grad_norm": grad_norm, "scale": scale}
        rest = {"skipped": skipped, "tokens": tokens, "seconds": seconds}
        self._add({"step": step, "micro_batch": micro_batch, **facts, **rest}, UPDATE_TAGS)
        outcome = f", micro-batches passed over: {skipped}" if skipped else ""
        self.note(
            f"step {step}: loss {loss:.4f}, learning rate {lr:.3g}, gradient norm {grad_norm:.3g}, "
            f"scale {scale:g}{outcome}"
        )

    def evaluation(self, step: int, validation_loss: float) -> None:
        """Note the mean loss on held-out data after update number `step`, and its perplexity."""
        facts = {"validation_loss": validation_loss, "perplexity": perplexity(validation_loss)}
        self._add({"step": step, **facts}, EVALUATION_TAGS)
        self.note(f"step {step}: validation loss {validation_loss:.4f}, perplexity {facts['perplexity']:.4g}")

    def note(self, text: str) -> None:
        """Add a line to the log, if there is one."""
        if self._log is not None:
            now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
            self._log.add(f"{now} {text}")

    def sync(self) -> None:
        """Have all that was noted on disk. Before a checkpoint is written: it must not outlive the lines up to it."""
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
    """Every line of a metrics file that is written to its end. Raises GPT2Error if it is missing or damaged."""
    if not path.is_file():
        raise GPT2Error(f"no metrics in {path}: expected the {METRICS} of a training run")
    return [fact for _, fact in _read_lines(path)]


def plot_curves(series: Mapping[str, Path], image: Path) -> None:
    """Draw the metrics files of runs by their labels: training loss (thin), validation loss (points), learning rate.

    The image is a PNG, SVG or PDF, as its name says. Raises GPT2Error if a file cannot be read or written.
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
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")  # it hides no curve there
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
        raise GPT2Error(f"{where} is not valid JSON ({error}): mend the line or remove the file") from error
    if not isinstance(fact, dict) or type(fact.get("step")) is not int:
        raise GPT2Error(f"{where} is not an object with a whole number 'step': mend the line or remove the file")
    return fact


class _Lines:
    """A text file that grows by whole lines, each handed to the system at once: a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _refusal(path, error) from error

    def add(self, line: str) -> None:
        """Add a line."""
        rest = f"{line}\n".encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _refusal(self._path, error) from error

    def sync(self) -> None:
        """Have the lines outlive a power cut."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _refusal(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Events:
    """Event files for TensorBoard.

    tensorboardX's SummaryWriter writes from a thread, which a full disk ends: then the run would wait for it for ever.
    So this uses what lies below it.
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
            # The library's name ends with the second: a run resumed within it would overwrite its own file.
            self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        except OSError as error:
            raise _refusal(folder, error) from error
        if resume_step is not None:  # TensorBoard then hides what earlier files hold from this step on
            self._write(Event(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the value of each tag at this step."""
        for tag, x in values.items():
            self._write(self._event(step=step, summary=self._scalar(tag, x)))

    def sync(self) -> None:
        """Have all events on disk."""
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
