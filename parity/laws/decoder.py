"""Laws of decoders and fast forms as engines use them: calls in any order, options that change the form of a result."""

import dataclasses

import numpy as np

from gpt2.backends import Decoder
from parity.laws.base import (
    Array,
    Verdicts,
    changed,
    law,
    longer_context,
    must_hold,
    random_of,
    score_of,
    scores_by_piece,
    token_rows,
)
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict, ulp
from reference.config import flatten

UPDATED_AT_ONCE = 1 << 16  # elements of a weight; the fast update takes more of them in parts
CALLS = 6  # from one comparison of scores to the next


@dataclasses.dataclass
class _Text:
    """What the sequences of a decoder have read: ids and mask, (B, T)."""

    ids: Array
    mask: Array

    @property
    def positions(self) -> Array:
        """Positions that count the tokens, (B, T)."""
        return np.maximum(np.cumsum(self.mask, axis=1) - 1, 0)

    def add(self, ids: Array, mask: Array) -> tuple[Array, Array, Array]:
        """The text with more ids; returns what a decoder is to read."""
        self.ids = np.concatenate((self.ids, ids), axis=1)
        self.mask = np.concatenate((self.mask, mask), axis=1)
        return ids, mask, self.positions[:, -ids.shape[1] :]

    def take(self, rows: Array) -> None:
        """Let sequence i be a copy of sequence rows[i]."""
        self.ids, self.mask = self.ids[rows], self.mask[rows]


@law("engine.logits")
def a_decoder_is_the_plain_model_after_any_calls(trial: Trial) -> Verdicts:
    """After any calls of read, greedy, sample, reorder and advance, in any order, a decoder has the scores that the
    model gives to the text that each of its sequences has read, and it chooses by them.

    Proof: keys and values of a token depend on the tokens before it alone, and reorder copies all of a sequence.
    """
    random, (rows, length), ids = random_of(trial), trial.arguments["ids"].shape, trial.arguments["ids"]
    pieces = [int(tokens) for tokens in random.integers(1, 4, 3 * CALLS)]
    room = length + sum(pieces) + int(random.integers(0, 3))
    roomy = longer_context(trial, max(0, room - trial.case.sizes["L"]))
    model, text = roomy.model(), _Text(ids[:, :0], ids[:, :0])
    decoder = model.decoder(rows, room)
    decoder.read(*text.add(ids, _pads_on_the_left(random, ids.shape)))
    for number, tokens in enumerate(pieces, start=1):
        yield from _call(decoder, text, random, tokens, trial)
        if number % CALLS:
            continue
        read = text.ids.shape[1]
        case = dataclasses.replace(roomy.case, sizes=roomy.case.sizes | {"T": read, "S": read})
        inputs = {"ids": text.ids, "attention_mask": text.mask, "position_ids": text.positions}
        whole = roomy.with_arguments(case, **inputs)
        yield trial.close(decoder.logits(), model.logits(*inputs.values())[:, -1], 2 * whole.noise())


def _call(decoder: Decoder, text: _Text, random: np.random.Generator, tokens: int, trial: Trial) -> Verdicts:
    """Call a decoder in one of the ways in which the loops of generation do, then choose, half of the time."""
    way, count = random.choice(["read", "advance", "reorder", "beam"]), len(text.ids)
    if way in ("advance", "beam"):
        chosen = _choose(decoder, random, count)
        yield _is_likeliest(decoder, chosen, trial)
    rows = random.integers(0, count, count) if way in ("reorder", "beam") else np.arange(count)
    if way in ("reorder", "beam"):
        decoder.reorder(rows)
        text.take(rows)
    if way in ("advance", "beam"):
        chosen = chosen[rows]
        decoder.advance()
        text.add(chosen[:, None], np.ones((count, 1), np.int64))
    if way == "read":
        shape = count, tokens
        decoder.read(*text.add(random.integers(0, trial.case.sizes["V"], shape), _pads_on_the_left(random, shape)))
    if random.random() < 0.5:
        yield _is_likeliest(decoder, _choose(decoder, random, count), trial)


def _choose(decoder: Decoder, random: np.random.Generator, count: int) -> Array:
    return decoder.sample(random.random(count), 0.5, 1, 1.0) if random.random() < 0.3 else decoder.greedy()


def _is_likeliest(decoder: Decoder, chosen: Array, trial: Trial) -> Verdict:
    scores = decoder.logits()
    return trial.identical(score_of(scores, chosen), scores.max(axis=-1))


def _pads_on_the_left(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A mask (B, T) whose last column is of tokens."""
    pads = random.integers(0, shape[1], (shape[0], 1)) * random.integers(0, 2)
    return (np.arange(shape[1]) >= pads).astype(np.int64)


PIECES = (3, 3, 1)


@law("engine.logits")
def a_decoder_has_room_for_every_piece(trial: Trial) -> Verdicts:
    """A decoder for seven tokens that reads three, three and one has the scores of the last of seven.

    Proof: it has promised room for seven tokens. (An engine that compiles for few lengths rounds each of them up.)
    """
    length = sum(PIECES)
    roomy = longer_context(trial, max(0, length - trial.case.sizes["L"]))
    ids = np.resize(trial.arguments["ids"], (len(trial.arguments["ids"]), length))
    case = dataclasses.replace(roomy.case, sizes=roomy.case.sizes | {"T": length, "S": length})
    inputs = ids, np.ones_like(ids), np.broadcast_to(np.arange(length), ids.shape)
    whole = roomy.with_arguments(case, **dict(zip(("ids", "attention_mask", "position_ids"), inputs, strict=True)))
    model = roomy.model()
    scores = list(scores_by_piece(model.decoder(*ids.shape), inputs, np.cumsum(PIECES).tolist()))[-1]
    yield trial.close(scores, model.logits(*inputs)[:, -1], 2 * whole.noise())


@law("engine.logits")
def an_engine_rounds_its_weights(trial: Trial) -> Verdicts:
    """Weights with more digits than the dtype of the engine has give the scores, bit for bit, of weights without them.

    Proof: weights are rounded to that dtype, and a fifth of a unit in the last place does not change what a number is
    rounded to.
    """
    ids, exact = trial.arguments["ids"], flatten(trial.arguments["params"])
    wide = np.float64 if trial.dtype.itemsize > 2 else np.float32
    finer = {name: x.astype(wide) + (0.2 * ulp(x, trial.dtype)).astype(wide) for name, x in exact.items()}
    one, other = (trial.backend.model(trial.arguments["config"], weights) for weights in (exact, finer))
    yield trial.identical(other.logits(ids), one.logits(ids))


@law("fast.language_model_fast")
def the_last_scores_can_be_had_alone(trial: Trial) -> Verdicts:
    """With last_only, the scores are those of the last token.

    Proof: everything after the last block treats each token alone.
    """
    alone, whole = trial.with_arguments(last_only=True), trial.run()[0]
    yield trial.close(alone.run()[0], whole[:, -1:], 2 * trial.noise(), token_rows(trial)[:, -1:])


@law("fast.linear")
def rows_need_no_batch(trial: Trial) -> Verdicts:
    """An affine map of rows (N, C) is that of the batch (B, T, C) that has these rows.

    Proof: it treats each row alone.
    """
    x, whole = trial.arguments["x"], trial.run()[0]
    rows = trial.with_arguments(x=x.reshape(-1, x.shape[-1])).run()[0]
    yield trial.close(rows, whole.reshape(rows.shape), 2 * trial.noise())


@law("optim.adamw")
def the_fast_update_is_the_plain_one(trial: Trial) -> Verdicts:
    """adamw_fast returns what adamw returns, in float32, in which weights are trained, and the same for every copy of a
    weight that is so large that it is updated in parts.

    Proof: its rate and its epsilon contain the bias corrections: the same function in exact arithmetic. It treats every
    number alone.
    """
    if trial.dtype.itemsize < 4:
        return
    param = trial.arguments["param"]
    for copies in (1, UPDATED_AT_ONCE // param.size + 1):
        many = {name: np.tile(trial.arguments[name], (copies, 1)) for name in ("param", "grad", "m", "v")}
        found = trial.backend.call("fast.adamw_fast", trial.arguments | many)
        for index, (x, known) in enumerate(zip(found, trial.references(), strict=True)):
            if copies == 1:
                yield known.judge(x)
            else:
                yield trial.close(x, np.tile(known.oracle, (copies, 1)), 2 * trial.noise(index))


@law("generate.sample")
def equal_scores_share_equally(trial: Trial) -> Verdicts:
    """Of n ids with equal scores, n a power of two, top_p = j / n keeps the first j, and the number i / n draws id i.

    Proof: exp(0) is 1, and quotients and sums of powers of two are exact. An id is kept if the share before it is below
    top_p, and drawn if it is the first whose cumulated share exceeds the number.
    """
    vocabulary = 1 << (trial.case.sizes["V"].bit_length() - 1)
    ids = np.arange(vocabulary)
    equal = changed(
        trial,
        {"B": vocabulary, "V": vocabulary},
        logits=np.full((vocabulary, vocabulary), trial.arguments["logits"][0, 0]),
        uniform=(ids / vocabulary).astype(trial.arguments["uniform"].dtype),
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        typical_p=1.0,
    )
    yield must_hold(trial, equal.run()[0] == ids)
    kept = int(random_of(trial).integers(1, vocabulary + 1))
    given = {name: equal.arguments[name] for name in ("logits", "temperature", "top_k", "min_p", "typical_p")}
    shares = equal.of("generate.sampling_probabilities", **given, top_p=kept / vocabulary).run()[0]
    yield trial.identical(shares > 0, np.broadcast_to(ids < kept, shares.shape))


@law("generate.beams_may_improve")
def never_waits_for_the_longest_text(trial: Trial) -> Verdicts:
    """early_stopping="never" goes on where only a text of the full length would be better than the worst finished one;
    False does not.

    Proof: with length_penalty 1 a running sum of -8 is worth -8 / 2 after 2 tokens, and -8 / 16 after 16; the worst
    finished text is worth -1, and all these numbers are exact.
    """
    shape = trial.arguments["running"].shape
    given = {"running": np.full(shape, -8, trial.dtype), "finished": np.full(shape, -1, trial.dtype)}
    for early_stopping, goes_on in (("never", True), (False, False)):
        options = {"length": 2, "longest": 16, "length_penalty": 1.0, "early_stopping": early_stopping}
        found = trial.of("generate.beams_may_improve", **given, **options).run()[0]
        yield trial.identical(found, np.full(found.shape, goes_on))
