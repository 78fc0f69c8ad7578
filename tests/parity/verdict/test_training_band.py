"""Training on trial: live models learn on both sides, and stay in the band that the reference's own rounding makes."""

import dataclasses
import functools

import numpy as np
import pytest

from gpt2.backends import Backend, Batch, Trainer, get_backend
from gpt2.data.dropout_masks import draw_keep
from parity.check import draw, rules
from parity.laws.base import LAWS
from parity.mutants.all import mutant
from parity.on_trial.hunt import look
from parity.verdict.training_band import FEW, Band, Course, train, training_band
from parity.verdict.trial import Trial, decide
from reference.config import GPT2Config, StepReport, TrainingConfig
from tests.gpt2.small import parameters

FLOAT32 = np.dtype(np.float32)
NUMPY = ("numpy", "float32", "eager")
UPDATES = 50
CONFIG = GPT2Config(vocab_size=31, n_positions=16, n_embd=16, n_layer=2, n_head=2, num_labels=3)
SETTINGS = TrainingConfig(
    learning_rate=1e-2, schedule="linear", warmup_steps=5, total_steps=UPDATES, weight_decay=0.1, accumulate_step=2
)
# Each law of training and a planted bug that breaks it.
BROKEN = {
    "an_overflow_leaves_everything_as_it_was": "an overflowed step applied",
    "accumulated_micro_batches_are_one_batch": "divided by accumulate_step twice",
    "the_loss_reported_is_that_of_the_micro_batch": "the scaled loss printed",
    "a_classifiers_trainer_has_its_loss": "evaluated without the mask",
    "a_scale_that_is_a_power_of_two_changes_no_bit": "unscale forgotten",
    "clipping_leaves_the_norm_that_was_asked_for": "clip never called",
    "weight_decay_is_decoupled": "decay on biases and norms",
    "the_first_step_of_adamw_has_the_length_of_the_rate": "no bias correction",
    "warm_up_begins_at_zero": "warm-up counted from one",
    "a_run_goes_on_where_it_was_left": "a moment saved under the other's name",
    "a_level_runs_in_float16_what_it_says": "every level is O0",
    "a_level_rounds_the_weights_that_it_takes_in_float16": "LayerNorm in float16 at O2",
}


def micro_batch(step: int) -> Batch:
    """Three sequences of eight random ids, one of them padded on the left, with dropout masks of their own."""
    random = np.random.default_rng(step)
    ids, mask = random.integers(0, CONFIG.vocab_size, (3, 8)), np.ones((3, 8), np.int64)
    mask[0, :3] = 0
    return Batch(ids, np.where(mask == 1, ids, -100), mask, None, draw_keep(CONFIG, 3, 8, seed=0, step=step))


COURSE = Course(CONFIG, parameters(CONFIG), SETTINGS, [micro_batch(step) for step in range(2 * UPDATES)])


@functools.cache
def band(accuracy: tuple[tuple[str, float], ...], updates: int = UPDATES) -> Band:
    """The band of the course, or of its first updates, by few members: it takes a while, and more would allow more."""
    return training_band(first(updates), dict(accuracy), FEW)


def first(updates: int) -> Course:
    """The course, ended after so many updates."""
    return dataclasses.replace(COURSE, batches=COURSE.batches[: updates * SETTINGS.accumulate_step])


def start(backend: Backend, course: Course = COURSE) -> Trainer:
    """A trainer at the beginning of a course."""
    return backend.trainer(course.config, course.parameters, course.settings)


@pytest.mark.parametrize(
    ("engine", "updates"), [("twin:reordered", UPDATES), ("mindspore pynative", 15), ("mindspore graph", UPDATES)]
)
def test_updates_stay_in_the_band(engine: str, updates: int) -> None:
    """Under AdamW, warm-up, clipping, accumulation and dropout masks: losses, norms of gradients, rates."""
    if engine.startswith("mindspore"):
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    name, _, mode = engine.partition(" ") if engine.startswith("mindspore") else (engine, "", "")
    backend = get_backend(name, mode=mode or None)
    outcome = train(first(updates), start(backend))
    outside = band(tuple(backend.accuracy.items()), updates).first_outside(outcome.field("loss"))
    assert outside is None, f"micro-batch {outside[0]}: {outside[1].explain()}"
    assert sum(report.updated for report in outcome.reports) == updates


def test_the_first_step_outside_the_band_is_named() -> None:
    """The course's optimizer, which does not correct its first moments, taken for AdamW."""
    settings = dataclasses.replace(SETTINGS, optimizer="adam_weight_decay")
    losses = train(COURSE, start(get_backend("numpy"), dataclasses.replace(COURSE, settings=settings))).field("loss")
    outside = band(()).first_outside(losses)
    assert outside is not None
    # with warm-up, update 0 has rate 0 and update 1 is the first that differs: the loss after it is that of step 4
    assert outside[0] == 2 * SETTINGS.accumulate_step


def overflow_trace(backend: Backend, level: str) -> list[StepReport]:
    """What a trainer reports that begins with a scale far too large for float16."""
    settings = dataclasses.replace(
        SETTINGS,
        warmup_steps=0,
        accumulate_step=1,
        level=level,
        loss_scaler="dynamic",
        scale_value=2.0**30,
        scale_window=3,
    )
    batches = [micro_batch(0)] * 24
    return train(
        dataclasses.replace(COURSE, settings=settings, batches=batches),
        start(backend, dataclasses.replace(COURSE, settings=settings)),
    ).reports


@pytest.mark.parametrize("level", ["O1", "O2", "O3"])
def test_a_forced_overflow_leaves_the_same_trace_on_both_sides(level: str) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    one, *others = (
        [(report.scale, report.finite, report.updated) for report in overflow_trace(backend, level)]
        for backend in (get_backend("numpy"), get_backend("mindspore", mode="graph"))
    )
    assert not one[0][1]
    assert one[-1][1]
    assert all(other == one for other in others)


@pytest.mark.parametrize("law", BROKEN)
def test_a_law_of_training_is_kept_and_can_be_broken(law: str) -> None:
    name = f"laws.{law}"
    for case in draw(rules()[name], FLOAT32, 6):
        for verdict in decide(rules()[name].judge, Trial(case, get_backend("numpy"))):
            assert verdict.agrees, f"{case.describe()}: {verdict.explain()}"
    assert mutant(BROKEN[law]).name in look(name, NUMPY, [BROKEN[law]], slice(0, 12), 12, 0)[0]


def test_every_law_of_training_is_on_trial() -> None:
    of_training = {law.name for law in LAWS if law.trains}
    assert of_training == set(BROKEN)
