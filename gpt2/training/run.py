"""A training run, from a file of text to a GPT-2 folder, that can be interrupted and resumed.

The rows of a micro-batch and its dropout masks depend only on the seed and the micro-batch's number. So a checkpoint
needs only the trainer's state and a few numbers, and a resumed run ends with the same weights as an uninterrupted
one.
"""

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends import Array, Backend, Batch, Trainer, get_backend, require_trainer
from gpt2.data.settings import get_pipeline
from gpt2.errors import GPT2Error, counted
from gpt2.files import PART
from gpt2.interrupt import Interrupt, postponed_interrupt
from gpt2.model import hf_folder
from gpt2.model.tensors import WEIGHTS
from gpt2.training import recipe
from gpt2.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    read_checkpoint,
    remove_old_checkpoints,
    write_checkpoint,
    write_weights,
)
from gpt2.training.metrics_file import METRICS, TrainingLog, perplexity, plot_curves
from gpt2.training.plan import Plan, make_plan, require_as_before, write_beginning
from reference.config import StepReport, parameter_shapes
from reference.train import count_scored

CHECKPOINTS, CURVES = "checkpoints", "curves.png"
STEPS, BATCH_SIZE, SEED = 1000, 12, 0
LOSSES = ("losses", "weights", "loss", "validation_loss")  # fields of a run that its checkpoints hold
MOST_SKIPPED = 1000  # micro-batches in a row; the largest dynamic scale of float32 falls to 1 in 127


@dataclasses.dataclass(frozen=True)
class TrainingProgress:
    """Progress of a run after an update. tokens_per_second is that of the last update."""

    step: int
    steps: int
    loss: float
    lr: float
    scale: float
    tokens_per_second: float
    validation_loss: float


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The result of a run. A loss that was not measured is NaN."""

    folder: Path
    step: int
    loss: float
    validation_loss: float
    interrupted: bool
    plan: "Plan" = dataclasses.field(repr=False, compare=False)

    @property
    def perplexity(self) -> float:
        """exp of the validation loss."""
        return perplexity(self.validation_loss)


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    model: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    save_every: int | None = None,
    keep: int = 3,
    eval_every: int | None = None,
    eval_batches: int = 200,
    resume: bool = False,
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str | None = None,
    mode: str | None = None,
    pipeline: str | None = None,
    text: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    tensorboard: bool = False,
    log: str | os.PathLike[str] | None = None,
    watch: Callable[[TrainingProgress], Any] | None = None,
    on_start: Callable[[Plan], Any] | None = None,
    on_interrupt: Callable[[], Any] | None = None,
) -> TrainingResult:
    """Train a GPT-2 on a file of text, JSON or a table, and write it to a folder that `gpt2.load` reads.

    config: settings, a JSON file or a mapping (docs/training.md); model: a folder with the weights to start from
    (default: new weights); steps: weight updates (default 1000), each on batch_size (12) rows times accumulate_step;
    save_every, eval_every: steps between checkpoints, and between evaluations on held-out data (default: ten of each
    per run); keep: number of checkpoints to keep; eval_batches: most batches per evaluation.
    resume: continue from the last checkpoint in output, with the same result as without the interruption. Settings
    that affect the weights (data, config, steps, batch_size, seed) must not change; all but data may be left out.
    The backend may change. pipeline: "numpy" or "mindspore", to read rows. text, format, encoding: override the data
    settings `field`, `format` and `encoding`. watch: a callback after every update; on_start: before the first, with
    the run's plan; on_interrupt: in the signal handler, at once.
    Ctrl-C or SIGTERM ends the run with a checkpoint. Raises GPT2Error, one line, for anything missing, damaged or
    contradictory, or changed since the checkpoint.
    """
    for name, number in (
        ("steps", steps),
        ("batch_size", batch_size),
        ("save_every", save_every),
        ("keep", keep),
        ("eval_every", eval_every),
        ("eval_batches", eval_batches),
    ):
        if number is not None and not (type(number) is int and number >= 1):
            raise GPT2Error(f"{name} must be an integer of at least 1, but is {number!r}")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**64):
        raise GPT2Error(f"seed must be an integer from 0 to 2**64 - 1, but is {seed!r}")
    engine = get_backend(backend, device, dtype, mode) if backend is None or isinstance(backend, str) else backend
    given: dict[str, Any] = {
        "config": None if config is None else recipe.sections_for(config, Path(data), format, encoding),
        "model": None if model is None else str(model),
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
    }
    changed = {"field": text, "format": format, "encoding": encoding}
    given["data"] = {name: value for name, value in changed.items() if value is not None}
    run = _open_run(Path(data), Path(output), given, resume, engine, pipeline, keep)
    if run.step == run.plan.recipe.steps:
        warnings.warn(f"{output} was finished already, after {counted(run.step, 'step')}: none is left", stacklevel=2)
    else:
        note = recipe.shortened_warm_up(run.plan.given["config"], run.plan.recipe, config)
        if note:
            warnings.warn(note, stacklevel=2)
        if on_start is not None:
            on_start(run.plan)
    often = max(1, run.plan.recipe.steps // 10)
    with TrainingLog(run.folder, run.step, tensorboard, None if log is None else Path(log)) as record:
        loop = _Loop(
            run, record, save_every or often, eval_every or often, eval_batches, watch or (lambda progress: None)
        )
        # The loop itself reports overflows, so NumPy need not warn.
        with postponed_interrupt(on_interrupt) as interrupt, np.errstate(over="ignore", invalid="ignore"):
            loop.go(interrupt)
    interrupted = run.step < run.plan.recipe.steps
    if not interrupted:
        write_weights(run.folder / WEIGHTS, run.trainer.parameters())
    plot_curves({engine.name: run.folder / METRICS}, run.folder / CURVES)
    return TrainingResult(run.folder, run.step, run.loss, run.validation_loss, interrupted, run.plan)


def _open_run(
    data: Path, folder: Path, given: dict[str, Any], resume: bool, engine: Backend, pipeline: str | None, keep: int
) -> "_Run":
    """Resume the run in folder from its last checkpoint, or start a new run and write its first checkpoint."""
    checkpoint = _last_checkpoint(folder, resume)
    # A new run writes config.json last, so if it exists, the tokenizer does too.
    begun = folder if checkpoint is not None and (folder / hf_folder.CONFIG).is_file() else None
    plan = make_plan(data, _complete(given, checkpoint), pipeline, begun)
    if checkpoint is not None:
        require_as_before(plan, checkpoint)
    run = _Run(folder, plan, _trainer(engine, plan, checkpoint), keep)
    if checkpoint is None:
        run.save()  # now, so that a full disk is noticed at once and not hours later
    else:
        run.restore(checkpoint)
        remove_old_checkpoints(folder / CHECKPOINTS, keep)  # a run that was killed may have left one more
    write_beginning(folder, plan, engine.dtype)
    return run


def _last_checkpoint(folder: Path, resume: bool) -> Checkpoint | None:
    """The checkpoint to resume from; None for a new run. Raises GPT2Error if the folder holds something else."""
    path = latest_checkpoint(folder / CHECKPOINTS)
    if path is None and not _is_free(folder):
        raise GPT2Error(f"{folder} exists and is not a folder of a training run: name another one, or remove it first")
    if path is not None and not resume:
        raise GPT2Error(f"{folder} holds a training run: give --resume to resume it, or name another folder")
    return None if path is None else _read(path)


def _is_free(folder: Path) -> bool:
    """Whether the folder is empty, except for partial files of a run that was killed in its first checkpoint."""
    half_written = f"{CHECKPOINTS}/.step-*{PART}"
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return not folder.exists() or (folder.is_dir() and all(path.parent.match(half_written) for path in files))


def settings_before(folder: Path) -> dict[str, Any] | None:
    """The settings (config, model, steps, batch_size, seed) of the run in folder; None if it holds no run.

    Raises GPT2Error if its last checkpoint is damaged.
    """
    path = latest_checkpoint(folder / CHECKPOINTS)
    return None if path is None else _read(path).facts["given"]


def _read(path: Path) -> Checkpoint:
    """Read a checkpoint. Runs of earlier versions, which do not name `split`, held out the last samples."""
    checkpoint = read_checkpoint(path)
    if "split" not in checkpoint.facts["recipe"]["data"]:
        for settings in (checkpoint.facts["recipe"], checkpoint.facts["given"]["config"]):
            settings["data"]["split"] = "last"
    return checkpoint


def _complete(given: dict[str, Any], checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The given settings, completed by those of the resumed run, or by the defaults.

    "data" holds settings that go before those of the section of this name.
    """
    data = given.pop("data")
    before: dict[str, Any] = {
        "config": recipe.read_sections(None),
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "seed": SEED,
    }
    if checkpoint is not None:
        before = checkpoint.facts["given"]
    made: dict[str, Any] = {name: before.get(name) if value is None else value for name, value in given.items()}
    config = made["config"]
    return made | {"config": config | {"data": config["data"] | data}}


def _trainer(engine: Backend, plan: Plan, checkpoint: Checkpoint | None) -> Trainer:
    require_trainer(engine)
    config, given = plan.recipe.model, plan.parameters() if checkpoint is None else checkpoint.parameters
    # Always in the same order, whatever the file's, as the gradient norm is a sum whose rounding depends on it.
    parameters = {name: given[name] for name in parameter_shapes(config, plan.head)}
    try:
        trainer = engine.trainer(config, parameters, plan.recipe.training)
    except ValueError as error:  # a dtype that the backend cannot train in
        raise GPT2Error(str(error)) from error
    if checkpoint is not None:
        try:
            trainer.load_state(checkpoint.parameters, checkpoint.state)
        except ValueError as error:  # made by an earlier version, whose trainers kept something else
            raise GPT2Error(f"the run cannot be resumed: {error}, or begin a new run") from error
    return trainer


@dataclasses.dataclass
class _Run:
    """The state of a run, and saving and restoring it."""

    folder: Path
    plan: Plan
    trainer: Trainer
    keep: int
    step: int = 0
    micro_batch: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    """Losses of the micro-batches since the last update; NaN for a skipped one."""
    weights: list[float] = dataclasses.field(default_factory=list)
    """What each of them counts in the loss of the update: its scored labels, or 1 under "micro_batches"."""
    skipped: int = 0
    """Number of micro-batches skipped before the last update."""
    loss: float = math.nan
    validation_loss: float = math.nan
    saved: int | None = None
    """The value of micro_batch in the last checkpoint."""

    def save(self) -> None:
        """Write a checkpoint."""
        facts = self.plan.facts() | {name: getattr(self, name) for name in LOSSES}
        state = Checkpoint(self.step, self.micro_batch, self.trainer.parameters(), self.trainer.state(), facts)
        write_checkpoint(self.folder / CHECKPOINTS, state, self.keep)
        self.saved = self.micro_batch

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore everything but the trainer, which is restored already."""
        self.step, self.micro_batch, self.saved = checkpoint.step, checkpoint.micro_batch, checkpoint.micro_batch
        for name in LOSSES:
            setattr(self, name, checkpoint.facts.get(name, getattr(self, name)))


def _mean(losses: list[float], weights: list[float]) -> float:
    """The mean of the losses that are numbers, by weight; the plain one if no label was scored."""
    known = [(loss, weight) for loss, weight in zip(losses, weights, strict=True) if not math.isnan(loss)]
    values, shares = zip(*known, strict=True)
    return float(np.average(values, weights=shares if any(shares) else None))


@dataclasses.dataclass
class _Loop:
    """The training loop: micro-batches, and after an update the evaluation or checkpoint that is due."""

    run: _Run
    record: TrainingLog
    save_every: int
    eval_every: int
    eval_batches: int
    watch: Callable[[TrainingProgress], Any]
    overflows: int = 0
    """Consecutive micro-batches that overflowed."""

    def go(self, interrupt: Interrupt) -> None:
        """Train to the end or to an interrupt, then write a checkpoint."""
        run, steps = self.run, self.run.plan.recipe.steps
        rows, began = self._rows(), time.perf_counter()
        while run.step < steps and not interrupt.asked:
            report = self._micro_batch(next(rows))
            if not report.updated:
                continue
            self._record_update(report, time.perf_counter() - began)
            if run.step % self.eval_every == 0 or run.step == steps:
                self._evaluate()
            if run.step % self.save_every == 0:
                self._save()
            began = time.perf_counter()
        if run.micro_batch != run.saved:
            self._save()

    def _rows(self) -> Iterator[dict[str, Array]]:
        made = self.run.plan.recipe
        pipeline = get_pipeline(made.data.pipeline)
        return pipeline.batches(self.run.plan.corpus.training, made.batch_size, made.seed, self.run.micro_batch)

    def _micro_batch(self, rows: dict[str, Array]) -> StepReport:
        run = self.run
        report = run.trainer.step(run.plan.batch(rows, run.micro_batch))
        by_tokens = run.plan.recipe.training.accumulation == "tokens"
        self.overflows = 0 if report.finite else self.overflows + 1
        if not report.finite and (report.scale <= 1 or self.overflows == MOST_SKIPPED):
            raise GPT2Error(
                f"the gradients of micro-batch {run.micro_batch} (step {run.step + 1}) are not finite, at loss scale "
                f"{report.scale:g}: lower learning_rate, clip with max_grad_norm, or take a level with less float16"
            )
        run.micro_batch += 1
        run.losses.append(report.loss if report.finite else math.nan)
        run.weights.append(self._scored(rows) if by_tokens else 1)
        if report.updated:
            run.step, run.loss = run.step + 1, _mean(run.losses, run.weights)
            run.skipped, run.losses, run.weights = int(np.isnan(run.losses).sum()), [], []
        return report

    def _record_update(self, report: StepReport, seconds: float) -> None:
        run, made = self.run, self.run.plan.recipe
        tokens = run.plan.corpus.training["ids"].shape[1] * made.batch_size * made.training.accumulate_step
        self.record.update(
            step=run.step,
            micro_batch=run.micro_batch,
            loss=run.loss,
            lr=report.lr,
            grad_norm=report.grad_norm,
            scale=report.scale,
            skipped=run.skipped,
            tokens=tokens,
            seconds=seconds,
        )
        self.watch(
            TrainingProgress(
                run.step, made.steps, run.loss, report.lr, report.scale, tokens / seconds, run.validation_loss
            )
        )

    def _evaluate(self) -> None:
        """Measure and record the mean loss of all scored tokens of the held-out rows."""
        losses, counts = [], []
        for rows, count in self._held_out():
            losses.append(self.run.trainer.loss(Batch(**rows)))
            counts.append(count)
        if sum(counts) == 0:
            return
        self.run.validation_loss = float(np.average(losses, weights=counts))
        self.record.evaluation(self.run.step, self.run.validation_loss)

    def _held_out(self) -> Iterator[tuple[dict[str, Array], int]]:
        """Yield batches of held-out rows in order, all of one shape, and the number of tokens or labels scored in each.

        The last batch is padded with rows in which nothing is scored.
        """
        made, held_out = self.run.plan.recipe, self.run.plan.corpus.held_out
        empty = {"labels": made.training.ignore_index, "attention_mask": 1, "ids": 0}
        for first in range(0, min(len(held_out["ids"]), self.eval_batches * made.batch_size), made.batch_size):
            rows = {name: x[first : first + made.batch_size] for name, x in held_out.items()}
            short = made.batch_size - len(rows["ids"])
            full = {
                name: np.pad(x, [(0, short)] + [(0, 0)] * (x.ndim - 1), constant_values=empty[name])
                for name, x in rows.items()
            }
            yield full, self._scored(full)

    def _scored(self, rows: dict[str, Array]) -> int:
        """How many labels of the rows the loss is a mean over."""
        ignore_index = self.run.plan.recipe.training.ignore_index
        return int(count_scored(rows["labels"], rows.get("attention_mask"), ignore_index))

    def _save(self) -> None:
        self.record.sync()
        self.run.save()
