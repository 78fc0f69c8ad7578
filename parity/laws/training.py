"""Laws of training: what must hold for every correct trainer."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import NumPyBackend, Trainer
from parity.laws.base import law
from parity.verdict.training_band import Course, band_of, course_of, train, trainer_of
from parity.verdict.trial import Trial, leaves
from parity.verdict.verdict import Verdict, close, identical
from reference.config import LEVELS, TrainingConfig, decays, runs_in_float16

Array = NDArray[np.float32]
Verdicts = Iterator[Verdict]
DTYPE = np.dtype(np.float32)
MANY = 32  # numbers that a change must reach, to be seen for sure
PLAIN = TrainingConfig(learning_rate=1e-2, weight_decay=0.0, max_grad_norm=None)


def _course(trial: Trial, micro_batches: int, **settings: object) -> Course:
    """The trial's course, cut to `micro_batches`, with plain settings except those given."""
    course = course_of(trial)
    changed = dataclasses.replace(PLAIN, ignore_index=course.settings.ignore_index, **settings)  # type: ignore[arg-type]
    return dataclasses.replace(course, settings=changed, batches=course.batches[:micro_batches])


def _moments(trainer: Trainer, letter: str = "m") -> dict[str, Array]:
    return {name.removeprefix(f"{letter}."): x for name, x in trainer.state().items() if name.startswith(f"{letter}.")}


def _same(found: dict[str, Array], expected: dict[str, Array]) -> Verdicts:
    for name, x in expected.items():
        yield identical(found[name], x)


@law("model.language_model_loss", trains=True)
def an_overflow_leaves_everything_as_it_was(trial: Trial) -> Verdicts:
    """If a gradient overflows in float16, weights, moments and accumulated gradients do not change by a bit, and the
    scale shrinks by its factor; after scale_window finite micro-batches in a row it grows by it. Weights are always
    finite.

    Proof: a gradient that is not finite is never added, and the scale follows the rules of mindspore.amp. (If no label
    is scored, gradients are finite at any scale: that counts as one in a row; the next overflow restarts the count.)
    """
    factor, window = int(np.random.default_rng(trial.case.seed).choice([4, 16])), 2
    scaling = {"loss_scaler": "dynamic", "scale_value": 2.0**24, "scale_factor": factor, "scale_window": window}
    course = _course(trial, 1, level="O2", accumulate_step=[1, 3][trial.case.seed % 2], **scaling)
    trainer, in_a_row, expected = trainer_of(trial, course), 0, 2.0**24
    batch = course.batches[0]
    nothing_scored = dataclasses.replace(batch, labels=np.full_like(batch.labels, course.settings.ignore_index))
    for step in range(10):
        before = trainer.parameters() | trainer.state()
        report = trainer.step(nothing_scored if step % 4 == 1 else batch)
        after = trainer.parameters() | trainer.state()
        yield identical(np.float32(report.scale), np.float32(expected))
        in_a_row = (in_a_row + 1) % window if report.finite else 0
        if not report.finite:
            expected = max(1.0, expected / factor)
        elif in_a_row == 0:
            expected *= factor
        names = [name for name in before if name not in ("scale_value", "counter")]
        if not report.finite:
            yield from _same(after, {name: before[name] for name in names})
        yield identical(np.isfinite(np.concatenate([after[name].ravel() for name in names])).all(), np.True_)


@law("model.language_model_loss", trains=True)
def accumulated_micro_batches_are_one_batch(trial: Trial) -> Verdicts:
    """Several micro-batches make the same update as one batch of all of them, whatever the numbers of their labels; and
    so does the mean of their means, where these numbers are equal.

    Proof: the loss is a mean over scored labels. So the gradients of the parts, each times the number of its labels,
    sum up to the gradient of the whole times the number of all; clipping comes after it, once.
    """
    norm, equal = [None, 0.05][trial.case.seed % 2], trial.case.seed % 3 == 0
    accumulation = "micro_batches" if equal else "tokens"
    parts = _course(trial, 2, accumulate_step=2, max_grad_norm=norm, accumulation=accumulation)
    if equal:
        same = [dataclasses.replace(batch, labels=batch.ids, attention_mask=None) for batch in parts.batches]
        parts = dataclasses.replace(parts, batches=same)
    batches = parts.batches
    joined: dict[str, Any] = {
        field: None
        if getattr(batches[0], field) is None
        else np.concatenate([np.broadcast_to(getattr(batch, field), batch.ids.shape) for batch in batches])
        for field in ("ids", "labels", "attention_mask", "position_ids")
    }
    whole = dataclasses.replace(
        parts,
        settings=dataclasses.replace(parts.settings, accumulate_step=1),
        batches=[dataclasses.replace(batches[0], **joined)],
    )
    courses = (parts, whole)
    outcomes = [train(course, trainer_of(trial, course)) for course in courses]
    bands = [band_of(trial, course) for course in courses]
    for name in outcomes[0].arrays:
        noise = sum(band.reference(name).noise for band in bands)
        yield close(outcomes[0].arrays[name], outcomes[1].arrays[name], noise, DTYPE)


@law("model.language_model_loss", trains=True)
def the_loss_reported_is_that_of_the_micro_batch(trial: Trial) -> Verdicts:
    """A trainer's first report has the loss of its first micro-batch under the initial parameters; `loss` returns the
    same, whenever it is asked, and changes nothing.

    Proof: neither the loss scale nor accumulation is part of the loss.
    """
    course = _course(trial, 1, accumulate_step=3, loss_scaler="static", scale_value=16.0)
    trainer, expected = trainer_of(trial, course), trial.run()[0]
    before = trainer.parameters() | trainer.state()
    asked = trainer.loss(course.batches[0])
    yield from _same(trainer.parameters() | trainer.state(), before)
    reported = trainer.step(course.batches[0]).loss
    before = trainer.parameters() | trainer.state()
    again = trainer.loss(course.batches[0])  # the weights are the same: the first of three micro-batches
    yield from _same(trainer.parameters() | trainer.state(), before)
    for loss in (asked, reported, again):
        yield trial.close(np.asarray(loss, DTYPE), expected, 2 * trial.noise())


@law("model.sequence_classifier_loss")
def a_classifiers_gradients_are_those_of_its_loss(trial: Trial) -> Verdicts:
    """In float32, loss_and_gradients of a classifier returns its loss and the gradients of that.

    Proof: it differentiates the loss of the head that the parameters have.
    """
    if trial.dtype.itemsize < 4:
        return
    loss, gradients = trial.backend.call("train.loss_and_gradients", trial.arguments)
    yield from (known.judge(np.asarray(loss)) for known in trial.references())
    of_loss = trial.of("model.sequence_classifier_loss_vjp", grad=np.ones((), trial.dtype), **trial.arguments)
    for found, known in zip(leaves(gradients, trial.dtype), of_loss.references(), strict=True):
        yield known.judge(found)


@law("model.sequence_classifier_loss", trains=True)
def a_classifiers_trainer_has_its_loss(trial: Trial) -> Verdicts:
    """The loss that a trainer of a classifier returns, and that among its stages, are those of its batch.

    Proof: both are the forward pass.
    """
    course, expected = _course(trial, 1), trial.run()[0]
    trainer = trainer_of(trial, course)
    for loss in (trainer.loss(course.batches[0]), trainer.stages(course.batches[0])["loss"]):
        yield trial.close(np.asarray(loss, DTYPE), expected, 2 * trial.noise())


@law("model.language_model_loss", trains=True)
def a_scale_that_is_a_power_of_two_changes_no_bit(trial: Trial) -> Verdicts:
    """In float32, moments are the same, bit for bit, with and without a static loss scale of 16.

    Proof: multiplication and division by a power of two are exact if no number is denormal.
    """
    if trial.case.regime == "denormals":
        return
    plain = _course(trial, 1)
    scaled = _course(trial, 1, loss_scaler="static", scale_value=16.0)
    moments = []
    for course in (plain, scaled):
        trainer = trainer_of(trial, course)
        trainer.step(course.batches[0])
        moments.append(_moments(trainer))
    for name, x in moments[0].items():
        large = np.abs(x) > np.finfo(np.float32).tiny * 2.0**24
        yield identical(moments[1][name], x, large)


@law("model.language_model_loss", trains=True)
def clipping_leaves_the_norm_that_was_asked_for(trial: Trial) -> Verdicts:
    """After the first update, m has the norm (1 - beta1) min(norm of the gradients, max_grad_norm).

    Proof: m starts at 0 and becomes (1 - beta1) times the gradient, which clipping scales down to that norm.
    """
    limit = [0.01, 1e6][trial.case.seed % 2]
    course = _course(trial, 2, accumulate_step=2, max_grad_norm=limit)
    trainer = trainer_of(trial, course)
    norm = [trainer.step(batch) for batch in course.batches][-1].grad_norm
    means = [x.astype(np.float64).ravel() for x in _moments(trainer).values()]
    clipped = np.sqrt(np.sum(np.concatenate(means) ** 2)) / (1 - course.settings.beta1)
    band = band_of(trial, course)
    noise = sum(float(np.linalg.norm(known.noise * np.ones(known.oracle.shape))) for known in band.means())
    yield close(clipped, norm * min(1.0, limit / (norm + 1e-6)), noise / (1 - course.settings.beta1), DTYPE)


@law("model.language_model_loss", trains=True)
def weight_decay_is_decoupled(trial: Trial) -> Verdicts:
    """Weight decay moves weights by an additional lr * weight_decay times their value; biases and gains do not change.

    Proof: the decay is not part of the gradient, so the moments and their effect are the same.
    """
    plain, decayed = (_course(trial, 1, weight_decay=decay) for decay in (0.0, 0.5))
    results = []
    for course in (plain, decayed):
        trainer = trainer_of(trial, course)
        trainer.step(course.batches[0])
        results.append((trainer.parameters(), _moments(trainer)))
    yield from _same(results[1][1], results[0][1])
    for name, start in plain.parameters.items():
        if decays(name):
            less = results[0][0][name].astype(np.float64) - PLAIN.learning_rate * 0.5 * start
            yield close(results[1][0][name], less, 0.0, DTYPE, size=float(np.abs(start).max()))
        else:
            yield identical(results[1][0][name], results[0][0][name])


@law("model.language_model_loss", trains=True)
def the_first_step_of_adamw_has_the_length_of_the_rate(trial: Trial) -> Verdicts:
    """AdamW's first update moves every weight by lr g / (|g| + epsilon), g being m / (1 - beta1), and v becomes
    (1 - beta2) g squared.

    Proof: both means begin at zero, so at step 1 the corrected ones are g and g squared, whose root is |g|.
    """
    course = _course(trial, 1)
    trainer, settings = trainer_of(trial, course), course.settings
    trainer.step(course.batches[0])
    after, squares = trainer.parameters(), _moments(trainer, "v")
    for name, m in _moments(trainer).items():
        g = m.astype(np.float64) / (1 - settings.beta1)
        step = settings.learning_rate * g / (np.abs(g) + settings.epsilon)
        seen = np.abs(g) > 1e-15  # a square below float32's smallest number has no root
        start = course.parameters[name].astype(np.float64)
        yield close(after[name], start - step, 0.0, DTYPE, seen, size=float(np.abs(start).max() + PLAIN.learning_rate))
        yield close(squares[name], (1 - settings.beta2) * g * g, 0.0, DTYPE, size=float(np.max(squares[name])))


@law("model.language_model_loss", trains=True)
def warm_up_begins_at_zero(trial: Trial) -> Verdicts:
    """The first update of a warm-up changes no bit of a weight, and the second has rate lr / warmup_steps.

    Proof: the first rate is lr * 0 / warmup_steps; the decay is multiplied by the rate too.
    """
    course = _course(trial, 2, warmup_steps=2, weight_decay=0.5)
    trainer = trainer_of(trial, course)
    first = trainer.step(course.batches[0])
    yield identical(np.float32(first.lr), np.float32(0))
    yield from _same(trainer.parameters(), {name: x.astype(DTYPE) for name, x in course.parameters.items()})
    rate = trainer.step(course.batches[1]).lr
    yield close(rate, course.settings.learning_rate / 2, 0.0, DTYPE)


@law("model.language_model_loss", trains=True)
def a_run_goes_on_where_it_was_left(trial: Trial) -> Verdicts:
    """Before every micro-batch a run is handed over to a second trainer, which takes it as well: both then hold the
    same bits. What was handed over does not change later, and has the names that the protocol gives it.

    Proof: `parameters` and `state` are copies of everything that the next step depends on.
    """
    course = course_of(trial)
    trainer, other = (trainer_of(trial, course) for _ in range(2))
    expected = sorted(NumPyBackend().trainer(course.config, course.parameters, course.settings).state())
    yield identical(np.array(sorted(trainer.state()) == expected), np.True_)
    for number, batch in enumerate(course.batches[:-1]):
        parameters, state = trainer.parameters(), trainer.state()
        kept = {name: x.copy() for name, x in (parameters | state).items()}
        other.load_state(parameters, state)
        trainer.step(batch)
        other.step(batch)
        yield from _same(parameters | state, kept)
        yield from _same(other.parameters() | other.state(), trainer.parameters() | trainer.state())
        if number == 0:
            other.step(batch)  # so that everything it holds has to be replaced


@law("model.language_model_loss", trains=True)
def a_level_runs_in_float16_what_it_says(trial: Trial) -> Verdicts:
    """Stages of attention and MLP are float16 from O1 on, all others from O2 on; the loss and the weights never are.

    Proof: an op runs in the dtype of its weights, and a level decides which weights are float16: at O1, affine maps.
    """
    for level in LEVELS:
        course = _course(trial, 1, level=level)
        trainer = trainer_of(trial, course)
        kept = {"weights": trainer.parameters()["wte.weight"]}
        for name, x in (trainer.stages(course.batches[0]) | kept).items():
            behind_a_map = ".attn." in name or ".mlp." in name
            low = name not in ("loss", "weights") and (level in ("O2", "O3") or (level == "O1" and behind_a_map))
            wide = name.endswith("scores") and course.config.reorder_and_upcast_attn
            yield identical(np.array(x.dtype.itemsize), np.array(2 if low and not wide else 4))


@law("model.language_model_loss", trains=True)
def a_level_rounds_the_weights_that_it_takes_in_float16(trial: Trial) -> Verdicts:
    """Digits that float16 does not have change no bit of the loss where a level takes a weight in float16; where it
    takes LayerNorm's in float32, they change stages.

    Proof: rounding is the first thing that happens to such a weight. The others are used as they are. (Stages are
    compared only if many of the reference's numbers change, so that rounding cannot hide it.)
    """
    for level in LEVELS:
        course = _course(trial, 1, level=level)
        rounded = {name: x.astype(np.float16).astype(DTYPE) for name, x in course.parameters.items()}
        fits = {name: np.isfinite(x).all() for name, x in rounded.items()}
        exact = {name: rounded[name] if fits[name] else x for name, x in course.parameters.items()}
        finer = {name: x + np.spacing(x.astype(np.float16)).astype(DTYPE) * 0.2 for name, x in exact.items()}
        low = {name: runs_in_float16(name, level) and bool(fits[name]) for name in exact}
        changed = {name: finer[name] if low[name] else x for name, x in exact.items()}
        losses = [_trainer_from(trial, course, weights).loss(course.batches[0]) for weights in (exact, changed)]
        yield identical(np.float32(losses[1]), np.float32(losses[0]))
        norms = {name: finer[name] if ".ln_" in f".{name}" and not low[name] else x for name, x in exact.items()}
        counts = []
        for backend in (NumPyBackend(), trial.backend):
            of_backend = Trial(trial.case, backend)
            before, after = (
                _trainer_from(of_backend, course, weights).stages(course.batches[0]) for weights in (exact, norms)
            )
            counts.append(sum(int((before[name] != after[name]).sum()) for name in before))
        if counts[0] >= MANY:
            yield identical(np.array(counts[1] > 0), np.True_)


def _trainer_from(trial: Trial, course: Course, weights: dict[str, Array]) -> Trainer:
    return trainer_of(trial, dataclasses.replace(course, parameters=weights))
