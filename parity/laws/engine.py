"""Laws of engines: what must hold for a loaded model, its decoders and its weights."""

from collections.abc import Iterator

import numpy as np

from parity.cases.cases import axis_factors
from parity.cases.contracts import Axes
from parity.laws.base import (
    Array,
    Verdicts,
    changed,
    everything_returned,
    inputs_of,
    is_tame,
    law,
    model_scores,
    random_of,
    same_bits,
    score_of,
    scores_by_piece,
    token_rows,
    two_pieces,
    where_offered,
    without_past,
)
from parity.verdict.stages import stage_axes
from parity.verdict.trial import Trial, result_axes
from parity.verdict.verdict import Verdict
from reference.config import flatten

# What an engine promises beside numbers.


@law("engine.logits")
def an_engine_is_the_plain_model(trial: Trial) -> Verdicts:
    """The scores of an engine equal the last of its named stages, and the scores of the plain function.

    Proof: all three follow the same formula.
    """
    if is_tame(trial):
        named = trial.model().stages(*inputs_of(trial))["logits"]
        for scores in model_scores(trial):
            yield trial.close(scores, named, 2 * trial.noise(), token_rows(trial))


@law("engine.classify")
def a_classifier_is_its_last_stage(trial: Trial) -> Verdicts:
    """The labels' scores of an engine equal the last of its named stages.

    Proof: both follow the same formula.
    """
    if is_tame(trial):
        model, inputs = trial.model(), inputs_of(trial)
        yield trial.close(model.classify(*inputs), model.stages(*inputs)["label_logits"], 2 * trial.noise())


@law("engine.logits")
def given_stages_replace_the_computed(trial: Trial) -> Verdicts:
    """With the same embeddings in place of their own, other ids have the same later stages, bit for bit.

    Proof: everything after the embeddings depends on the ids through them alone.
    """
    model, (ids, mask, positions) = trial.model(), inputs_of(trial)
    stages = model.stages(ids, mask, positions)
    if "embeddings" not in getattr(model, "replaceable", stages):
        raise NotImplementedError("the stage of embeddings")
    given = {"embeddings": stages["embeddings"]}
    expected = model.stages(ids, mask, positions, given)
    found = model.stages((ids + 1) % trial.case.sizes["V"], mask, positions, given)
    later = list(expected)[list(expected).index("embeddings") + 1 :]
    yield from same_bits(trial, (found[name] for name in later), (expected[name] for name in later))


@law("engine.logits")
def the_same_call_gives_the_same_bits(trial: Trial) -> Verdicts:
    """Called twice with the same arguments, a model returns the same bits: scores, a decoder's scores, every stage.

    Proof: nothing is random, and no earlier result is used.
    """
    model = trial.model()
    yield from same_bits(trial, everything_returned(model, trial), everything_returned(model, trial))
    yield from same_bits(trial, model_scores(trial), model_scores(trial))


@law("engine.logits")
def earlier_texts_change_no_score(trial: Trial) -> Verdicts:
    """A model that has read other texts, with and without pads, of this and of another shape, gives a text the scores
    that a new model gives it.

    Proof: scores depend on what a call is given, and on the weights. Kernels that add up in any order may round in
    another way the second time, by no more than the noise of each.
    """
    model, ids = trial.model(), trial.arguments["ids"]
    twice = trial.case.sizes["B"] * 2
    plain = trial.with_arguments(ids=(ids + 1) % trial.case.sizes["V"], attention_mask=None, position_ids=None)
    wider = changed(plain, {"B": twice}, ids=np.tile(ids, (2, 1)))
    for text in (trial, plain, wider, trial):
        given = [text.arguments.get(name) for name in ("attention_mask", "position_ids")]
        found, expected = (each.logits(text.arguments["ids"], *given) for each in (model, trial.model()))
        yield trial.close(found, expected, 2 * text.noise(), token_rows(text))


def _other_weights(trial: Trial) -> dict[str, Array]:
    return {name: -np.flip(x) for name, x in flatten(trial.arguments["params"]).items()}


@law("engine.logits")
def assigned_weights_are_used(trial: Trial) -> Verdicts:
    """A model that has run and then gets other weights returns the same bits as a new model with these weights: scores,
    a decoder's scores, and every stage.

    Proof: all weights are replaced and shapes do not change, so every sum has the same order.
    """
    other, model = _other_weights(trial), trial.model()
    everything_returned(model, trial)
    model.assign(other)
    new = trial.backend.model(trial.arguments["config"], other)
    yield from same_bits(trial, everything_returned(model, trial), everything_returned(new, trial))


@law("engine.classify")
def assigned_weights_reach_the_classifier(trial: Trial) -> Verdicts:
    """A classifier that has run and then gets other weights returns the same bits as a new classifier with these
    weights.

    Proof: as for assigned_weights_are_used.
    """
    other, inputs, model = _other_weights(trial), inputs_of(trial), trial.model()
    model.classify(*inputs)
    model.assign(other)
    new = trial.backend.model(trial.arguments["config"], other)
    yield trial.identical(model.classify(*inputs), new.classify(*inputs))


@law("engine.logits")
def results_do_not_change_afterwards(trial: Trial) -> Verdicts:
    """An array that a model has returned does not change when the model runs again or gets other weights.

    Proof: a result belongs to the caller.
    """
    model, ids = trial.model(), trial.arguments["ids"]
    results = everything_returned(model, trial)
    before = [x.copy() for x in results]
    everything_returned(model, trial.with_arguments(ids=(ids + 1) % trial.case.sizes["V"]))
    model.assign(_other_weights(trial))
    everything_returned(model, trial)
    yield from same_bits(trial, results, before)


@law("engine.logits")
def decoders_do_not_meet(trial: Trial) -> Verdicts:
    """A decoder has the same scores, bit for bit, while another decoder of the same model reads other tokens in turns
    with it, and after other decoders have been used.

    Proof: each decoder has its own cache, empty at the start.
    """
    model, inputs = trial.model(), inputs_of(trial)
    others = ((inputs[0] + 1) % trial.case.sizes["V"], *inputs[1:])

    def read(tokens: tuple[Array, ...]) -> Iterator[Array]:
        return scores_by_piece(model.decoder(*tokens[0].shape), tokens, two_pieces(tokens[0].shape[1]))

    expected = list(read(inputs))
    in_turn = [scores for scores, _ in zip(read(inputs), read(others), strict=True)]
    yield from same_bits(trial, [*in_turn, *read(inputs)], expected * 2)


@law("engine.logits")
def a_decoder_chooses_by_its_scores(trial: Trial) -> Verdicts:
    """The id that a decoder chooses greedily, or samples from the likeliest id alone, has the highest of its scores.

    Proof: this is the definition of greedy; sampling from one id has no choice.
    """
    inputs = inputs_of(trial)
    decoder = trial.model().decoder(*inputs[0].shape)
    decoder.read(*inputs)
    scores, uniform = decoder.logits(), random_of(trial).random(len(inputs[0]))
    for chosen in (decoder.greedy(), decoder.sample(uniform, 0.5, 1, 1.0)):
        yield trial.identical(score_of(scores, chosen), scores.max(axis=-1))


def _promised(trial: Trial, x: Array, axes: Axes, dtype: np.dtype) -> Verdict:
    shape = [int(np.prod(axis_factors(axis, trial.case.sizes))) for axis in axes]
    return trial.identical(np.zeros_like(x), np.zeros(shape, dtype))


@law("model.language_model")
def results_have_the_promised_shape_and_dtype(trial: Trial) -> Verdicts:
    """Scores, keys, values and stages have the shapes that their axes promise, and the dtype of the backend.

    Proof: they are computed from parameters of that dtype. (The scores of attention alone may be of a higher one.)
    """

    def engine() -> Verdicts:
        alone, model, dtype = without_past(trial), trial.model(), trial.dtype
        inputs = inputs_of(alone)
        yield _promised(alone, model.logits(*inputs), ("B", "T", "V"), dtype)
        for scores in scores_by_piece(model.decoder(*inputs[0].shape), inputs, two_pieces(inputs[0].shape[1])):
            yield _promised(alone, scores, ("B", "V"), dtype)
        for name, x in model.stages(*inputs).items():
            yield _promised(alone, x, stage_axes(name), x.dtype if name.endswith("scores") else dtype)

    def plain() -> Verdicts:
        results = trial.run()
        for x, axes in zip(results, result_axes(trial.case, len(results)), strict=True):
            yield _promised(trial, x, axes, trial.dtype)

    return where_offered(engine(), plain())
