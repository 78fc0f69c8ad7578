"""Laws of whole models, and of their losses."""

import numpy as np

from parity.cases.cases import case_axes
from parity.laws.base import (
    Verdicts,
    changed,
    equal_but_for_rounding,
    given_arguments,
    inputs_of,
    is_tame,
    largest,
    law,
    longer_context,
    mask_of,
    model_scores,
    must_hold,
    past_length,
    random_of,
    same_bits,
    scores_by_piece,
    token_rows,
    untied,
    where_offered,
    without_past,
)
from parity.verdict import orbit
from parity.verdict.trial import Trial

# Whole models, plain and as the engine runs them.


@law("model.language_model")
def causality(trial: Trial) -> Verdicts:
    """A token changes no score, key or value before its own position, bit for bit. Values at pads mean nothing.

    Proof: a score depends on its own token and, through attention, on earlier tokens; the mask hides later tokens,
    whose weight is exactly 0, and 0 times any finite number adds exactly nothing. The shapes are the same, so each sum
    has the same order.
    """
    ids, past, length = trial.arguments["ids"], past_length(trial), trial.case.sizes["T"]
    positions = {length - 1, length // 2} - {0}
    later = {p: np.where(np.arange(length) < p, ids, (ids + 1) % trial.case.sizes["V"]) for p in positions}
    before = {p: mask_of(trial) & (np.arange(past + length) < past + p) for p in positions}

    def engine() -> Verdicts:
        model, (_, *others) = trial.model(), inputs_of(without_past(trial))
        scores = model.logits(ids, *others)
        for p in positions:
            yield trial.identical(model.logits(later[p], *others), scores, before[p][:, past:, None])

    def plain() -> Verdicts:
        results = trial.run()
        for p in positions:
            changed = trial.with_arguments(ids=later[p]).run()
            yield trial.identical(changed[0], results[0], before[p][:, past:, None])
            yield from same_bits(trial, changed[1:], results[1:], before[p][:, None, :, None])

    if is_tame(trial, *(trial.with_arguments(ids=other) for other in later.values())):
        yield from where_offered(engine(), plain())


@law("model.language_model")
def pads_are_unseen(trial: Trial) -> Verdicts:
    """Ids, positions, and keys and values of the past at pads of the attention mask change nothing, bit for bit. If the
    case has no pads, some are put at random places.

    Proof: a pad's key is hidden from every query, and its weight of exactly 0 adds nothing.
    """
    mask, past = mask_of(trial), past_length(trial)
    if mask.all():
        mask = random_of(trial).random(mask.shape) < 0.7
    padded = trial.with_arguments(attention_mask=mask.astype(np.int64))
    tokens, other = token_rows(padded), dict(padded.arguments)
    for name, letter in (("ids", "V"), ("position_ids", "L")):
        if name in other:
            other[name] = np.where(tokens[..., 0], other[name], (other[name] + 1) % trial.case.sizes[letter])
    if "past" in other:
        shown = mask[:, None, :past, None]
        other["past"] = [tuple(np.where(shown, x, -x) for x in pair) for pair in other["past"]]
    changed = trial.with_arguments(**other)

    def engine() -> Verdicts:
        model = trial.model()
        expected, actual = (model.logits(*inputs_of(without_past(case))) for case in (padded, changed))
        yield trial.identical(actual, expected, tokens)

    def plain() -> Verdicts:
        yield trial.identical(changed.run()[0], padded.run()[0], tokens)

    if is_tame(padded, changed):
        yield from where_offered(engine(), plain())


@law("engine.logits")
def a_sequence_of_pads_disturbs_nobody(trial: Trial) -> Verdicts:
    """If one sequence of the batch has only pads, all scores are finite, and those of the others do not change, bit for
    bit.

    Proof: the lowest finite number hides a key, so a row with all keys hidden has equal scores and equal weights, and
    no infinity that could make a NaN. Sequences do not affect each other.
    """
    mask = inputs_of(trial)[1]
    emptied = mask * (np.arange(len(mask)) > 0)[:, None]
    if is_tame(trial):
        actual = model_scores(trial.with_arguments(attention_mask=emptied))
        for scores in actual:
            yield must_hold(trial, np.isfinite(scores))
        yield from same_bits(
            trial, actual, model_scores(trial.with_arguments(attention_mask=mask)), (emptied != 0)[..., None]
        )


@law("model.language_model")
def past_and_rest_make_the_whole(trial: Trial) -> Verdicts:
    """Reading the first tokens, then the rest with the keys and values of the first as past, gives the scores, keys and
    values of reading all at once. No verdict on one token.

    Proof: keys and values of a token depend only on it and on earlier tokens, so they are the same in both, and each
    query sees the same keys.
    """
    whole, length = without_past(trial), trial.case.sizes["T"]
    if length == 1 or not is_tame(whole):
        return
    cut = int(random_of(trial).integers(1, length))
    first = {name: x[:, :cut] for name, x in given_arguments(whole, "ids", "attention_mask", "position_ids").items()}
    rest = {name: x[:, cut:] for name, x in given_arguments(whole, "ids", "position_ids").items()}
    presents = whole.with_arguments(**first).presents()
    past = list(zip(presents[::2], presents[1::2], strict=True))
    actual, expected = whole.with_arguments(**rest, past=past).run(), whole.run()
    yield trial.close(actual[0], expected[0][:, cut:], 2 * whole.noise(), token_rows(whole)[:, cut:])
    for i in range(1, len(expected)):
        yield trial.close(actual[i], expected[i], 2 * whole.noise(i), mask_of(whole)[:, None, :, None])


@law("engine.logits")
def a_decoder_reads_in_pieces(trial: Trial) -> Verdicts:
    """A decoder that has read up to a token, in pieces of any size, has the scores that the whole model gives at that
    token.

    Proof: as for past_and_rest_make_the_whole; the cache holds the keys and values of what was read.
    """
    inputs, model = inputs_of(trial), trial.model()
    length, expected = inputs[0].shape[1], model.logits(*inputs)
    anywhere = np.union1d(np.flatnonzero(random_of(trial).integers(0, 2, length)) + 1, length).tolist()
    for ends in ([length], list(range(1, length + 1)), anywhere):
        actual, last = (
            np.stack(list(scores_by_piece(model.decoder(*inputs[0].shape), inputs, ends)), axis=1),
            np.array(ends) - 1,
        )
        yield trial.close(actual, expected[:, last], 2 * trial.noise(), token_rows(trial)[:, last])


@law("engine.logits")
def sequences_do_not_meet(trial: Trial) -> Verdicts:
    """A sequence has the same scores alone, in a batch, and in a batch of another order.

    Proof: no step mixes sequences; only the order of sums may differ with the shape.
    """
    size, all_scores, inputs = (
        trial.case.sizes["B"],
        model_scores(trial),
        given_arguments(trial, "ids", "attention_mask", "position_ids"),
    )
    for order in ([trial.case.seed % size], [*reversed(range(size)), 0]):
        other = changed(trial, {"B": len(order)}, **{name: x[order] for name, x in inputs.items()})
        expected = [scores[order] for scores in all_scores]
        yield from equal_but_for_rounding(
            trial, model_scores(other), expected, 2 * trial.noise(), token_rows(trial)[order]
        )


@law("engine.logits")
def pads_at_the_ends_change_nothing(trial: Trial) -> Verdicts:
    """Pads on the left and right do not change the scores of tokens, if the attention mask marks them and the tokens
    keep their positions.

    Proof: a pad is hidden from every token, and position_ids gives a token's position, not its place in the array.
    """
    left, right = (int(pads) for pads in random_of(trial).integers(1, 3, 2))
    roomy, length = longer_context(trial, left + right), trial.case.sizes["T"]
    ids, mask, positions = (np.pad(x, ((0, 0), (left, right))) for x in inputs_of(trial))
    sizes = {"T": length + left + right, "S": length + left + right}
    padded = changed(roomy, sizes, ids=ids, attention_mask=mask, position_ids=positions)
    actual = [scores[:, left : left + length] for scores in model_scores(padded)]
    yield from equal_but_for_rounding(trial, actual, model_scores(roomy), 2 * trial.noise(), token_rows(trial))


@law("engine.classify")
def the_classifier_reads_the_last_token(trial: Trial) -> Verdicts:
    """A sequence's label scores are read at its last token: cutting it off there, or adding pads, does not change them.
    Pads are given by the attention mask or, without one, are trailing tokens of id pad_token_id. No verdict on
    sequences of pads alone, and none on pad_token_id if every id is the last of some sequence.

    Proof: the last token does not see what comes after it.
    """
    trial = changed(trial, config={"pad_token_id": None})  # so that only the mask tells pads
    expected, noise, mask, pad = trial.run()[0], 2 * trial.noise(), mask_of(trial), ((0, 0), (0, 1))
    row, length = trial.case.seed % len(mask), mask.shape[1] + 1
    if mask[row].any():
        end = int(np.flatnonzero(mask[row])[-1]) + 1
        inputs = given_arguments(trial, "ids", "attention_mask", "position_ids")
        cut = changed(trial, {"B": 1, "T": end, "S": end}, **{n: x[row : row + 1, :end] for n, x in inputs.items()})
        yield trial.close(cut.run()[0], expected[row : row + 1], noise)
    ids, kept, positions = (np.pad(x, pad) for x in inputs_of(trial))
    longer = changed(longer_context(trial, 1), {"T": length, "S": length}, position_ids=positions)
    marked = longer.with_arguments(ids=ids, attention_mask=kept)
    yield trial.close(marked.run()[0], expected, noise, mask.any(axis=1, keepdims=True))
    unused = set(range(trial.case.sizes["V"])) - set(trial.arguments["ids"][:, -1].tolist())
    if unused:
        filled = np.pad(trial.arguments["ids"], pad, constant_values=min(unused))
        guessed = changed(longer, config={"pad_token_id": min(unused)}, ids=filled, attention_mask=None)
        bare = trial.with_arguments(attention_mask=None)
        yield trial.close(guessed.run()[0], bare.run()[0], 2 * bare.noise())


@law("engine.classify")
def labels_are_names(trial: Trial) -> Verdicts:
    """If the rows of the classifier's weight are reordered, the scores of the labels are reordered in the same way.

    Proof: a label's score is the product with its row.
    """
    order, params = random_of(trial).permutation(trial.case.sizes["K"]), trial.arguments["params"]
    score = {"weight": params["score"]["weight"][np.argsort(order)]}
    actual = trial.with_arguments(params={**params, "score": score}).run()[0]
    yield trial.close(actual[:, order], trial.run()[0], 2 * trial.noise())


@law("engine.logits")
def channels_heads_and_units_have_no_order(trial: Trial) -> Verdicts:
    """Channels of the residual stream, heads, channels of a head and units of the MLP may be in any order, if all
    parameters are reordered with them.

    Proof: every sum over them is a sum over all of them, and every other step treats each in the same way.
    """
    case, axes = trial.case, case_axes(trial.case)["params"]
    permuted = orbit.permute(trial.arguments["params"], axes, case, orbit.permutations(case, 1))
    actual = model_scores(trial.with_arguments(params=permuted))
    yield from equal_but_for_rounding(trial, actual, model_scores(trial), 2 * trial.noise(), token_rows(trial))


@law("engine.logits")
def ids_are_names(trial: Trial) -> Verdicts:
    """If the rows of wte, and of an untied head, are reordered and the ids renamed accordingly, the scores are
    reordered in the same way.

    Proof: an id only selects a row, and its score is the product with a row.
    """
    params, order = trial.arguments["params"], random_of(trial).permutation(trial.case.sizes["V"])
    tables = [part for part in ("wte", "lm_head") if part in params]
    turned = {part: {"weight": params[part]["weight"][np.argsort(order)]} for part in tables}
    renamed = trial.with_arguments(ids=order[trial.arguments["ids"]], params={**params, **turned})
    actual = [scores[..., order] for scores in model_scores(renamed)]
    yield from equal_but_for_rounding(trial, actual, model_scores(trial), 2 * trial.noise(), token_rows(trial))


@law("engine.logits")
def tokens_and_positions_are_alike(trial: Trial) -> Verdicts:
    """Swapping token embeddings with position embeddings, and ids with positions, changes no score, bit for bit. The
    head is untied, and the smaller table is padded with zeros.

    Proof: the model reads the sum of the two, and a + b = b + a also after rounding.
    """
    untied_model, rows = untied(trial), max(trial.case.sizes["V"], trial.case.sizes["L"])
    (ids, _, positions), params = inputs_of(untied_model), dict(untied_model.arguments["params"])
    for part in ("wte", "wpe", "lm_head"):
        weight = params[part]["weight"]
        params[part] = {"weight": np.pad(weight, ((0, rows - len(weight)), (0, 0)))}
    swapped = {**params, "wte": params["wpe"], "wpe": params["wte"]}
    before = changed(untied_model, {"V": rows, "L": rows}, {"vocab_size": rows, "n_positions": rows}, params=params)
    after = before.with_arguments(params=swapped, ids=positions, position_ids=ids)
    yield from same_bits(trial, model_scores(after), model_scores(before), token_rows(trial))


@law("model.language_model")
def positions_count_from_the_end_of_the_past(trial: Trial) -> Verdicts:
    """Without position_ids, new tokens have the positions P, P + 1, ..., bit for bit, whatever the attention mask says.

    Proof: this is the default of position_ids.
    """
    ids, past = trial.arguments["ids"], past_length(trial)
    counted = np.broadcast_to(np.arange(past, past + ids.shape[1]), ids.shape)
    by_default, explicit = (trial.with_arguments(position_ids=positions) for positions in (None, counted))

    def engine() -> Verdicts:
        model, alone = trial.model(), without_past(by_default)
        actual = model.logits(ids, alone.arguments.get("attention_mask"))
        yield trial.identical(actual, model.logits(*inputs_of(alone)), token_rows(trial))

    def plain() -> Verdicts:
        yield from same_bits(trial, by_default.run(), explicit.run())

    return where_offered(engine(), plain())


@law("model.gpt2")
def final_states_have_mean_0(trial: Trial) -> Verdicts:
    """If the last LayerNorm has gain 1 and bias 0, hidden states have mean 0 and a mean square of at most 1.

    Proof: the hidden states are the result of this LayerNorm.
    """
    params = trial.arguments["params"]
    bare = {"weight": np.ones_like(params["ln_f"]["weight"]), "bias": np.zeros_like(params["ln_f"]["bias"])}
    plain = trial.with_arguments(params={**params, "ln_f": bare})
    if is_tame(plain):
        states = plain.run()[0].astype(np.float64)
        mean, root, rows = states.mean(axis=-1), states.std(axis=-1), token_rows(plain)[..., 0]
        yield trial.close(mean, np.zeros_like(mean), plain.noise(), rows, size=largest(states))
        yield trial.close(root, np.minimum(root, 1), plain.noise(), rows, size=largest(states))


@law("engine.logits")
def a_tied_head_is_wte(trial: Trial) -> Verdicts:
    """A tied head gives the scores of an untied one that holds the token embeddings, bit for bit.

    Proof: it is the same product with the same numbers.
    """
    params = {name: part for name, part in trial.arguments["params"].items() if name != "lm_head"}
    tied = changed(trial, config={"tie_word_embeddings": True}, params=params)
    yield from same_bits(trial, model_scores(untied(tied)), model_scores(tied), token_rows(trial))


@law("ops.cross_entropy")
def what_is_not_scored_does_not_count(trial: Trial) -> Verdicts:
    """The loss is the mean of the losses for each scored label alone; it is 0 if no label is scored.

    Proof: ignored labels are neither in the sum nor in the count.
    """
    labels, ignored = trial.arguments["labels"], trial.arguments["ignore_index"]
    places = np.argwhere(labels != ignored)
    alone = np.full((len(places), *labels.shape), ignored)
    at = (np.arange(len(places)), *places.T)
    alone[at] = labels[at[1:]]
    single = [trial.with_arguments(labels=label) for label in alone]
    losses = np.array([float(label_alone.run()[0]) for label_alone in single] or [0.0])
    noise = trial.noise() + max((label_alone.noise() for label_alone in single), default=0.0)
    yield trial.close(trial.run()[0], losses.mean(), noise, size=largest(losses))


@law("ops.cross_entropy_vjp")
def scores_of_a_row_are_pulled_apart(trial: Trial) -> Verdicts:
    """The gradient of the loss by the scores of a row sums to 0, and is 0, bit for bit, if the row is ignored.

    Proof: the loss does not change if a number is added to all scores of a row, and does not depend on ignored rows.
    """
    gradient, labels = trial.run()[0], trial.arguments["labels"]
    yield trial.identical(gradient, np.zeros_like(gradient), (labels == trial.arguments["ignore_index"])[..., None])
    sums = gradient.astype(np.float64).sum(axis=-1)
    yield trial.close(sums, np.zeros_like(sums), gradient.shape[-1] * trial.noise(), size=largest(gradient))
