"""Laws: what holds of every correct GPT-2 by itself, so that no second implementation is needed to see it broken.

Each says what must not change, or must be equal, when the input is changed in a certain way; the proof is one
paragraph. Where a law holds bit for bit, bits are compared. Where it holds in exact arithmetic, both sides may stray as
far as rounding goes on these very inputs: the noise floor is only the yardstick, both values are the backend's own.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2.backends import BackendModel, Decoder
from parity import orbit
from parity.cases import axis_factors, case_axes
from parity.contracts import Axes
from parity.liveness import float_arguments, map_floats
from parity.stages import stage_axes
from parity.trial import Trial, leaves, result_axes
from parity.verdict import NOISE_FACTOR, ULP_TERM, Reference, Verdict, ulp
from reference.config import ACTIVATIONS, flatten, map_tree
from reference.stages import observing

Array = NDArray[Any]
Verdicts = Iterator[Verdict]


@dataclasses.dataclass(frozen=True)
class Law:
    """A law by name. Cases are drawn as for the function `draws`; `holds` gives a verdict on each thing it claims."""

    name: str
    draws: str
    holds: Callable[[Trial], Verdicts]

    @property
    def statement(self) -> str:
        """What must hold, in one sentence or two."""
        return inspect.cleandoc(self.holds.__doc__ or "").partition("\n\nProof: ")[0]

    @property
    def proof(self) -> str:
        """Why it does, in one paragraph."""
        return inspect.cleandoc(self.holds.__doc__ or "").partition("\n\nProof: ")[2]


LAWS: list[Law] = []


def law(draws: str) -> Callable[[Callable[[Trial], Verdicts]], Callable[[Trial], Verdicts]]:
    """Make a law of a function; its cases are those of the function named."""

    def add(holds: Callable[[Trial], Verdicts]) -> Callable[[Trial], Verdicts]:
        LAWS.append(Law(holds.__name__, draws, holds))
        return holds

    return add


# How a law reads its case.


def _random(trial: Trial) -> np.random.Generator:
    return np.random.default_rng(trial.case.seed)


def _given(trial: Trial, *names: str) -> dict[str, Any]:
    """Those of the arguments that the case has."""
    return {name: trial.arguments[name] for name in names if name in trial.arguments}


def _past_length(trial: Trial) -> int:
    return trial.case.sizes["P"] if "past" in trial.arguments else 0


def _mask(trial: Trial) -> Array:
    """True where a position, of the past or new, is a token: (B, S)."""
    new = trial.arguments["ids" if "ids" in trial.arguments else "x"]
    mask = trial.arguments.get("attention_mask")
    return np.ones((len(new), _past_length(trial) + new.shape[1]), bool) if mask is None else mask != 0


def _tokens(trial: Trial) -> Array:
    """True at new tokens, False at pads, whose results mean nothing: (B, T, 1)."""
    return _mask(trial)[:, _past_length(trial) :, None]


def _inputs(trial: Trial) -> tuple[Array, Array, Array]:
    """ids, attention_mask and position_ids, each (B, T), of a case without a past."""
    ids = trial.arguments["ids"]
    positions = np.broadcast_to(trial.arguments.get("position_ids", np.arange(ids.shape[1])), ids.shape)
    return ids, _mask(trial).astype(np.int64), positions


def _is_tame(*trials: Trial) -> bool:
    """Whether all numbers stay so far inside the dtype's range that what is hidden has a weight of exactly 0."""
    end = float(ml_dtypes.finfo(trials[0].dtype).max) / 8  # type: ignore[no-untyped-call] # half of it hides a key
    tame = []

    def note(name: str, x: Any) -> Any:
        tame.append(name.endswith("masked_scores") or bool((np.abs(x) < end).all()))
        return x

    with observing(note), np.errstate(all="ignore"):
        for trial in trials:
            trial.case.contract.target(**trial.arguments)
    return all(tame)


# How a law changes its case.


def _change(
    trial: Trial, sizes: dict[str, int] | None = None, config: dict[str, Any] | None = None, **arguments: Any
) -> Trial:
    """The trial with other sizes, fields of the configuration, and arguments."""
    if config is not None:
        arguments["config"] = dataclasses.replace(trial.arguments["config"], **config)
    case = dataclasses.replace(trial.case, sizes=trial.case.sizes | (sizes or {}))
    return trial.with_arguments(case, **arguments)


def _reweigh(trial: Trial, change: Callable[[str, Array], Array], **others: Any) -> Trial:
    """The trial with change(name, x) in place of every parameter x."""
    return _change(trial, params=map_tree(change, trial.arguments["params"]), **others)


def _without_past(trial: Trial) -> Trial:
    """The same new tokens with nothing before them."""
    mask = trial.arguments.get("attention_mask")
    shown = None if mask is None else mask[:, _past_length(trial) :]
    return _change(trial, {"P": 0, "S": trial.case.sizes["T"]}, past=None, attention_mask=shown)


def _untied(trial: Trial) -> Trial:
    """The same model with its head as a parameter of its own."""
    params = {"lm_head": trial.arguments["params"]["wte"], **trial.arguments["params"]}
    return _change(trial, config={"tie_word_embeddings": False}, params=params)


def longer_context(trial: Trial, positions: int) -> Trial:
    """The same model with more positions, which no token has: an engine may refuse more tokens than positions."""
    params, length = trial.arguments["params"], trial.case.sizes["L"] + positions
    wpe = {"weight": np.pad(params["wpe"]["weight"], ((0, positions), (0, 0)))}
    return _change(trial, {"L": length}, {"n_positions": length}, params={**params, "wpe": wpe})


def _shifted(x: Array, step: float) -> tuple[Array, Array]:
    """Two arrays that differ by exactly `step`: where x + step comes from, once it is rounded, and x + step."""
    there = x + np.array(step, x.dtype)
    return there - np.array(step, x.dtype), there


def _qkv(name: str, x: Array, q: float = 1, k: float = 1, v: float = 1) -> Array:
    """A parameter; c_attn's has its queries, keys and values times a number each, exactly for 0 and powers of two."""
    return x * np.repeat([q, k, v], x.shape[-1] // 3).astype(x.dtype) if "c_attn" in name else x


def _silent(layer: dict) -> dict:
    """A layer that adds nothing: both its last affine maps are zero."""
    return map_tree(lambda name, x: np.zeros_like(x) if "c_proj" in name else x, layer)


def _other_rows(trial: Trial) -> tuple[Array, Array]:
    """One row (B, T, 1) of x, and x with the other rows changed."""
    x = trial.arguments["x"]
    row = np.zeros((*x.shape[:2], 1), bool)
    row[tuple(_random(trial).integers(0, x.shape[:2]))] = True
    return row, np.where(row, x, -x[..., ::-1] / 2)  # of another size too: a variance knows neither sign nor order


# How a law asks the backend, and what it says of the answers.


def _same(trial: Trial, found: Iterable[Array], expected: Iterable[Array], rows: Array | None = None) -> Verdicts:
    """The same bits."""
    for value, known in zip(found, expected, strict=True):
        yield trial.identical(value, known, rows)


def _alike(
    trial: Trial, found: Iterable[Array], expected: Iterable[Array], noise: float, rows: Array | None = None
) -> Verdicts:
    """Equal in exact arithmetic."""
    for value, known in zip(found, expected, strict=True):
        yield trial.close(value, known, noise, rows)


def _true(trial: Trial, found: Array) -> Verdict:
    return trial.identical(found, np.ones(found.shape, bool))


def _offered(*parts: Verdicts) -> Verdicts:
    """The verdicts of all parts but those that ask for a function which the backend does not offer.

    Raises NotImplementedError if it offers none.
    """
    missing = []
    for part in parts:
        try:
            yield from part
        except NotImplementedError as error:
            missing.append(error)
    if len(missing) == len(parts):
        raise missing[0]


def _scores(trial: Trial) -> list[Array]:
    """A whole model's scores, as its engine and, if the backend offers it, as the plain function computes them."""
    scores = trial.of("engine.logits", **trial.arguments).run()
    with contextlib.suppress(NotImplementedError):
        scores.append(trial.of("model.language_model", **trial.arguments).run()[0])
    return scores


def _read(decoder: Decoder, inputs: tuple[Array, ...], ends: list[int]) -> Iterator[Array]:
    """The scores after each piece of the inputs."""
    for start, end in zip([0, *ends], ends, strict=False):
        decoder.read(*(x[:, start:end] for x in inputs))
        yield decoder.logits()


def _halves(length: int) -> list[int]:
    """Where two pieces end."""
    return sorted({max(1, length // 2), length})


def _everything(model: BackendModel, trial: Trial) -> list[Array]:
    """What a language model returns: scores, those of a decoder, and every stage."""
    inputs = _inputs(trial)
    decoder = model.decoder(*inputs[0].shape)
    read = _read(decoder, inputs, _halves(inputs[0].shape[1]))
    return [model.logits(*inputs), *read, *model.stages(*inputs).values()]


# The operations.

ELEMENTWISE = (*(f"ops.{name}" for name in ACTIVATIONS), "fast.gelu_new_fast")
# x, gelu_new(x), gelu(x), silu(x), relu(x): computed from the formulas with mpmath 1.4, to 20 digits.
KNOWN = np.array([
    (-5.0, -2.2917961966295060456e-7, -1.4332578593959695584e-6, -0.033464254621424277797, 0.0),
    (-3.0, -0.0036373920817730188378, -0.00404969409489028358, -0.14227761953270034264, 0.0),
    (-2.0, -0.045402305912224981219, -0.045500263896358414401, -0.23840584404423511188, 0.0),
    (-1.0, -0.15880800939172329522, -0.15865525393145705141, -0.26894142136999512075, 0.0),
    (-0.5, -0.15428599017485607796, -0.15426876936299344818, -0.18877033439907271768, 0.0),
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (0.5, 0.34571400982514392204, 0.34573123063700655182, 0.31122966560092728232, 0.5),
    (1.0, 0.84119199060827670478, 0.84134474606854294859, 0.73105857863000487925, 1.0),
    (2.0, 1.9545976940877750188, 1.9544997361036415856, 1.7615941559557648881, 2.0),
    (3.0, 2.9963626079182269812, 2.9959503059051097164, 2.8577223804672996574, 3.0),
    (5.0, 4.999999770820380337, 4.999998566742140604, 4.9665357453785757222, 5.0),
])  # fmt: skip
KNOWN_COLUMNS = {"ops.gelu_new": 1, "fast.gelu_new_fast": 1, "ops.gelu": 2, "ops.silu": 3, "ops.relu": 4}


@law("ops.matmul")
def a_product_turned_is_the_product_turned_round(trial: Trial) -> Verdicts:
    """The transposed product is the product of the transposed factors in the other order.

    Proof: both have the sum over c of a[t, c] b[c, n] at place (n, t).
    """
    a, b = trial.arguments["a"], trial.arguments["b"]
    turned = trial.with_arguments(a=b.swapaxes(1, 2), b=a.swapaxes(1, 2)).run()[0]
    yield trial.close(turned.swapaxes(1, 2), trial.run()[0], 2 * trial.noise())


@law("ops.conv1d")
def conv1d_moves_channels(trial: Trial) -> Verdicts:
    """With a permutation for a weight, output n is channel order[n] of the input, bit for bit; a zero weight leaves the
    bias. So it is in the fast form, whose weight is turned.

    Proof: of the products that each output adds up all but one are exactly 0, and that one is exactly a channel of x;
    in the second case all are 0, and the bias alone remains.
    """
    x, weight, bias = (trial.arguments[name] for name in ("x", "weight", "bias"))
    order = _random(trial).permutation(x.shape[2])
    moving = np.eye(x.shape[2])[:, order].astype(x.dtype)

    def form(name: str, turn: Callable[[Array], Array]) -> Verdicts:
        moved = trial.of(name, x=x, weight=turn(moving), bias=np.zeros(x.shape[2], x.dtype)).run()[0]
        yield trial.identical(moved, x[..., order])
        left = trial.of(name, x=x, weight=turn(np.zeros_like(weight)), bias=bias).run()[0]
        yield trial.identical(left, np.broadcast_to(bias, (*x.shape[:2], len(bias))))

    return _offered(form("ops.conv1d", np.asarray), form("fast.linear", np.transpose))


@law("ops.conv1d")
def conv1d_adds_up(trial: Trial) -> Verdicts:
    """What the even channels give and what the odd ones give make up what all give, with the bias counted once.

    Proof: x @ weight is a sum over the channels; each is zero in one of the two parts and unchanged in the other.
    """
    x, bias = trial.arguments["x"], trial.arguments["bias"].astype(np.float64)
    is_even = np.arange(x.shape[2]) % 2 == 0
    even, odd = (trial.with_arguments(x=np.where(part, x, np.zeros_like(x))) for part in (is_even, ~is_even))
    parts = [part.run()[0].astype(np.float64) for part in (even, odd)]
    noise, size = trial.noise() + even.noise() + odd.noise(), _largest(*parts, bias)
    yield trial.close(trial.run()[0], parts[0] + parts[1] - bias, noise, size=size)


def _largest(*arrays: Array) -> float:
    return max(float(np.abs(x).max()) for x in arrays)


@law("ops.embedding")
def embedding_is_a_look_up(trial: Trial) -> Verdicts:
    """Every id gets its own row of the weight, bit for bit.

    Proof: that is its definition; nothing is computed.
    """
    weight = trial.arguments["weight"]
    yield trial.identical(trial.run()[0], np.stack([[weight[i] for i in row] for row in trial.arguments["ids"]]))
    yield trial.identical(trial.with_arguments(ids=np.arange(len(weight))[None]).run()[0], weight[None])


@law("ops.softmax")
def softmax_forgets_a_shift(trial: Trial) -> Verdicts:
    """The softmax of a row is that of the row plus any number, be exp of it beyond the dtype's range.

    Proof: exp(x + c) = exp(x) exp(c), and the factor exp(c) stands in every numerator and in the sum.
    """
    here, there = (trial.with_arguments(x=x) for x in _shifted(trial.arguments["x"], 128))
    yield trial.close(there.run()[0], here.run()[0], here.noise() + there.noise())


@law("ops.softmax")
def softmax_gives_shares(trial: Trial) -> Verdicts:
    """A row of softmax is nowhere negative, sums to 1, and is larger where x is larger.

    Proof: exp is positive and increasing, and each is divided by the sum of all.
    """
    x, shares = trial.arguments["x"], trial.run()[0].astype(np.float64)
    yield _true(trial, shares >= 0)
    yield trial.close(shares.sum(axis=-1), np.ones(x.shape[:-1]), x.shape[-1] * trial.noise())
    climbing = np.take_along_axis(shares, np.argsort(x, axis=-1), axis=-1)
    yield trial.close(climbing, np.maximum.accumulate(climbing, axis=-1), 2 * trial.noise())


@law("ops.softmax")
def softmax_undoes_the_logarithm(trial: Trial) -> Verdicts:
    """The softmax of the logarithms of 1, 2, 3 and 4, in any order, is 0.1, 0.2, 0.3 and 0.4.

    Proof: exp(log n) = n, and the four sum to 10.
    """
    numbers = np.stack([_random(trial).permutation([1, 2, 3, 4]) for _ in range(trial.case.sizes["T"])])[None]
    known = _change(trial, {"B": 1, "N": 4}, x=np.log(numbers).astype(trial.dtype))
    yield trial.close(known.run()[0], numbers / 10, known.noise())


@law("ops.layer_norm")
def layer_norm_normalises(trial: Trial) -> Verdicts:
    """With gain 1 and bias 0 each row has mean 0 and variance v / (v + eps), where v is the variance of the row of x.

    Proof: the centred row has mean 0 and mean square v; divided by the root of v + eps, v / (v + eps). The result's
    mean and standard deviation stray no further than its elements do.
    """
    weight, bias, eps = (trial.arguments[name] for name in ("weight", "bias", "eps"))
    plain = trial.with_arguments(weight=np.ones_like(weight), bias=np.zeros_like(bias))
    y, v = plain.run()[0].astype(np.float64), trial.arguments["x"].astype(np.float64).var(axis=-1)
    yield trial.close(y.mean(axis=-1), np.zeros_like(v), plain.noise(), size=_largest(y))
    yield trial.close(y.std(axis=-1), np.sqrt(v / (v + eps)), plain.noise(), size=_largest(y))


@law("ops.layer_norm")
def layer_norm_forgets_shift_and_scale(trial: Trial) -> Verdicts:
    """A number added to all channels changes nothing, nor does doubling them when eps is made four times as large.

    Proof: the mean takes the shift with it; the centred row and the root of v + eps both double.
    """
    x, eps = trial.arguments["x"], trial.arguments["eps"]
    here, there = (trial.with_arguments(x=moved) for moved in _shifted(x, 4))
    yield trial.close(there.run()[0], here.run()[0], here.noise() + there.noise())
    twice = trial.with_arguments(x=x + x, eps=4 * eps)
    yield trial.close(twice.run()[0], trial.run()[0], twice.noise() + trial.noise())


@law("ops.layer_norm")
def layer_norm_applies_gain_and_bias_last(trial: Trial) -> Verdicts:
    """LayerNorm is what it is with gain 1 and bias 0, times the gain, plus the bias.

    Proof: that is its definition, equation 4 of Ba et al. 2016.
    """
    weight, bias = trial.arguments["weight"], trial.arguments["bias"]
    plain = trial.with_arguments(weight=np.ones_like(weight), bias=np.zeros_like(bias))
    gained = plain.run()[0].astype(np.float64) * weight.astype(np.float64)
    noise = trial.noise() + plain.noise() * _largest(weight)
    yield trial.close(trial.run()[0], gained + bias.astype(np.float64), noise, size=_largest(gained, bias))


@law("ops.gelu_new")
def an_activation_less_its_mirror_image_is_x(trial: Trial) -> Verdicts:
    """f(x) - f(-x) = x for each of GPT-2's activations.

    Proof: each is x g(x) with g(x) + g(-x) = 1, g being (1 + tanh(odd)) / 2, the normal distribution function, the
    logistic sigmoid, or the step at 0 (where x is 0 too).
    """
    x = trial.arguments["x"]

    def mirrored(name: str) -> Verdicts:
        one, other = trial.of(name, x=x), trial.of(name, x=-x)
        difference = one.run()[0].astype(np.float64) - other.run()[0].astype(np.float64)
        yield trial.close(difference, x, one.noise() + other.noise(), size=_largest(x))

    return _offered(*(mirrored(name) for name in ELEMENTWISE))


@law("ops.gelu_new")
def activations_have_known_values(trial: Trial) -> Verdicts:
    """The activations have the values that their formulas give, wherever in the array.

    Proof: the values were computed to 20 digits with mpmath.
    """
    known = KNOWN[_random(trial).integers(0, len(KNOWN), trial.arguments["x"].shape)]
    x = known[..., 0].astype(trial.dtype)

    def valued(name: str) -> Verdicts:
        point = trial.of(name, x=x)
        yield trial.close(point.run()[0], known[..., KNOWN_COLUMNS[name]], point.noise())

    return _offered(*(valued(name) for name in ELEMENTWISE))


@law("ops.layer_norm")
def rows_are_computed_alone(trial: Trial) -> Verdicts:
    """What LayerNorm, softmax and the activations make of a row does not depend on the other rows, bit for bit.

    Proof: no formula mixes rows, and with the shapes unchanged a row's numbers meet in the same order.
    """
    row, changed = _other_rows(trial)

    def alone(name: str, **others: Any) -> Verdicts:
        one, other = (trial.of(name, x=x, **others) for x in (trial.arguments["x"], changed))
        yield trial.identical(other.run()[0], one.run()[0], row)

    norm = alone("ops.layer_norm", **_given(trial, "weight", "bias", "eps"))
    return _offered(norm, *(alone(name) for name in ("ops.softmax", *ELEMENTWISE)))


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
    """Query t of the last T of S positions sees the keys up to S - T + t, but for those that the attention mask leaves
    out. In the fast form what is seen gets 0 added, what is not a number that leaves it no weight.

    Proof: that is what a causal mask is.
    """
    lengths, masks = _given(trial, "query_length", "key_length"), _given(trial, "attention_mask")
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
        yield _true(trial, (added == 0) | (added < -(2.0**14)) & np.isfinite(added))

    return _offered(plain("attention.causal_bias", causal), plain("attention.visible_keys", seen, **masks), fast())


@law("attention.mask_scores")
def hidden_keys_get_no_weight(trial: Trial) -> Verdicts:
    """Masking leaves a visible score as it is, bit for bit, and puts a hidden one below every visible one, so far that
    its weight is exactly 0, be the scores as low as -16384; adding the mask gives finite scores, and the same weights.
    Nothing is said of the weights of a query that sees no key. No verdict where a score is above 16384 in size.

    Proof: what is hidden gets the lowest number that there is; exp of its distance to any visible score is below half
    the smallest number. No infinity is there to make a NaN where all is hidden.
    """
    scores, visible = trial.arguments["scores"], trial.arguments["visible"]
    if _largest(scores) > 2**14:
        return
    low, sees = scores - np.array(2**14, scores.dtype), visible.any(axis=-1, keepdims=True)
    masked = trial.with_arguments(scores=low).run()[0]
    yield trial.identical(masked, low, visible)
    yield trial.identical(np.minimum(masked, low.min()), masked, ~visible)
    weights = trial.of("ops.softmax", x=masked).run()[0]
    yield trial.identical(weights, np.zeros_like(weights), sees & ~visible)
    added = trial.of("attention.mask_scores_by_addition", scores=low, visible=visible).run()[0]
    yield _true(trial, np.isfinite(added))
    yield trial.identical(trial.of("ops.softmax", x=added).run()[0], weights, sees)


@law("attention.attention")
def the_first_token_sees_itself_alone(trial: Trial) -> Verdicts:
    """What attention makes of a sequence's first token does not depend on queries and keys, bit for bit.

    Proof: it sees one key, its own; whatever the score, the weight is exp(0) / exp(0) = 1, and the others are 0.
    """
    own = _without_past(trial)
    blind, tokens = _reweigh(own, lambda name, x: _qkv(name, x, q=0, k=0)), _tokens(own)
    if _is_tame(own):
        yield trial.identical(blind.run()[0], own.run()[0], tokens & (np.cumsum(tokens, axis=1) == 1))


@law("attention.attention")
def equal_values_pass_unchanged(trial: Trial) -> Verdicts:
    """Where all keys, of the past too, have the same values to offer, attention takes in these values.

    Proof: the weights of a query sum to 1. The last affine map is made the identity, so that the values are seen.
    """
    channels, past = trial.case.sizes["C"], trial.arguments.get("past")
    offered = _random(trial).standard_normal(channels).astype(trial.dtype)

    def change(name: str, x: Array) -> Array:
        if "c_proj" in name:
            return np.eye(channels).astype(x.dtype) if name.endswith("weight") else np.zeros_like(x)
        return _qkv(name, x, v=0) if name.endswith("weight") else np.concatenate((x[:-channels], offered))

    if past is not None:
        by_head = offered.reshape(1, trial.case.sizes["H"], 1, -1)
        past = (past[0], np.zeros_like(past[1]) + by_head)
    equal = _reweigh(trial, change, past=past)
    if _is_tame(equal):
        yield trial.close(equal.run()[0], np.zeros_like(trial.arguments["x"]) + offered, equal.noise())


@law("attention.attention")
def the_bias_of_the_keys_is_forgotten(trial: Trial) -> Verdicts:
    """The bias of the keys, whatever it is, changes nothing of what attention returns. (The past, which has its keys
    already, is left out.)

    Proof: it adds the product of query and bias to all scores of the query alike, and softmax forgets a shift.
    """
    own = _without_past(trial)

    def change(name: str, x: Array) -> Array:
        if name != "c_attn.bias":
            return x
        q, k, v = np.split(x, 3)
        return np.concatenate((q, np.ones_like(k) - k, v))

    other = _reweigh(own, change)
    if _is_tame(own, other):
        yield trial.close(other.run()[0], own.run()[0], own.noise() + other.noise())


@law("attention.attention")
def a_head_minds_its_own_channels(trial: Trial) -> Verdicts:
    """What one head returns does not depend on the queries, keys and values of the others, bit for bit. No verdict on a
    single head.

    Proof: a head reads its D channels of each alone. The others' rows of the last affine map are made zero, so that
    this one alone is seen; what the others then contribute is exactly 0.
    """
    heads = trial.case.sizes["H"]
    chosen = (np.arange(heads) == trial.case.seed % heads).astype(trial.dtype)
    channels, past = np.repeat(chosen, trial.case.sizes["D"]), trial.arguments.get("past")
    alone = _reweigh(trial, lambda name, x: x * channels[:, None] if name == "c_proj.weight" else x)
    if past is not None:
        past = tuple(x * chosen[:, None, None] for x in past)
    emptied = _reweigh(alone, lambda name, x: x * np.tile(channels, 3) if "c_attn" in name else x, past=past)
    if heads > 1 and _is_tame(trial):
        yield trial.identical(emptied.run()[0], alone.run()[0])


@law("attention.attention")
def the_past_has_no_order(trial: Trial) -> Verdicts:
    """Keys and values of the past may stand in any order, if the attention mask is reordered with them. Those of the
    tokens themselves are taken for a past. No verdict on one token.

    Proof: every new token sees all of the past, and a sum over keys does not ask for their order.
    """
    own, length = _without_past(trial), trial.case.sizes["T"]
    if length == 1 or not _is_tame(own):
        return
    past = own.run()[1:]
    mask = np.concatenate((_random(trial).random((len(past[0]), length)) < 0.7, _mask(own)), axis=1).astype(np.int64)
    order = np.roll(np.arange(length), 1)
    one, other = (
        _change(own, {"P": length, "S": 2 * length}, past=tuple(x[:, :, places] for x in past),
                attention_mask=np.concatenate((mask[:, places], mask[:, length:]), axis=1))
        for places in (np.arange(length), order)
    )  # fmt: skip
    yield trial.close(other.run()[0], one.run()[0], one.noise() + other.noise())


@law("attention.attention")
def scores_are_divided_by_the_root_of_the_head_size(trial: Trial) -> Verdicts:
    """Attention that does not scale its scores is the same as one that does, of heads filled up with zeros to 4 ** m
    channels and with queries 2 ** m times as large.

    Proof: zeros add nothing to a score; scaled, it is divided by the root of 4 ** m, which is 2 ** m.
    """
    heads, size, past = trial.case.sizes["H"], trial.case.sizes["D"], trial.arguments.get("past")
    root = next(2**m for m in range(1, 16) if 4**m >= size)

    def fill(x: Array, axis: int, groups: int = heads) -> Array:
        """Fill up every group of D channels with zeros, on an axis of groups * D."""
        split = x.reshape(*x.shape[:axis], groups, size, *x.shape[axis + 1 :])
        width = [(0, 0)] * split.ndim
        width[axis + 1] = (0, root**2 - size)
        return np.pad(split, width).reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])

    def change(name: str, x: Array) -> Array:
        x = fill(_qkv(name, x, q=root), x.ndim - 1, 3 * heads if "c_attn" in name else heads)
        return fill(x, 0) if name.endswith("weight") else x

    own, width = _change(trial, config={"scale_attn_weights": False}), heads * root**2
    wide = _reweigh(
        own, change, sizes={"C": width, "D": root**2}, config={"scale_attn_weights": True, "n_embd": width},
        x=fill(trial.arguments["x"], 2), past=None if past is None else tuple(fill(x, 3, 1) for x in past),
    )  # fmt: skip
    if _is_tame(own, wide):
        original = fill(np.ones(heads * size), 0) == 1
        yield trial.close(wide.run()[0][..., original], own.run()[0], own.noise() + wide.noise())


@law("attention.attention")
def scores_of_higher_precision_change_rounding_alone(trial: Trial) -> Verdicts:
    """With or without reorder_and_upcast_attn attention returns the same.

    Proof: it says in what precision the scores are computed, not what they are.
    """
    one, other = (_change(trial, config={"reorder_and_upcast_attn": switch}) for switch in (False, True))
    if _is_tame(one):
        yield trial.close(other.run()[0], one.run()[0], one.noise() + other.noise())


# A block and its MLP.


@law("model.block")
def fast_forms_are_the_plain_ones(trial: Trial) -> Verdicts:
    """attention_fast and mlp_fast return what attention and mlp return, at every token that is no pad.

    Proof: weights stand the other way round, and the mask is added; the mathematics is the same.
    """
    own = _without_past(trial)
    params, given, masks = own.arguments["params"], _given(own, "x", "config"), _given(own, "attention_mask")
    turned, layer = map_tree(lambda name, x: x.T if name.endswith("weight") else x, params), own.arguments["layer"]

    def attention() -> Verdicts:
        tokens, heads = given["x"].shape[1], given["config"].n_head
        sizes = {"query_length": tokens, "key_length": tokens, "n_head": heads, "dtype": trial.dtype, "slot": 0}
        hidden = own.of("fast.hidden_keys", **sizes, **masks).run()[0]
        plain = own.of("attention.attention", params=params["attn"], layer=layer, **given, **masks)
        fast = own.of("fast.attention_fast", params=turned["attn"], layer=layer, hidden=hidden, **given)
        if _is_tame(plain):
            yield trial.close(fast.run()[0], plain.run()[0], 2 * plain.noise(), _tokens(own))

    def mlp() -> Verdicts:
        plain = own.of("model.mlp", params=params["mlp"], layer=layer, **given)
        fast = own.of("fast.mlp_fast", params=turned["mlp"], **given)
        yield trial.close(fast.run()[0], plain.run()[0], 2 * plain.noise())

    return _offered(attention(), mlp())


@law("model.mlp")
def the_mlp_treats_each_token_alone(trial: Trial) -> Verdicts:
    """The MLP's result at a token does not depend on the other tokens, bit for bit, nor on where the token stands.

    Proof: affine maps and activation act on each token's channels alone; elsewhere in the array they may sum in another
    order.
    """
    (row, changed), own = _other_rows(trial), trial.run()[0]
    yield trial.identical(trial.with_arguments(x=changed).run()[0], own, row)
    turned = trial.with_arguments(x=trial.arguments["x"][::-1, ::-1]).run()[0]
    yield trial.close(turned, own[::-1, ::-1], 2 * trial.noise())


@law("model.block")
def a_silent_block_adds_its_last_biases(trial: Trial) -> Verdicts:
    """A block whose last affine maps have zero weights adds their two biases to x; if these are zero, it returns x bit
    for bit.

    Proof: both sub-blocks are added to the residual stream, and each returns its last bias.
    """
    x, params = trial.arguments["x"], trial.arguments["params"]
    if not _is_tame(trial):
        return
    yield trial.identical(trial.with_arguments(params=_silent(params)).run()[0], x)
    biased = _reweigh(trial, lambda name, value: np.zeros_like(value) if "c_proj.weight" in name else value)
    parts = [value.astype(np.float64) for value in (x, *(params[part]["c_proj"]["bias"] for part in ("attn", "mlp")))]
    yield trial.close(biased.run()[0], sum(parts), biased.noise(), size=_largest(*parts))


@law("model.block")
def a_block_forgets_a_shift_of_all_channels(trial: Trial) -> Verdicts:
    """What a block adds to x does not change when the same number is added to all channels of x.

    Proof: both sub-blocks read the residual stream through a LayerNorm, which forgets the shift; the stream itself
    keeps it.
    """
    x = _shifted(trial.arguments["x"], 4)
    here, there = (trial.with_arguments(x=moved) for moved in x)
    if _is_tame(here, there):
        y = here.run()[0], there.run()[0]
        added = [after.astype(np.float64) - before.astype(np.float64) for after, before in zip(y, x, strict=True)]
        yield trial.close(added[1], added[0], here.noise() + there.noise(), size=_largest(*x, *y))


# Whole models, plain and as the engine runs them.


@law("model.language_model")
def causality(trial: Trial) -> Verdicts:
    """A token changes no score, key or value before its own position, bit for bit. What belongs to pads means nothing.

    Proof: a score depends on its own token and, through attention, on those before it; what stands later is hidden by
    the mask, whose weight is exactly 0, and 0 times any finite number adds exactly nothing. The shapes are the same, so
    each sum is taken in the same order.
    """
    ids, past, length = trial.arguments["ids"], _past_length(trial), trial.case.sizes["T"]
    positions = {length - 1, length // 2} - {0}
    later = {p: np.where(np.arange(length) < p, ids, (ids + 1) % trial.case.sizes["V"]) for p in positions}
    before = {p: _mask(trial) & (np.arange(past + length) < past + p) for p in positions}

    def engine() -> Verdicts:
        model, (_, *others) = trial.model(), _inputs(_without_past(trial))
        own = model.logits(ids, *others)
        for p in positions:
            yield trial.identical(model.logits(later[p], *others), own, before[p][:, past:, None])

    def plain() -> Verdicts:
        own = trial.run()
        for p in positions:
            changed = trial.with_arguments(ids=later[p]).run()
            yield trial.identical(changed[0], own[0], before[p][:, past:, None])
            yield from _same(trial, changed[1:], own[1:], before[p][:, None, :, None])

    if _is_tame(trial, *(trial.with_arguments(ids=other) for other in later.values())):
        yield from _offered(engine(), plain())


@law("model.language_model")
def pads_are_unseen(trial: Trial) -> Verdicts:
    """Ids, positions, and keys and values of the past, change nothing where the attention mask has a pad, bit for bit.
    Pads are put anywhere, if the case has none.

    Proof: a pad's key is hidden from every query, and its weight of exactly 0 adds nothing.
    """
    mask, past = _mask(trial), _past_length(trial)
    if mask.all():
        mask = _random(trial).random(mask.shape) < 0.7
    given = trial.with_arguments(attention_mask=mask.astype(np.int64))
    tokens, other = _tokens(given), dict(given.arguments)
    for name, letter in (("ids", "V"), ("position_ids", "L")):
        if name in other:
            other[name] = np.where(tokens[..., 0], other[name], (other[name] + 1) % trial.case.sizes[letter])
    if "past" in other:
        shown = mask[:, None, :past, None]
        other["past"] = [tuple(np.where(shown, x, -x) for x in pair) for pair in other["past"]]
    changed = trial.with_arguments(**other)

    def engine() -> Verdicts:
        model = trial.model()
        expected, found = (model.logits(*_inputs(_without_past(case))) for case in (given, changed))
        yield trial.identical(found, expected, tokens)

    def plain() -> Verdicts:
        yield trial.identical(changed.run()[0], given.run()[0], tokens)

    if _is_tame(given, changed):
        yield from _offered(engine(), plain())


@law("engine.logits")
def a_sequence_of_pads_disturbs_nobody(trial: Trial) -> Verdicts:
    """If one sequence of the batch is pads alone, all scores are finite, and those of the others do not change, bit for
    bit.

    Proof: the lowest finite number hides a key, so a row where all are hidden is a row of equal scores, with equal
    weights, and no infinity is there to make a NaN. Sequences do not meet.
    """
    mask = _inputs(trial)[1]
    emptied = mask * (np.arange(len(mask)) > 0)[:, None]
    if _is_tame(trial):
        found = _scores(trial.with_arguments(attention_mask=emptied))
        for scores in found:
            yield _true(trial, np.isfinite(scores))
        yield from _same(trial, found, _scores(trial.with_arguments(attention_mask=mask)), (emptied != 0)[..., None])


@law("model.language_model")
def past_and_rest_make_the_whole(trial: Trial) -> Verdicts:
    """Reading the first tokens, and then the rest with their keys and values for a past, gives the scores, keys and
    values of reading all at once. No verdict on one token.

    Proof: keys and values of a token depend on it and on what stands before it alone, so they are the same in both, and
    each query meets the same keys.
    """
    whole, length = _without_past(trial), trial.case.sizes["T"]
    if length == 1 or not _is_tame(whole):
        return
    cut = int(_random(trial).integers(1, length))
    first = {name: x[:, :cut] for name, x in _given(whole, "ids", "attention_mask", "position_ids").items()}
    rest = {name: x[:, cut:] for name, x in _given(whole, "ids", "position_ids").items()}
    presents = whole.with_arguments(**first).run()[1:]
    past = list(zip(presents[::2], presents[1::2], strict=True))
    found, expected = whole.with_arguments(**rest, past=past).run(), whole.run()
    yield trial.close(found[0], expected[0][:, cut:], 2 * whole.noise(), _tokens(whole)[:, cut:])
    for i in range(1, len(expected)):
        yield trial.close(found[i], expected[i], 2 * whole.noise(i), _mask(whole)[:, None, :, None])


@law("engine.logits")
def a_decoder_reads_in_pieces(trial: Trial) -> Verdicts:
    """However the tokens are cut into pieces, a decoder that has read up to a token has the scores that the whole model
    gives there.

    Proof: as for past_and_rest_make_the_whole; the cache holds the keys and values of what was read.
    """
    inputs, model = _inputs(trial), trial.model()
    length, expected = inputs[0].shape[1], model.logits(*inputs)
    anywhere = np.union1d(np.flatnonzero(_random(trial).integers(0, 2, length)) + 1, length).tolist()
    for ends in ([length], list(range(1, length + 1)), anywhere):
        found, last = np.stack(list(_read(model.decoder(*inputs[0].shape), inputs, ends)), axis=1), np.array(ends) - 1
        yield trial.close(found, expected[:, last], 2 * trial.noise(), _tokens(trial)[:, last])


@law("engine.logits")
def sequences_do_not_meet(trial: Trial) -> Verdicts:
    """A sequence has the same scores alone, in a batch, and in a batch of another order.

    Proof: no step mixes sequences; other shapes may sum in another order.
    """
    size, own, given = trial.case.sizes["B"], _scores(trial), _given(trial, "ids", "attention_mask", "position_ids")
    for order in ([trial.case.seed % size], [*reversed(range(size)), 0]):
        other = _change(trial, {"B": len(order)}, **{name: x[order] for name, x in given.items()})
        expected = [scores[order] for scores in own]
        yield from _alike(trial, _scores(other), expected, 2 * trial.noise(), _tokens(trial)[order])


@law("engine.logits")
def pads_at_the_ends_change_nothing(trial: Trial) -> Verdicts:
    """Pads on the left and on the right, with an attention mask that says so and the tokens' positions kept, leave the
    scores of all tokens as they are.

    Proof: a pad is hidden from every token, and a token's position is what position_ids says, not where it stands.
    """
    left, right = (int(pads) for pads in _random(trial).integers(1, 3, 2))
    own, length = longer_context(trial, left + right), trial.case.sizes["T"]
    ids, mask, positions = (np.pad(x, ((0, 0), (left, right))) for x in _inputs(trial))
    sizes = {"T": length + left + right, "S": length + left + right}
    padded = _change(own, sizes, ids=ids, attention_mask=mask, position_ids=positions)
    found = [scores[:, left : left + length] for scores in _scores(padded)]
    yield from _alike(trial, found, _scores(own), 2 * trial.noise(), _tokens(trial))


@law("engine.classify")
def the_classifier_reads_the_last_token(trial: Trial) -> Verdicts:
    """A sequence's labels are read at its last token: cut off behind it, or filled up with pads, it has the same. Pads
    are what the attention mask says, or, without one, trailing tokens of the id pad_token_id. No verdict on sequences
    of pads alone, and none on pad_token_id where every id is some sequence's last.

    Proof: what stands behind the last token is not seen by it.
    """
    own, noise, mask, pad = trial.run()[0], 2 * trial.noise(), _mask(trial), ((0, 0), (0, 1))
    row, length = trial.case.seed % len(mask), mask.shape[1] + 1
    if mask[row].any():
        end = int(np.flatnonzero(mask[row])[-1]) + 1
        given = _given(trial, "ids", "attention_mask", "position_ids")
        cut = _change(trial, {"B": 1, "T": end, "S": end}, **{n: x[row : row + 1, :end] for n, x in given.items()})
        yield trial.close(cut.run()[0], own[row : row + 1], noise)
    ids, kept, positions = (np.pad(x, pad) for x in _inputs(trial))
    longer = _change(longer_context(trial, 1), {"T": length, "S": length}, position_ids=positions)
    marked = longer.with_arguments(ids=ids, attention_mask=kept)
    yield trial.close(marked.run()[0], own, noise, mask.any(axis=1, keepdims=True))
    unused = set(range(trial.case.sizes["V"])) - set(trial.arguments["ids"][:, -1].tolist())
    if unused:
        filled = np.pad(trial.arguments["ids"], pad, constant_values=min(unused))
        guessed = _change(longer, config={"pad_token_id": min(unused)}, ids=filled, attention_mask=None)
        bare = trial.with_arguments(attention_mask=None)
        yield trial.close(guessed.run()[0], bare.run()[0], 2 * bare.noise())


@law("engine.classify")
def labels_are_names(trial: Trial) -> Verdicts:
    """With the rows of the classifier's weight in another order the labels' scores are the same, in that order.

    Proof: a label's score is the product with its row.
    """
    order, params = _random(trial).permutation(trial.case.sizes["K"]), trial.arguments["params"]
    score = {"weight": params["score"]["weight"][np.argsort(order)]}
    found = trial.with_arguments(params={**params, "score": score}).run()[0]
    yield trial.close(found[:, order], trial.run()[0], 2 * trial.noise())


@law("engine.logits")
def channels_heads_and_units_have_no_order(trial: Trial) -> Verdicts:
    """Channels of the residual stream, heads, channels of a head and units of the MLP may stand in any order, if all
    parameters are reordered with them.

    Proof: every sum over them is a sum over all of them, and every other step treats them alike.
    """
    case, axes = trial.case, case_axes(trial.case)["params"]
    other = orbit.permute(trial.arguments["params"], axes, case, orbit.permutations(case, 1))
    found = _scores(trial.with_arguments(params=other))
    yield from _alike(trial, found, _scores(trial), 2 * trial.noise(), _tokens(trial))


@law("engine.logits")
def ids_are_names(trial: Trial) -> Verdicts:
    """With the rows of wte, and those of an untied head, in another order, and the ids renamed accordingly, the scores
    are the same, in that order.

    Proof: an id only chooses a row, and its score is the product with a row.
    """
    params, order = trial.arguments["params"], _random(trial).permutation(trial.case.sizes["V"])
    tables = [part for part in ("wte", "lm_head") if part in params]
    turned = {part: {"weight": params[part]["weight"][np.argsort(order)]} for part in tables}
    renamed = trial.with_arguments(ids=order[trial.arguments["ids"]], params={**params, **turned})
    found = [scores[..., order] for scores in _scores(renamed)]
    yield from _alike(trial, found, _scores(trial), 2 * trial.noise(), _tokens(trial))


@law("engine.logits")
def tokens_and_positions_are_alike(trial: Trial) -> Verdicts:
    """If the token embeddings and the position embeddings change places, and the ids with the positions, nothing else
    changes, bit for bit. The head is untied, and the smaller table filled up with zeros.

    Proof: the model reads the sum of the two, and a + b = b + a also when it is rounded.
    """
    own, rows = _untied(trial), max(trial.case.sizes["V"], trial.case.sizes["L"])
    (ids, _, positions), params = _inputs(own), dict(own.arguments["params"])
    for part in ("wte", "wpe", "lm_head"):
        weight = params[part]["weight"]
        params[part] = {"weight": np.pad(weight, ((0, rows - len(weight)), (0, 0)))}
    swapped = {**params, "wte": params["wpe"], "wpe": params["wte"]}
    one = _change(own, {"V": rows, "L": rows}, {"vocab_size": rows, "n_positions": rows}, params=params)
    other = one.with_arguments(params=swapped, ids=positions, position_ids=ids)
    yield from _same(trial, _scores(other), _scores(one), _tokens(trial))


@law("model.language_model")
def positions_count_from_the_end_of_the_past(trial: Trial) -> Verdicts:
    """Without position_ids, new tokens have the positions P, P + 1, ..., bit for bit, whatever the attention mask says.

    Proof: that is their default.
    """
    ids, past = trial.arguments["ids"], _past_length(trial)
    counted = np.broadcast_to(np.arange(past, past + ids.shape[1]), ids.shape)
    one, other = (trial.with_arguments(position_ids=positions) for positions in (None, counted))

    def engine() -> Verdicts:
        model, alone = trial.model(), _without_past(one)
        found = model.logits(ids, alone.arguments.get("attention_mask"))
        yield trial.identical(found, model.logits(*_inputs(alone)), _tokens(trial))

    def plain() -> Verdicts:
        yield from _same(trial, one.run(), other.run())

    return _offered(engine(), plain())


@law("model.gpt2")
def final_states_have_mean_0(trial: Trial) -> Verdicts:
    """If the last LayerNorm has gain 1 and bias 0, hidden states have mean 0 and a mean square of at most 1.

    Proof: nothing comes after it.
    """
    params = trial.arguments["params"]
    bare = {"weight": np.ones_like(params["ln_f"]["weight"]), "bias": np.zeros_like(params["ln_f"]["bias"])}
    plain = trial.with_arguments(params={**params, "ln_f": bare})
    if _is_tame(plain):
        states = plain.run()[0].astype(np.float64)
        mean, root = states.mean(axis=-1), states.std(axis=-1)
        yield trial.close(mean, np.zeros_like(mean), plain.noise(), size=_largest(states))
        yield trial.close(root, np.minimum(root, 1), plain.noise(), size=_largest(states))


@law("engine.logits")
def gains_and_biases_fold_into_the_next_weights(trial: Trial) -> Verdicts:
    """A LayerNorm's gains can as well stand in the rows of the weight that follows, and its bias, as that makes of it,
    in the bias that follows.

    Proof: (n * gain + shift) @ weight + bias = n @ (gain * weight) + (bias + shift @ weight). Gains are made small
    powers of two, shifts 1 in one channel and 0 elsewhere, and the following biases 0, so that all of it is exact.
    """
    random, untied, channels = _random(trial), _untied(trial), trial.case.sizes["C"]
    own, folded = (map_tree(lambda name, x: x, untied.arguments["params"]) for _ in range(2))  # two copies of the tree
    one_each, none = np.ones(channels, trial.dtype), np.zeros(channels, trial.dtype)

    def fold(layers: tuple[dict, dict], norm: str, part: str, name: str) -> None:
        weight, channel = layers[0][part][name]["weight"], random.integers(channels)
        gain = random.choice([-2.0, -1.0, 1.0, 2.0, 4.0], channels).astype(trial.dtype)
        shift = np.eye(channels)[channel].astype(trial.dtype)
        layers[0][norm], layers[1][norm] = {"weight": gain, "bias": shift}, {"weight": one_each, "bias": none}
        layers[0][part][name] = {"weight": weight, "bias": np.zeros_like(weight[0])}
        layers[1][part][name] = {"weight": gain[:, None] * weight, "bias": weight[channel]}

    for layers in zip(own["h"], folded["h"], strict=True):
        fold(layers, "ln_1", "attn", "c_attn")
        fold(layers, "ln_2", "mlp", "c_fc")
    gain = random.choice([-2.0, -1.0, 1.0, 2.0, 4.0], channels).astype(trial.dtype)
    own["ln_f"], folded["ln_f"] = {"weight": gain, "bias": none}, {"weight": one_each, "bias": none}
    folded["lm_head"] = {"weight": gain * own["lm_head"]["weight"]}
    one, other = (untied.with_arguments(params=params) for params in (own, folded))
    if _is_tame(one, other):
        yield from _alike(trial, _scores(other), _scores(one), one.noise() + other.noise(), _tokens(trial))


@law("engine.logits")
def a_tied_head_is_wte(trial: Trial) -> Verdicts:
    """A tied head gives the scores of an untied one that holds the token embeddings, bit for bit.

    Proof: it is the same product with the same numbers.
    """
    params = {name: part for name, part in trial.arguments["params"].items() if name != "lm_head"}
    tied = _change(trial, config={"tie_word_embeddings": True}, params=params)
    yield from _same(trial, _scores(_untied(tied)), _scores(tied), _tokens(trial))


def _widened(trial: Trial, heads: int, channels: int) -> Trial:
    """The same model with so many (heads * channels) times as many channels of the residual stream.

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
    """A model with every channel of the residual stream twice, and as many heads again whose results go nowhere, gives
    the same scores. The head is untied.

    Proof: mean and variance of a row are those of the row repeated; copies of channels and the new heads meet zero
    weights alone; and the scale of the scores depends on the size of a head, not on how many channels there are.
    """
    own = _untied(trial)
    wide = _widened(own, heads=2, channels=1)
    if _is_tame(own, wide):
        yield from _alike(trial, _scores(wide), _scores(own), own.noise() + wide.noise(), _tokens(trial))


@law("engine.logits")
def four_times_the_channels_double_the_scores(trial: Trial) -> Verdicts:
    """In a model that scales its scores, heads with every channel of query and key four times are heads with queries
    twice as large. The head is untied.

    Proof: a product of four equal parts is four times as large, and is divided by a root that is twice as large. The
    copies of a head's values and of the residual stream meet zero weights alone.
    """
    own = _change(_untied(trial), config={"scale_attn_weights": True})
    twice, wide = _reweigh(own, lambda name, x: _qkv(name, x, q=2)), _widened(own, heads=1, channels=4)
    if _is_tame(twice, wide):
        yield from _alike(trial, _scores(wide), _scores(twice), twice.noise() + wide.noise(), _tokens(trial))


@law("engine.logits")
def a_silent_layer_can_be_left_out(trial: Trial) -> Verdicts:
    """A layer whose last affine maps are zero changes no score, wherever it stands, bit for bit. The scale does not
    depend on the layer's number here.

    Proof: it adds exactly 0 to the residual stream.
    """
    params, own = trial.arguments["params"], _change(trial, config={"scale_attn_by_inverse_layer_idx": False})
    if not _is_tame(own):
        return
    expected, silent = _scores(own), _silent(params["h"][0])
    for layers in ([silent, *params["h"]], [*params["h"], silent]):
        deeper = _change(own, config={"n_layer": len(layers)}, params={**params, "h": layers})
        yield from _same(trial, _scores(deeper), expected, _tokens(trial))


@law("engine.logits")
def layers_are_counted_from_one(trial: Trial) -> Verdicts:
    """With scale_attn_by_inverse_layer_idx, the second or the fourth layer, behind silent ones, with its queries twice
    or four times as large, is what it is alone and without that switch.

    Proof: the switch divides the scores of layer n, counted from 1, by n; silent layers add nothing.
    """
    params, number = trial.arguments["params"], (2, 4)[trial.case.seed % 2]
    layer = params["h"][0]
    louder = map_tree(lambda name, x: _qkv(name, x, q=number), layer)
    layers = [*[_silent(layer)] * (number - 1), louder]
    switch = "scale_attn_by_inverse_layer_idx"
    own = _change(trial, config={"n_layer": 1, switch: False}, params={**params, "h": [layer]})
    deep = _change(trial, config={"n_layer": number, switch: True}, params={**params, "h": layers})
    if _is_tame(own, deep):
        yield from _alike(trial, _scores(deep), _scores(own), own.noise() + deep.noise(), _tokens(trial))


# Dropout, the loss, and gradients.


@law("ops.dropout")
def dropout_thins_out(trial: Trial) -> Verdicts:
    """What dropout keeps is divided by 1 - rate, what it leaves out is 0; at rate 0 all of x passes bit for bit.

    Proof: that is its definition; the mean over all masks is then x.
    """
    x, rate = trial.arguments["x"], trial.arguments["rate"]
    keep = _random(trial).random(x.shape) < 0.7
    thinned = trial.with_arguments(keep=keep)
    found, expected = thinned.run()[0], np.where(keep, x.astype(np.float64) / (1 - rate), 0)
    yield trial.close(found, expected, thinned.noise())
    yield trial.identical(found, np.zeros_like(x), ~keep)
    yield trial.identical(trial.with_arguments(keep=np.ones_like(keep), rate=0.0).run()[0], x)


@law("model.block")
def a_block_whose_branches_are_left_out_passes_x(trial: Trial) -> Verdicts:
    """If dropout leaves out all that attention and the MLP add, a block returns x, bit for bit.

    Proof: each branch is thinned out behind its last affine map and before it is added to the residual stream.
    """
    own, x = _without_past(trial), trial.arguments["x"]
    all_keys = np.ones((len(x), trial.case.sizes["H"], x.shape[1], x.shape[1]), bool)
    nothing = np.zeros(x.shape, bool)
    keep = {"attn": {"attn_weights": all_keys, "c_proj": nothing}, "mlp": {"c_proj": nothing}}
    if _is_tame(own):
        yield trial.identical(own.with_arguments(keep=keep).run()[0], x)


@law("ops.cross_entropy")
def what_is_not_scored_does_not_count(trial: Trial) -> Verdicts:
    """The loss is the mean of what it is for each of the scored labels alone; it is 0 where nothing is scored.

    Proof: what is ignored is neither in the sum nor in the count.
    """
    labels, ignored = trial.arguments["labels"], trial.arguments["ignore_index"]
    places = np.argwhere(labels != ignored)
    alone = np.full((len(places), *labels.shape), ignored)
    at = (np.arange(len(places)), *places.T)
    alone[at] = labels[at[1:]]
    single = [trial.with_arguments(labels=label) for label in alone]
    losses = np.array([float(each.run()[0]) for each in single] or [0.0])
    noise = trial.noise() + max((each.noise() for each in single), default=0.0)
    yield trial.close(trial.run()[0], losses.mean(), noise, size=_largest(losses))


@law("ops.cross_entropy_vjp")
def scores_of_a_row_are_pulled_apart(trial: Trial) -> Verdicts:
    """The gradient of the loss by the scores of a row sums to 0, and is 0, bit for bit, where nothing is scored.

    Proof: the loss forgets a number that is added to all scores of a row, and does not look at rows that are ignored.
    """
    found, labels = trial.run()[0], trial.arguments["labels"]
    yield trial.identical(found, np.zeros_like(found), (labels == trial.arguments["ignore_index"])[..., None])
    sums = found.astype(np.float64).sum(axis=-1)
    yield trial.close(sums, np.zeros_like(sums), found.shape[-1] * trial.noise(), size=_largest(found))


def _function_of(gradient: Trial) -> Trial:
    """The function that a trial takes the gradient of, on the same arguments."""
    arguments = {name: x for name, x in gradient.arguments.items() if name != "grad"}
    return gradient.of(gradient.case.contract.function.removesuffix("_vjp"), **arguments)


def _gradients(trial: Trial) -> list[Trial]:
    """The trial, and gradients of the other functions that return the like of one x."""
    like, own = ("softmax", "log_softmax", "gelu_new", "gelu", "silu"), _change(trial, {"N": trial.case.sizes["C"]})
    return [trial, *(own.of(f"ops.{name}_vjp", **_given(trial, "grad", "x")) for name in like)]


SLOPE, BAND = 2.0, 0.5  # halfway to the slope of a wrong gradient
SETTLED = 0.1
LINES = 12  # arguments that are moved, each alone, at most
STEPS = 2.0 ** -np.arange(-2, 16)
FAR_ABOVE = 32  # a remainder so many times what rounding may do to it has a slope that is known to a few hundredths


def _in_order_of_gradients(function: Trial) -> list[str]:
    """The names of a function's float arguments, in the order in which gradients by them are returned."""
    named = map_floats(lambda name, x: name, function.arguments)
    signature = inspect.signature(function.case.contract.target).parameters
    every: list[Any] = [leaf for part in signature for leaf in leaves(named.get(part), function.dtype)]
    return [leaf for leaf in every if isinstance(leaf, str)]


def _may_err(known: Reference, dtype: np.dtype) -> float:
    """How far a number may be off, by the verdict's rule."""
    return NOISE_FACTOR * known.noise + ULP_TERM * float(ulp(known.oracle, dtype))


def _remainders(gradient: Trial, name: str, slope: Array, known: Reference) -> Array:
    """f(x + h d) - f(x) - h g.d for every step h, in size; NaN where it is not far above what rounding may do to it.

    f is the function's first result, weighed with grad and summed up. x is the argument of that name, slope (g) the
    gradient by it, d a direction in which its rows move by about as much as their numbers differ, or as they are large.
    """
    function, grad = _function_of(gradient), gradient.arguments["grad"].astype(np.float64)
    x = float_arguments(function.arguments)[name].astype(np.float64)
    spread = x.std(axis=-1, keepdims=True)
    way = _random(gradient).standard_normal(x.shape) * np.where(spread > 0, spread, np.abs(x).mean())

    def weighed(result: Array) -> Array:
        return np.asarray((grad * result.astype(np.float64)).sum())

    def remainder(h: float) -> float:
        moved = map_floats(lambda leaf, y: (x + h * way).astype(y.dtype) if leaf == name else y, function.arguments)
        step = float_arguments(moved)[name].astype(np.float64) - x
        rise = weighed(function.with_arguments(**moved).run()[0]) - start
        left = abs(float(rise - (slope.astype(np.float64) * step).sum()))
        return left if left > FAR_ABOVE * (2 * off_f + h * off_g) else np.nan

    start, directed = weighed(function.run()[0]), known.then(lambda g: np.asarray((g.astype(np.float64) * way).sum()))
    off_f, off_g = (_may_err(of, gradient.dtype) for of in (function.references()[0].then(weighed), directed))
    return np.array([remainder(h) for h in STEPS])


def _falls_as_a_square(gradient: Trial) -> Verdicts:
    """Verdicts on the slope by some of the arguments, at the smallest steps at which it can be told from noise.

    The slope of a h^2 + b h^3 from one step to its half is 2, a little more or less by b h, and half as much off at the
    next step: that is taken off. There is no verdict where the slope has not settled yet, where the cube outweighs the
    square, or where the steps all lead over an edge, beyond which the function is flat.
    """
    order = _in_order_of_gradients(_function_of(gradient))
    parts = dict(zip(order, zip(gradient.run(), gradient.references(), strict=True), strict=True))
    for name in _random(gradient).permutation(order)[:LINES]:
        slopes = -np.diff(np.log2(_remainders(gradient, name, *parts[name])))
        last = np.flatnonzero(np.isfinite(slopes))[-3:]
        if len(last) == 3 and np.ptp(last) == 2 and _is_settled(*np.diff(slopes[last])):
            slope = float(2 * slopes[last[2]] - slopes[last[1]])
            if SLOPE - 1.5 < slope < SLOPE + 0.5:  # by a wrong gradient it is 1
                yield _slope_verdict(name, slope)


def _is_settled(before: float, change: float) -> bool:
    """Whether a slope that has changed so much over two steps is near its limit, where changes halve or are small."""
    is_small = abs(before) < SETTLED / 2 and abs(change) < SETTLED / 4
    return is_small or (abs(change) < SETTLED / 2 and 1.25 < before / change < 3)


def _slope_verdict(name: str, slope: float) -> Verdict:
    agrees, error = abs(slope - SLOPE) <= BAND, abs(slope - SLOPE)
    reason = f"beside its tangent by {name}, the function falls off with slope {slope:.2f}, expected {SLOPE} +- {BAND}"
    return Verdict(agrees, error, BAND / NOISE_FACTOR, 0.0, (), slope, SLOPE, "" if agrees else reason)


def _smooth(trial: Trial) -> Trial:
    is_smooth = trial.arguments["config"].activation_function != "relu"
    return trial if is_smooth else _change(trial, config={"activation_function": "gelu_new"})


@law("ops.layer_norm_vjp")
def gradients_are_tangents(trial: Trial) -> Verdicts:
    """Of LayerNorm, softmax, its logarithm and the smooth activations: along a line, what is left of the function
    beside the tangent that its gradient draws falls with the square of the step, with slope 2.0 +- 0.5 on logarithmic
    axes. No verdict where the remainder cannot be told from rounding at three steps.

    Proof: Taylor, f(x + h d) = f(x) + h g.d + O(h^2). If g is wrong by e, h e.d is left, of slope 1.
    """
    return _offered(*map(_falls_as_a_square, _gradients(trial)))


@law("model.language_model_loss_vjp")
def gradients_of_the_loss_are_tangents(trial: Trial) -> Verdicts:
    """The same of the loss of a language model, and all its parameters. gelu_new stands in for relu, which has a kink.

    Proof: as for gradients_are_tangents.
    """
    yield from _falls_as_a_square(_smooth(trial))


def _adds_up(trial: Trial) -> Verdicts:
    grad = trial.arguments["grad"]
    is_even = np.arange(grad.shape[-1]) % 2 == 0
    parts = [trial.with_arguments(grad=np.where(part, grad, np.zeros_like(grad))) for part in (is_even, ~is_even)]
    for whole, *found in zip(*(_with_noise(each) for each in (trial, *parts)), strict=True):
        pieces = [x.astype(np.float64) for x, _ in found]
        noise = whole[1] + sum(noise for _, noise in found)
        yield trial.close(whole[0], sum(pieces), noise, size=_largest(*pieces))


def _with_noise(trial: Trial) -> list[tuple[Array, float]]:
    return [(x, known.noise) for x, known in zip(trial.run(), trial.references(), strict=True)]


@law("ops.layer_norm_vjp")
def gradients_add_up(trial: Trial) -> Verdicts:
    """Of LayerNorm, softmax, its logarithm and the activations: what the even channels of grad give and what the odd
    ones give make up what all give.

    Proof: a gradient is grad times the Jacobian, a linear map, in which grad does not occur.
    """
    return _offered(*map(_adds_up, _gradients(trial)))


@law("model.block_vjp")
def gradients_of_a_block_add_up(trial: Trial) -> Verdicts:
    """The same of a block, its parameters and what enters it.

    Proof: as for gradients_add_up.
    """
    if _is_tame(trial):
        yield from _adds_up(trial)


def _named(trial: Trial) -> dict[str, tuple[Array, float]]:
    """The gradients of parameters that a trial returns, by name, each with its noise floor."""
    return {known.name: (x, known.noise) for x, known in zip(trial.run(), trial.references(), strict=True)}


@law("model.language_model_loss_vjp")
def gradients_grow_with_the_loss(trial: Trial) -> Verdicts:
    """A loss four times as large has gradients four times as large, one of nothing gradients of zero, bit for bit.

    Proof: the chain rule; 0 times any finite number is exactly 0.
    """
    grad = trial.arguments["grad"]
    if _is_tame(trial):
        larger, none = (trial.with_arguments(grad=np.asarray(times * grad)) for times in (4, 0))
        for (found, noise), (x, own) in zip(_with_noise(larger), _with_noise(trial), strict=True):
            yield trial.close(found, 4 * x.astype(np.float64), noise + 4 * own)
        for x in none.run():
            yield trial.identical(x, np.zeros_like(x))


@law("model.language_model_vjp")
def no_score_asks_what_comes_later(trial: Trial) -> Verdicts:
    """The scores of a token have no gradient, bit for bit, by the embeddings of what comes after it: neither by the
    rows of positions behind it, nor, where the head is untied, by rows of ids that stand there alone.

    Proof: causality. What is hidden has a weight of exactly 0, and 0 times any finite number adds exactly nothing.
    """
    own, length = _untied(trial).with_arguments(position_ids=None), trial.case.sizes["T"]
    place = int(_random(trial).integers(length))
    scored = (np.arange(length) == place)[None, :, None] & _tokens(trial)
    own = own.with_arguments(grad=np.where(scored, own.arguments["grad"], np.zeros_like(own.arguments["grad"])))
    if _is_tame(own):
        found, ids = _named(own), own.arguments["ids"]
        later = np.setdiff1d(np.arange(trial.case.sizes["V"]), ids[:, : place + 1])
        for x in (found["wpe.weight"][0][place + 1 :], found["wte.weight"][0][later]):
            yield trial.identical(x, np.zeros_like(x))


@law("model.language_model_loss_vjp")
def a_tied_head_and_the_embeddings_share_a_gradient(trial: Trial) -> Verdicts:
    """The gradient of a tied wte is what it is as embeddings plus what it is as a head, in a model where the two are
    apart; all other gradients are those of that model.

    Proof: the chain rule, for a number that is used in two places.
    """
    params = {name: part for name, part in trial.arguments["params"].items() if name != "lm_head"}
    tied = _change(trial, config={"tie_word_embeddings": True}, params=params)
    if not _is_tame(tied):
        return
    found, expected = _named(tied), _named(_untied(tied))
    head, noise_of_head = expected.pop("lm_head.weight")
    for name, (x, noise) in found.items():
        parts = [expected[name][0].astype(np.float64)] + ([head.astype(np.float64)] if name == "wte.weight" else [])
        others = expected[name][1] + (noise_of_head if name == "wte.weight" else 0.0)
        yield trial.close(x, sum(parts), noise + others, size=_largest(*parts))


@law("attention.attention_vjp")
def the_bias_of_the_keys_has_no_gradient(trial: Trial) -> Verdicts:
    """The gradient of attention by the bias of the keys is zero.

    Proof: it adds the same to all scores of a query, and softmax forgets a shift.
    """
    if _is_tame(trial):
        bias, noise = _named(trial)["c_attn.bias"]
        keys = np.split(bias, 3)[1]
        yield trial.close(keys, np.zeros_like(keys), noise)


# What an engine promises beside numbers.


@law("engine.logits")
def an_engine_is_the_plain_model(trial: Trial) -> Verdicts:
    """The scores that an engine returns are those in which its named stages end, and those of the plain function.

    Proof: all three are one formula.
    """
    if _is_tame(trial):
        named = trial.model().stages(*_inputs(trial))["logits"]
        for scores in _scores(trial):
            yield trial.close(scores, named, 2 * trial.noise(), _tokens(trial))


@law("engine.logits")
def the_same_call_gives_the_same_bits(trial: Trial) -> Verdicts:
    """Called twice with the same arguments, a model returns the same bits, of scores, of a decoder and of every stage.

    Proof: nothing is drawn at random, and nothing that was computed before is looked at.
    """
    model = trial.model()
    yield from _same(trial, _everything(model, trial), _everything(model, trial))
    yield from _same(trial, _scores(trial), _scores(trial))


def _other_weights(trial: Trial) -> dict[str, Array]:
    return {name: -np.flip(x) for name, x in flatten(trial.arguments["params"]).items()}


@law("engine.logits")
def assigned_weights_are_used(trial: Trial) -> Verdicts:
    """A model that has run, and is then assigned other weights, returns what a new model of these returns, bit for bit:
    scores, those of a decoder, and every stage.

    Proof: all weights are replaced, the shapes stay, so every sum is taken in the same order.
    """
    other, model = _other_weights(trial), trial.model()
    _everything(model, trial)
    model.assign(other)
    new = trial.backend.model(trial.arguments["config"], other)
    yield from _same(trial, _everything(model, trial), _everything(new, trial))


@law("engine.classify")
def assigned_weights_reach_the_classifier(trial: Trial) -> Verdicts:
    """A classifier that has run, and is then assigned other weights, returns what a new one of these returns, bit for
    bit.

    Proof: as for assigned_weights_are_used.
    """
    other, inputs, model = _other_weights(trial), _inputs(trial), trial.model()
    model.classify(*inputs)
    model.assign(other)
    new = trial.backend.model(trial.arguments["config"], other)
    yield trial.identical(model.classify(*inputs), new.classify(*inputs))


@law("engine.logits")
def results_do_not_change_afterwards(trial: Trial) -> Verdicts:
    """An array that a model has returned stays as it is when the model is run again or assigned other weights.

    Proof: a result belongs to the caller.
    """
    model, ids = trial.model(), trial.arguments["ids"]
    results = _everything(model, trial)
    before = [x.copy() for x in results]
    _everything(model, trial.with_arguments(ids=(ids + 1) % trial.case.sizes["V"]))
    model.assign(_other_weights(trial))
    _everything(model, trial)
    yield from _same(trial, results, before)


@law("engine.logits")
def decoders_do_not_meet(trial: Trial) -> Verdicts:
    """A decoder has the same scores, bit for bit, while another one of its model reads other tokens in turn with it,
    and after others have been used.

    Proof: each has a cache of its own, empty at the start.
    """
    model, inputs = trial.model(), _inputs(trial)
    others = ((inputs[0] + 1) % trial.case.sizes["V"], *inputs[1:])

    def read(what: tuple[Array, ...]) -> Iterator[Array]:
        return _read(model.decoder(*what[0].shape), what, _halves(what[0].shape[1]))

    expected = list(read(inputs))
    in_turn = [one for one, _ in zip(read(inputs), read(others), strict=True)]
    yield from _same(trial, [*in_turn, *read(inputs)], expected * 2)


def _score_of(scores: Array, chosen: Array) -> Array:
    return np.take_along_axis(scores, chosen.astype(np.int64)[:, None], axis=-1)[:, 0]


@law("engine.logits")
def a_decoder_chooses_by_its_scores(trial: Trial) -> Verdicts:
    """The id that a decoder chooses greedily, or samples from the likeliest one alone, has the highest of its scores.

    Proof: that is what greedy means; of one id there is nothing to sample.
    """
    inputs = _inputs(trial)
    decoder = trial.model().decoder(*inputs[0].shape)
    decoder.read(*inputs)
    scores, uniform = decoder.logits(), _random(trial).random(len(inputs[0]))
    for chosen in (decoder.greedy(), decoder.sample(uniform, 0.5, 1, 1.0)):
        yield trial.identical(_score_of(scores, chosen), scores.max(axis=-1))


def _promised(trial: Trial, x: Array, axes: Axes, dtype: np.dtype) -> Verdict:
    shape = [int(np.prod(axis_factors(axis, trial.case.sizes))) for axis in axes]
    return trial.identical(np.zeros_like(x), np.zeros(shape, dtype))


@law("model.language_model")
def results_have_the_promised_shape_and_dtype(trial: Trial) -> Verdicts:
    """Scores, keys, values and stages have the shapes that their axes promise, and the dtype of the backend.

    Proof: they are computed from parameters of that dtype. (The scores of attention alone may be of a higher one.)
    """

    def engine() -> Verdicts:
        alone, model, dtype = _without_past(trial), trial.model(), trial.dtype
        inputs = _inputs(alone)
        yield _promised(alone, model.logits(*inputs), ("B", "T", "V"), dtype)
        for scores in _read(model.decoder(*inputs[0].shape), inputs, _halves(inputs[0].shape[1])):
            yield _promised(alone, scores, ("B", "V"), dtype)
        for name, x in model.stages(*inputs).items():
            yield _promised(alone, x, stage_axes(name), x.dtype if name.endswith("scores") else dtype)

    def plain() -> Verdicts:
        found = trial.run()
        for x, axes in zip(found, result_axes(trial.case, len(found)), strict=True):
            yield _promised(trial, x, axes, trial.dtype)

    return _offered(engine(), plain())


# The choice of the next token.


@law("generate.greedy")
def greedy_is_the_first_of_the_highest(trial: Trial) -> Verdicts:
    """Greedy chooses the lowest id that has the highest score.

    Proof: that is its definition.
    """
    logits = trial.arguments["logits"]
    for scores in (logits, np.sign(logits)):  # of signs, many are equal
        highest = scores == scores.max(axis=-1, keepdims=True)
        expected = np.array([row.index(True) for row in highest.tolist()])
        yield trial.identical(trial.with_arguments(logits=scores).run()[0].astype(np.int64), expected)


@law("generate.sample")
def sampling_from_one_id_is_greedy(trial: Trial) -> Verdicts:
    """With top_k = 1, with a top_p that one id exceeds, or with the number 0, sampling chooses an id of the highest
    score.

    Proof: ids are walked along from the likeliest; the first two leave it alone, the third stops at it. Of V ids the
    likeliest has a probability of at least 1 / V.
    """
    logits, uniform = trial.arguments["logits"], trial.arguments["uniform"]
    for option in ({"top_k": 1}, {"top_p": 0.5 / logits.shape[-1]}, {"uniform": np.zeros_like(uniform)}):
        chosen = trial.with_arguments(**option).run()[0]
        yield trial.identical(_score_of(logits, chosen), logits.max(axis=-1))


def _grid(trial: Trial) -> Trial:
    """The first row of scores with 64 evenly spread numbers to sample by."""
    logits, uniform = trial.arguments["logits"], trial.arguments["uniform"]
    spread = ((np.arange(64) + 0.5) / 64).astype(uniform.dtype)
    return _change(trial, {"B": 64}, logits=np.repeat(logits[:1], 64, axis=0), uniform=spread)


@law("generate.sample")
def temperature_divides_the_scores(trial: Trial) -> Verdicts:
    """Twice the scores at twice the temperature choose the same ids.

    Proof: their quotients are the same, bit for bit.
    """
    own = _grid(trial)
    logits, temperature = own.arguments["logits"], own.arguments["temperature"]
    twice = own.with_arguments(logits=logits + logits, temperature=2 * temperature)
    yield trial.identical(twice.run()[0], own.run()[0])


@law("generate.sample")
def sampling_walks_from_the_likeliest(trial: Trial) -> Verdicts:
    """A larger number never chooses a likelier id, and no id beyond the top_k likeliest is chosen.

    Proof: the cumulated probabilities grow along the ids, which stand in the order of their scores.
    """
    own = _grid(trial)
    logits, top_k = own.arguments["logits"], own.arguments["top_k"]
    chosen = _score_of(logits, own.run()[0])
    yield trial.identical(chosen, np.minimum.accumulate(chosen))
    yield _true(trial, chosen >= np.sort(logits[0])[::-1][: top_k or None][-1])


@law("generate.sample")
def shares_of_numbers_are_probabilities(trial: Trial) -> Verdicts:
    """With temperature 1 each id is chosen by the share of numbers that softmax gives it; where top_k or top_p
    leave the likelier half of the ids, these have what all had together.

    Proof: an id is chosen by the numbers of an interval as long as its probability. Of 64 evenly spread ones that holds
    64 p, give or take 1, and one more at either end where rounding moves it.
    """
    own = _grid(trial.with_arguments(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0))
    logits = own.arguments["logits"]
    shares = trial.of("ops.softmax", x=logits[:1, None]).run()[0][0, 0].astype(np.float64)
    counts = np.bincount(own.run()[0], minlength=len(shares))
    yield _true(trial, np.abs(counts - 64 * shares) < 4)
    kept = np.sort(shares)[::-1][: (len(shares) + 1) // 2]
    for option in ({"top_k": len(kept)}, {"top_p": float(kept.sum() - kept[-1] / 2)}):
        counts = np.bincount(own.with_arguments(**option).run()[0], minlength=len(shares))
        yield _true(trial, np.abs(np.sort(counts)[::-1][: len(kept)] - 64 * kept / kept.sum()) < 4)
