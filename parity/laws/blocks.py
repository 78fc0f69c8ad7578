"""Laws of blocks, of the weights inside them, and of dropout."""

import numpy as np

from parity.laws.base import (
    Array,
    Verdicts,
    _reweigh,
    changed,
    equal_but_for_rounding,
    given_arguments,
    is_tame,
    largest,
    law,
    model_scores,
    other_rows,
    random_of,
    same_bits,
    scaled_qkv,
    shifted,
    silenced,
    token_rows,
    untied,
    where_offered,
    without_past,
)
from parity.verdict.trial import Trial
from reference.config import map_tree

# A block and its MLP.


@law("model.block")
def fast_forms_are_the_plain_ones(trial: Trial) -> Verdicts:
    """attention_fast and mlp_fast return what attention and mlp return, at every token that is no pad.

    Proof: weights are transposed, and the mask is added; the mathematics is the same.
    """
    no_past = without_past(trial)
    params, inputs, masks = (
        no_past.arguments["params"],
        given_arguments(no_past, "x", "config"),
        given_arguments(no_past, "attention_mask"),
    )
    turned, layer = map_tree(lambda name, x: x.T if name.endswith("weight") else x, params), no_past.arguments["layer"]

    def attention() -> Verdicts:
        tokens, heads = inputs["x"].shape[1], inputs["config"].n_head
        sizes = {"query_length": tokens, "key_length": tokens, "n_head": heads, "dtype": trial.dtype, "slot": 0}
        hidden = no_past.of("fast.hidden_keys", **sizes, **masks).run()[0]
        plain = no_past.of("attention.attention", params=params["attn"], layer=layer, **inputs, **masks)
        fast = no_past.of("fast.attention_fast", params=turned["attn"], layer=layer, hidden=hidden, **inputs)
        if is_tame(plain):
            yield trial.close(fast.run()[0], plain.run()[0], 2 * plain.noise(), token_rows(no_past))

    def mlp() -> Verdicts:
        plain = no_past.of("model.mlp", params=params["mlp"], layer=layer, **inputs)
        fast = no_past.of("fast.mlp_fast", params=turned["mlp"], **inputs)
        yield trial.close(fast.run()[0], plain.run()[0], 2 * plain.noise())

    return where_offered(attention(), mlp())


@law("model.mlp")
def the_mlp_treats_each_token_alone(trial: Trial) -> Verdicts:
    """The MLP's result at a token does not depend on the other tokens, bit for bit, nor on the token's place.

    Proof: affine maps and activation use only the token's own channels; at another place in the array they may sum in
    another order.
    """
    (row, changed), expected = other_rows(trial), trial.run()[0]
    yield trial.identical(trial.with_arguments(x=changed).run()[0], expected, row)
    turned = trial.with_arguments(x=trial.arguments["x"][::-1, ::-1]).run()[0]
    yield trial.close(turned, expected[::-1, ::-1], 2 * trial.noise())


@law("model.block")
def a_silent_block_adds_its_last_biases(trial: Trial) -> Verdicts:
    """A block whose last affine maps have zero weights adds their two biases to x; if these are zero too, it returns x,
    bit for bit.

    Proof: the results of both sub-blocks are added to the residual stream, and each returns its last bias.
    """
    x, params = trial.arguments["x"], trial.arguments["params"]
    if not is_tame(trial):
        return
    yield trial.identical(trial.with_arguments(params=silenced(params)).run()[0], x, token_rows(trial))
    biased = _reweigh(trial, lambda name, value: np.zeros_like(value) if "c_proj.weight" in name else value)
    parts = [value.astype(np.float64) for value in (x, *(params[part]["c_proj"]["bias"] for part in ("attn", "mlp")))]
    yield trial.close(biased.run()[0], sum(parts), biased.noise(), token_rows(trial), size=largest(*parts))


@law("model.block")
def a_block_forgets_a_shift_of_all_channels(trial: Trial) -> Verdicts:
    """What a block adds to x does not change if the same number is added to all channels of x.

    Proof: both sub-blocks read the residual stream through a LayerNorm, which removes the shift; the stream itself
    keeps it.
    """
    x = shifted(trial.arguments["x"], 4)
    here, there = (trial.with_arguments(x=moved) for moved in x)
    if is_tame(here, there):
        y = here.run()[0], there.run()[0]
        added = [after.astype(np.float64) - before.astype(np.float64) for after, before in zip(y, x, strict=True)]
        yield trial.close(added[1], added[0], here.noise() + there.noise(), token_rows(trial), size=largest(*x, *y))


@law("engine.logits")
def gains_and_biases_fold_into_the_next_weights(trial: Trial) -> Verdicts:
    """A LayerNorm's gains can be folded into the rows of the next weight, and its bias, times that weight, into the
    next bias.

    Proof: (n * gain + shift) @ weight + bias = n @ (gain * weight) + (bias + shift @ weight). Gains are set to small
    powers of two, shifts to 1 in one channel and 0 elsewhere, and the next biases to 0, so that everything is exact.
    """
    random, own_head, channels = random_of(trial), untied(trial), trial.case.sizes["C"]
    # two copies of the tree
    unfolded, folded = (map_tree(lambda name, x: x, own_head.arguments["params"]) for _ in range(2))
    one_each, none = np.ones(channels, trial.dtype), np.zeros(channels, trial.dtype)

    def fold(layers: tuple[dict, dict], norm: str, part: str, name: str) -> None:
        weight, channel = layers[0][part][name]["weight"], random.integers(channels)
        gain = random.choice([-2.0, -1.0, 1.0, 2.0, 4.0], channels).astype(trial.dtype)
        shift = np.eye(channels)[channel].astype(trial.dtype)
        layers[0][norm], layers[1][norm] = {"weight": gain, "bias": shift}, {"weight": one_each, "bias": none}
        layers[0][part][name] = {"weight": weight, "bias": np.zeros_like(weight[0])}
        layers[1][part][name] = {"weight": gain[:, None] * weight, "bias": weight[channel]}

    for layers in zip(unfolded["h"], folded["h"], strict=True):
        fold(layers, "ln_1", "attn", "c_attn")
        fold(layers, "ln_2", "mlp", "c_fc")
    gain = random.choice([-2.0, -1.0, 1.0, 2.0, 4.0], channels).astype(trial.dtype)
    unfolded["ln_f"], folded["ln_f"] = {"weight": gain, "bias": none}, {"weight": one_each, "bias": none}
    folded["lm_head"] = {"weight": gain * unfolded["lm_head"]["weight"]}
    before, after = (own_head.with_arguments(params=params) for params in (unfolded, folded))
    if is_tame(before, after):
        yield from equal_but_for_rounding(
            trial, model_scores(after), model_scores(before), before.noise() + after.noise(), token_rows(trial)
        )


def _widened(trial: Trial, heads: int, channels: int) -> Trial:
    """The same model with heads * channels times as many channels of the residual stream.

    It has `heads` times as many heads, each with `channels` times as many channels. All are copies of the original
    ones, and no copy is read: its row in the next weight is zero.
    """
    sizes, config = trial.case.sizes, trial.arguments["config"]
    wide = {"C": heads * channels * sizes["C"], "H": heads * sizes["H"], "D": channels * sizes["D"]}

    def repeat(x: Array, axis: int, groups: int = 1) -> Array:
        """An axis of groups * H * D, with the heads of each group, and the channels of each head, repeated."""
        split = x.reshape(*x.shape[:axis], groups, sizes["H"], sizes["D"], *x.shape[axis + 1 :])
        times = (1,) * (axis + 1) + (heads, channels) + (1,) * (x.ndim - axis - 1)
        return np.tile(split, times).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])

    originals = np.zeros(wide["C"], trial.dtype)
    originals[np.unique(repeat(np.arange(sizes["C"]), 0), return_index=True)[1]] = 1

    def change(name: str, x: Array) -> Array:
        if "lm_head" in name:
            return repeat(x, 1) * originals
        if "c_fc" not in name:
            x = repeat(x, x.ndim - 1, 3 if "c_attn" in name else 1)
        is_read = name.endswith(("c_attn.weight", "c_fc.weight", "attn.c_proj.weight"))
        return repeat(x, 0) * originals[:, None] if is_read else x

    fields = {"n_embd": wide["C"], "n_head": wide["H"], "n_inner": config.inner_size}
    return _reweigh(trial, change, sizes=wide, config=fields)


@law("engine.logits")
def a_silent_head_adds_nothing(trial: Trial) -> Verdicts:
    """A model with every channel of the residual stream twice, and twice as many heads, the new ones unused, gives the
    same scores. The head is untied.

    Proof: repeating a row does not change its mean and variance; copied channels and new heads meet only zero weights;
    and the scale of the scores depends on the size of a head, not on the number of channels.
    """
    narrow = untied(trial)
    wide = _widened(narrow, heads=2, channels=1)
    if is_tame(narrow, wide):
        yield from equal_but_for_rounding(
            trial, model_scores(wide), model_scores(narrow), narrow.noise() + wide.noise(), token_rows(trial)
        )


@law("engine.logits")
def four_times_the_channels_double_the_scores(trial: Trial) -> Verdicts:
    """In a model that scales its scores, repeating every channel of query and key four times has the same effect as
    doubling the queries. The head is untied.

    Proof: the product has four equal parts, so it is four times as large, and is divided by a root twice as large. The
    copies of a head's values and of the residual stream meet only zero weights.
    """
    scaled = changed(untied(trial), config={"scale_attn_weights": True})
    twice, wide = _reweigh(scaled, lambda name, x: scaled_qkv(name, x, q=2)), _widened(scaled, heads=1, channels=4)
    if is_tame(twice, wide):
        yield from equal_but_for_rounding(
            trial, model_scores(wide), model_scores(twice), twice.noise() + wide.noise(), token_rows(trial)
        )


@law("engine.logits")
def a_silent_layer_can_be_left_out(trial: Trial) -> Verdicts:
    """A layer whose last affine maps are zero changes no score, at any place in the model, bit for bit. Here, the scale
    does not depend on the layer's number.

    Proof: it adds exactly 0 to the residual stream.
    """
    params, base = trial.arguments["params"], changed(trial, config={"scale_attn_by_inverse_layer_idx": False})
    if not is_tame(base):
        return
    expected, silent = model_scores(base), silenced(params["h"][0])
    for layers in ([silent, *params["h"]], [*params["h"], silent]):
        deeper = changed(base, config={"n_layer": len(layers)}, params={**params, "h": layers})
        yield from same_bits(trial, model_scores(deeper), expected, token_rows(trial))


@law("engine.logits")
def layers_are_counted_from_one(trial: Trial) -> Verdicts:
    """With scale_attn_by_inverse_layer_idx, the second or fourth layer, after layers that add nothing and with queries
    two or four times as large, gives the same as alone and without that switch.

    Proof: the switch divides the scores of layer n, counted from 1, by n; the layers before add nothing.
    """
    params, number = trial.arguments["params"], (2, 4)[trial.case.seed % 2]
    layer = params["h"][0]
    louder = map_tree(lambda name, x: scaled_qkv(name, x, q=number), layer)
    layers = [*[silenced(layer)] * (number - 1), louder]
    switch = "scale_attn_by_inverse_layer_idx"
    single = changed(trial, config={"n_layer": 1, switch: False}, params={**params, "h": [layer]})
    deep = changed(trial, config={"n_layer": number, switch: True}, params={**params, "h": layers})
    if is_tame(single, deep):
        yield from equal_but_for_rounding(
            trial, model_scores(deep), model_scores(single), single.noise() + deep.noise(), token_rows(trial)
        )


# Dropout, the loss, and gradients.


@law("ops.dropout")
def dropout_thins_out(trial: Trial) -> Verdicts:
    """Dropout divides kept values by 1 - rate and sets dropped values to 0; at rate 0 it returns x, bit for bit.

    Proof: this is its definition, by which the mean over all masks is x.
    """
    x, rate = trial.arguments["x"], trial.arguments["rate"]
    keep = random_of(trial).random(x.shape) < 0.7
    thinned = trial.with_arguments(keep=keep)
    actual, expected = thinned.run()[0], np.where(keep, x.astype(np.float64) / (1 - rate), 0)
    yield trial.close(actual, expected, thinned.noise())
    yield trial.identical(actual, np.zeros_like(x), ~keep)
    yield trial.identical(trial.with_arguments(keep=np.ones_like(keep), rate=0.0).run()[0], x)


@law("model.block")
def a_block_whose_branches_are_left_out_passes_x(trial: Trial) -> Verdicts:
    """If dropout drops everything that attention and the MLP add, a block returns x, bit for bit.

    Proof: dropout of each branch comes after its last affine map and before the sum with the residual stream.
    """
    no_past, x = without_past(trial), trial.arguments["x"]
    all_keys = np.ones((len(x), trial.case.sizes["H"], x.shape[1], x.shape[1]), bool)
    nothing = np.zeros(x.shape, bool)
    keep = {"attn": {"attn_weights": all_keys, "c_proj": nothing}, "mlp": {"c_proj": nothing}}
    if is_tame(no_past):
        yield trial.identical(no_past.with_arguments(keep=keep).run()[0], x)
