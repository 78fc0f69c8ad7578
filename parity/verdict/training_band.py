"""Judge training runs by a tolerance band that is measured from the reference's own rounding.

Two runs that differ by one rounding diverge slowly, so no fixed tolerance fits every step. The reference trains several
times on equivalent forms of the model: its channels, heads and units in another order, its results rounded up or down
at random. Their largest distance to the float64 oracle, up to each step, is the band that losses must stay in.
Weights, moments and the norms of the gradients are judged in the same way.
"""

import dataclasses
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Batch, NumPyBackend, Trainer
from gpt2.data.dropout_masks import draw_keep
from parity.cases.cases import Case
from parity.cases.contracts import contracts, split_axes, tree_axes
from parity.verdict import orbit
from parity.verdict.trial import Trial
from parity.verdict.verdict import Reference, Verdict, identical
from reference.config import (
    ACCUMULATIONS,
    LEVELS,
    OPTIMIZERS,
    SCHEDULES,
    GPT2Config,
    StepReport,
    TrainingConfig,
    axis_sizes,
    flatten,
    nest,
    parameter_axes,
)
from reference.stages import observing

Array = NDArray[Any]
MICRO_BATCHES = 6  # of a drawn course
# Members of the band of a trial: few that may be enough, because noise only grows with them, and many before an
# objection, because in float16 one rounding in a dozen runs may part a run from the others.
FEW, MANY = 3, 24
SAME = ("finite", "updated", "scale")  # fields of a report that rounding cannot change


@dataclasses.dataclass(frozen=True)
class Course:
    """The plan of a training run: the initial parameters, the settings, and the micro-batches in order."""

    config: GPT2Config
    parameters: Mapping[str, Array]
    settings: TrainingConfig
    batches: Sequence[Batch]

    @property
    def head(self) -> str:
        """The head that is trained."""
        return "sequence_classifier" if "score.weight" in self.parameters else "language_model"


@dataclasses.dataclass(frozen=True)
class TrainedOutcome:
    """The outcome of a course: the report of every micro-batch, then the weights and the moments, "m.<name>"."""

    reports: list[StepReport]
    arrays: dict[str, Array]

    def field(self, name: str) -> Array:
        """One field of all reports, (steps,)."""
        return np.array([getattr(report, name) for report in self.reports])


def train(course: Course, trainer: Trainer) -> TrainedOutcome:
    """Run a course with a trainer that was just made from the course's parameters and settings."""
    reports = [trainer.step(batch) for batch in course.batches]
    moments = {name: x for name, x in trainer.state().items() if name.startswith(("m.", "v."))}
    return TrainedOutcome(reports, trainer.parameters() | moments)


@dataclasses.dataclass(frozen=True)
class Band:
    """What an outcome has to agree with: the float64 oracle, and the float32 runs of the orbit, the plain one first."""

    oracle: TrainedOutcome
    orbit: list[TrainedOutcome]

    def losses(self) -> list[Reference]:
        """The reference of the loss of every step: its noise is the largest of all steps so far."""
        return self._steps("loss")

    def _steps(self, field: str) -> list[Reference]:
        """The references of one field of the reports; NaN, for a missing value, must be NaN."""
        exact = self.oracle.field(field).astype(np.float64)
        runs = [run.field(field).astype(np.float64) for run in self.orbit]
        noise = np.maximum.accumulate(np.max([np.nan_to_num(np.abs(run - exact)) for run in runs], axis=0))
        edges = [runs[0], exact - noise, exact + noise]
        return [
            Reference(exact[i], [edge[i].astype(np.float32) for edge in edges], name=f"{field} of step {i}")
            for i in range(len(exact))
        ]

    def judge(self, outcome: TrainedOutcome) -> Iterator[Verdict]:
        """The verdicts on all parts of an outcome of the course."""
        for name in SAME:
            yield identical(outcome.field(name), self.orbit[0].field(name))
        for name in ("loss", "grad_norm", "lr"):
            for reference, value in zip(self._steps(name), outcome.field(name), strict=True):
                yield reference.judge(value.astype(np.float32))
        for name in self.oracle.arrays:
            yield self.reference(name).judge(outcome.arrays[name])

    def reference(self, name: str) -> Reference:
        """The reference of one of the outcome's arrays."""
        return Reference(self.oracle.arrays[name], [run.arrays[name] for run in self.orbit], name=name)

    def means(self) -> list[Reference]:
        """The references of the running means of the gradients."""
        return [self.reference(name) for name in self.oracle.arrays if name.startswith("m.")]

    def first_outside(self, losses: Array) -> tuple[int, Verdict] | None:
        """The first step, counted from 0, whose loss leaves the band, and its verdict; None if all stay inside."""
        verdicts = [each.judge(loss.astype(np.float32)) for each, loss in zip(self.losses(), losses, strict=True)]
        return next(((i, verdict) for i, verdict in enumerate(verdicts) if not verdict.agrees), None)


class BandRuns:
    """The runs of the reference that make the band of a course, each when it is asked for."""

    def __init__(self, course: Course, accuracy: Mapping[str, float]) -> None:
        self._course, self._accuracy, self._orbit = course, accuracy, list[TrainedOutcome]()
        trainer = NumPyBackend(dtype="float64").trainer(course.config, course.parameters, course.settings)
        self._oracle = train(course, trainer)

    def band(self, members: int) -> Band:
        """The band of that many members."""
        while len(self._orbit) < members:
            self._orbit.append(_member(self._course, len(self._orbit), self._accuracy))
        return Band(self._oracle, self._orbit[:members])


def training_band(course: Course, accuracy: Mapping[str, float], members: int = orbit.MEMBERS) -> Band:
    """The band of a course for a backend whose elementary functions have that accuracy; it trains in float32.

    The float64 oracle does not overflow, so a course in which float16 gradients overflow has no band.
    """
    return BandRuns(course, accuracy).band(members)


def _member(course: Course, index: int, accuracy: Mapping[str, float]) -> TrainedOutcome:
    """The reference on an equivalent form of the course, its outcome in the form of the course itself."""
    batch, tokens = course.batches[0].ids.shape
    contract = contracts()[f"model.{course.head}"]
    sizes = axis_sizes(course.config) | {"B": batch, "T": tokens, "S": tokens}
    case = Case(contract, sizes, {"config": course.config}, frozenset(), "none", "live", seed=0)
    chosen = orbit.permutations(case, index)
    items = {item.name: tree_axes(item, course.config) for item in contract.inputs if item.tree is not None}
    parameters = flatten(orbit.permute(nest(course.parameters), items["params"], case, chosen))
    batches = [
        dataclasses.replace(given, keep=orbit.permute(given.keep, items["keep"], case, chosen)) if given.keep else given
        for given in course.batches
    ]
    trainer = NumPyBackend().trainer(course.config, parameters, course.settings)
    with observing(orbit.inexact(accuracy, case, index)):
        outcome = train(dataclasses.replace(course, batches=batches), trainer)
    axes = {name: split_axes(letters) for name, letters in parameter_axes(course.config, course.head).items()}
    undone = {
        name: orbit.undo(x, axes[name.removeprefix("m.").removeprefix("v.")], case, chosen)
        for name, x in outcome.arrays.items()
    }
    return TrainedOutcome(outcome.reports, undone)


def course_of(trial: Trial) -> Course:
    """A course on the model of a trial: its first micro-batch is the trial's input, the case's seed gives the rest."""
    arguments, random = trial.arguments, np.random.default_rng([trial.case.seed, 2])
    config, ids = arguments["config"], arguments["ids"]
    return Course(
        config,
        flatten(arguments["params"]),
        _settings(random, arguments["ignore_index"]),
        [
            _batch(arguments, config, ids if i == 0 else random.integers(0, config.vocab_size, ids.shape), trial, i)
            for i in range(MICRO_BATCHES)
        ],
    )


def _settings(random: np.random.Generator, ignore_index: int) -> TrainingConfig:
    warmup = int(random.integers(0, 3))
    scaler = str(random.choice(["none", "static", "dynamic"]))
    return TrainingConfig(
        learning_rate=float(random.choice([1e-3, 1e-2])),
        schedule=str(random.choice(SCHEDULES)),
        warmup_steps=warmup,
        total_steps=warmup + int(random.integers(2, 8)),
        final_learning_rate=float(random.choice([0.0, 1e-4])),
        optimizer=str(random.choice(OPTIMIZERS)),
        weight_decay=float(random.choice([0.0, 0.1])),
        accumulate_step=int(random.integers(1, 4)),
        accumulation=str(random.choice(ACCUMULATIONS)),
        max_grad_norm=[None, 0.1, 1.0][random.integers(3)],
        level=str(random.choice(LEVELS)),
        loss_scaler=scaler,
        scale_value=2.0 ** int(random.integers(0, 5)),
        scale_window=int(random.integers(1, 4)),
        ignore_index=ignore_index,
        recompute=bool(random.integers(2)),
    )


def _batch(arguments: Mapping[str, Any], config: GPT2Config, ids: Array, trial: Trial, number: int) -> Batch:
    labels = arguments["labels"]
    if labels.ndim == 2 and number:  # with gaps of their own, so that micro-batches score different numbers of tokens
        random = np.random.default_rng([trial.case.seed, 3, number])
        gaps = (labels < 0) | (random.random(labels.shape) < random.random() / 2)
        labels = np.where(gaps, arguments["ignore_index"], ids)
    keep = draw_keep(config, len(ids), ids.shape[1], seed=trial.case.seed, step=number) if "keep" in arguments else None
    return Batch(ids, labels, arguments.get("attention_mask"), arguments.get("position_ids"), keep)


def trainer_of(trial: Trial, course: Course) -> Trainer:
    """A trainer of a trial's backend, new from the parameters of a course.

    Raises NotImplementedError if the backend does not train, or holds weights in 16 bits.
    """
    if trial.backend.dtype != "float32" or getattr(trial.backend, "trainer", None) is None:
        raise NotImplementedError("weights are trained in float32")
    return trial.backend.trainer(course.config, course.parameters, course.settings)


def judge_training(trial: Trial) -> Iterator[Verdict]:
    """Judge the trainer of a trial's backend on a course."""
    course = course_of(trial)
    key = "training", pickle.dumps((dict(trial.backend.accuracy), trial.arguments))
    outcome = trial.run_once(key, lambda: train(course, trainer_of(trial, course)))
    runs = trial.remember(key, lambda: BandRuns(course, trial.backend.accuracy))
    yield from runs.band(_members(trial)).judge(outcome)


def band_of(trial: Trial, course: Course) -> Band:
    """The band of a course of a trial, of as many members as the trial wants."""
    return training_band(course, trial.backend.accuracy, _members(trial))


def _members(trial: Trial) -> int:
    return min(max(FEW, trial.members), MANY)
