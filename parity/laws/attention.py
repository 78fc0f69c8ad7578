"""Laws of masked self-attention."""

from typing import Any

import numpy as np

from parity.laws.base import (
    Array,
    Verdicts,
    _reweigh,
    changed,
    given_arguments,
    is_tame,
    largest,
    law,
    mask_of,
    must_hold,
    random_of,
    scaled_qkv,
    token_rows,
    where_offered,
    without_past,
)
from parity.verdict.trial import Trial

# Attention.


@law("attention.split_heads")
def heads_are_neighbouring_channels(trial: Trial) -> Verdicts:
    """split_heads puts channel h * D + d of token t at (h, t, d), and merge_heads puts it back.

    Proof: that is how GPT-2's checkpoints are laid out; the numbers are moved, not computed with.
    """
    x, split = trial.arguments["x"], trial.run()[0]
    yield trial.identical(split, np.stack(np.split(x, trial.arguments["n_head"], axis=2), axis=1))
    yield trial.identical(trial.of("attention.merge_heads", x=split).run()[0], x)


@law("attention.visible_keys")
def keys_are_seen_up_to_the_query(trial: Trial) -> Verdicts:
    """Query t of the last T of S positions sees the keys up to S - T + t, except those that the attention mask hides.
    In the fast form, the score of a visible key gets 0 added, that of a hidden key a number that leaves it no weight.

    Proof: this is the definition of a causal mask.
    """
    lengths, masks = given_arguments(trial, "query_length", "key_length"), given_arguments(trial, "attention_mask")
    queries, keys, heads = *lengths.values(), trial.case.sizes["H"]
    causal = np.arange(keys)[None] <= np.arange(keys - queries, keys)[:, None]
    seen = causal[None, None] if not masks else causal & (masks["attention_mask"] != 0)[:, None, None]

    def plain(function: str, expected: Array, **others: Any) -> Verdicts:
        yield trial.identical(trial.of(function, **lengths, **others).run()[0], expected)

    def fast() -> Verdicts:
        options = {**lengths, "n_head": heads, "dtype": trial.dtype, "slot": keys - queries, **masks}
        added = trial.of("fast.hidden_keys", **options).run()[0]
        by_head = np.broadcast_to(seen, (len(seen), heads, queries, keys))
        yield trial.identical(np.broadcast_to(added == 0, by_head.shape), by_head)
        yield must_hold(trial, (added == 0) | (added < -(2.0**14)) & np.isfinite(added))

    return where_offered(plain("attention.causal_bias", causal), plain("attention.visible_keys", seen, **masks), fast())


@law("attention.mask_scores")
def hidden_keys_get_no_weight(trial: Trial) -> Verdicts:
    """Masking keeps a visible score, bit for bit, and moves a hidden score so far below every visible one that its
    weight is exactly 0, even for scores as low as -16384; adding the mask gives finite scores and the same weights.
    The weights of a query that sees no key may be anything. No verdict where a score is above 16384 in size.

    Proof: a hidden score gets the lowest finite number; exp of its distance to any visible score is below half the
    smallest number. There is no infinity that could make a NaN where all keys are hidden.
    """
    scores, visible = trial.arguments["scores"], trial.arguments["visible"]
    if largest(scores) > 2**14:
        return
    low, sees = scores - np.array(2**14, scores.dtype), visible.any(axis=-1, keepdims=True)
    masked = trial.with_arguments(scores=low).run()[0]
    yield trial.identical(masked, low, visible)
    yield trial.identical(np.minimum(masked, low.min()), masked, ~visible)
    weights = trial.of("ops.softmax", x=masked).run()[0]
    yield trial.identical(weights, np.zeros_like(weights), sees & ~visible)
    added = trial.of("attention.mask_scores_by_addition", scores=low, visible=visible).run()[0]
    yield must_hold(trial, np.isfinite(added))
    yield trial.identical(trial.of("ops.softmax", x=added).run()[0], weights, sees)


@law("attention.attention")
def the_first_token_sees_itself_alone(trial: Trial) -> Verdicts:
    """The result of attention at a sequence's first token does not depend on queries and keys, bit for bit.

    Proof: the token sees one key, its own; for any score, its weight is exp(0) / exp(0) = 1, and all others are 0.
    """
    no_past = without_past(trial)
    blind, tokens = _reweigh(no_past, lambda name, x: scaled_qkv(name, x, q=0, k=0)), token_rows(no_past)
    if is_tame(no_past):
        yield trial.identical(blind.run()[0], no_past.run()[0], tokens & (np.cumsum(tokens, axis=1) == 1))


@law("attention.attention")
def equal_values_pass_unchanged(trial: Trial) -> Verdicts:
    """If all keys, also those of the past, have the same values, attention returns these values.

    Proof: the weights of a query sum to 1. The last affine map is set to the identity, so that the values show.
    """
    channels, past = trial.case.sizes["C"], trial.arguments.get("past")
    offered = random_of(trial).standard_normal(channels).astype(trial.dtype)

    def change(name: str, x: Array) -> Array:
        if "c_proj" in name:
            return np.eye(channels).astype(x.dtype) if name.endswith("weight") else np.zeros_like(x)
        return scaled_qkv(name, x, v=0) if name.endswith("weight") else np.concatenate((x[:-channels], offered))

    if past is not None:
        by_head = offered.reshape(1, trial.case.sizes["H"], 1, -1)
        past = (past[0], np.zeros_like(past[1]) + by_head)
    equal = _reweigh(trial, change, past=past)
    if is_tame(equal):
        yield trial.close(
            equal.run()[0], np.zeros_like(trial.arguments["x"]) + offered, equal.noise(), token_rows(equal)
        )


@law("attention.attention")
def the_bias_of_the_keys_is_forgotten(trial: Trial) -> Verdicts:
    """The bias of the keys does not change the result of attention. (There is no past here: its keys are computed
    already.)

    Proof: it adds the product of query and bias to all scores of a query, and softmax is not changed by a shift.
    """
    no_past = without_past(trial)

    def change(name: str, x: Array) -> Array:
        if name != "c_attn.bias":
            return x
        q, k, v = np.split(x, 3)
        return np.concatenate((q, np.ones_like(k) - k, v))

    other = _reweigh(no_past, change)
    if is_tame(no_past, other):
        yield trial.close(other.run()[0], no_past.run()[0], no_past.noise() + other.noise(), token_rows(no_past))


@law("attention.attention")
def a_head_minds_its_own_channels(trial: Trial) -> Verdicts:
    """The result of one head does not depend on the queries, keys and values of other heads, bit for bit. No verdict on
    a single head.

    Proof: a head reads only its own D channels of each. The other heads' rows of the last affine map are set to zero,
    so that only this head shows; the others then contribute exactly 0.
    """
    heads = trial.case.sizes["H"]
    chosen = (np.arange(heads) == trial.case.seed % heads).astype(trial.dtype)
    channels, past = np.repeat(chosen, trial.case.sizes["D"]), trial.arguments.get("past")
    alone = _reweigh(trial, lambda name, x: x * channels[:, None] if name == "c_proj.weight" else x)
    if past is not None:
        past = tuple(x * chosen[:, None, None] for x in past)
    emptied = _reweigh(alone, lambda name, x: x * np.tile(channels, 3) if "c_attn" in name else x, past=past)
    if heads > 1 and is_tame(trial):
        yield trial.identical(emptied.run()[0], alone.run()[0], token_rows(alone))


@law("attention.attention")
def the_past_has_no_order(trial: Trial) -> Verdicts:
    """Keys and values of the past may be in any order, if the attention mask is reordered with them. The
    case's own tokens serve as the past. No verdict on one token.

    Proof: every new token sees all of the past, and a sum over keys does not depend on their order.
    """
    no_past, length = without_past(trial), trial.case.sizes["T"]
    if length == 1 or not is_tame(no_past):
        return
    past = no_past.presents()
    mask = np.concatenate((random_of(trial).random((len(past[0]), length)) < 0.7, mask_of(no_past)), axis=1).astype(
        np.int64
    )
    order = np.roll(np.arange(length), 1)
    in_order, reordered = (
        changed(
            no_past,
            {"P": length, "S": 2 * length},
            past=tuple(x[:, :, places] for x in past),
            attention_mask=np.concatenate((mask[:, places], mask[:, length:]), axis=1),
        )
        for places in (np.arange(length), order)
    )
    yield trial.close(reordered.run()[0], in_order.run()[0], in_order.noise() + reordered.noise(), token_rows(in_order))


@law("attention.attention")
def scores_are_divided_by_the_root_of_the_head_size(trial: Trial) -> Verdicts:
    """Attention without scaling equals attention with scaling whose heads are padded with zeros to 4 ** m channels and
    whose queries are 2 ** m times as large.

    Proof: zeros add nothing to a score; scaling divides it by the root of 4 ** m, which is 2 ** m.
    """
    heads, size, past = trial.case.sizes["H"], trial.case.sizes["D"], trial.arguments.get("past")
    root = next(2**m for m in range(1, 16) if 4**m >= size)

    def fill(x: Array, axis: int, groups: int = heads) -> Array:
        """Pad every group of D channels with zeros, on an axis of groups * D."""
        split = x.reshape(*x.shape[:axis], groups, size, *x.shape[axis + 1 :])
        width = [(0, 0)] * split.ndim
        width[axis + 1] = (0, root**2 - size)
        return np.pad(split, width).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])

    def change(name: str, x: Array) -> Array:
        x = fill(scaled_qkv(name, x, q=root), x.ndim - 1, 3 * heads if "c_attn" in name else heads)
        return fill(x, 0) if name.endswith("weight") else x

    unscaled, width = changed(trial, config={"scale_attn_weights": False}), heads * root**2
    wide = _reweigh(
        unscaled,
        change,
        sizes={"C": width, "D": root**2},
        config={"scale_attn_weights": True, "n_embd": width},
        x=fill(trial.arguments["x"], 2),
        past=None if past is None else tuple(fill(x, 3, 1) for x in past),
    )
    if is_tame(unscaled, wide):
        original = fill(np.ones(heads * size), 0) == 1
        noise, rows = unscaled.noise() + wide.noise(), token_rows(unscaled)
        yield trial.close(wide.run()[0][..., original], unscaled.run()[0], noise, rows)


@law("attention.attention")
def scores_of_higher_precision_change_rounding_alone(trial: Trial) -> Verdicts:
    """Attention returns the same with and without reorder_and_upcast_attn.

    Proof: the switch changes the precision of the scores, not their formula.
    """
    plain, upcast = (changed(trial, config={"reorder_and_upcast_attn": switch}) for switch in (False, True))
    if is_tame(plain):
        yield trial.close(upcast.run()[0], plain.run()[0], plain.noise() + upcast.noise(), token_rows(plain))
