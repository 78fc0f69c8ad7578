"""Laws of gradients: they are tangents, they add up, and some of them are zero."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from parity.laws.base import (
    Array,
    Verdicts,
    changed,
    given_arguments,
    is_tame,
    largest,
    law,
    random_of,
    token_rows,
    untied,
    where_offered,
)
from parity.verdict.liveness import float_arguments, map_floats
from parity.verdict.trial import Trial, leaves
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Reference, Verdict, ulp


def _function_of(gradient: Trial) -> Trial:
    """The function that a trial takes the gradient of, on the same arguments."""
    arguments = {name: x for name, x in gradient.arguments.items() if name != "grad"}
    return gradient.of(gradient.case.contract.function.removesuffix("_vjp"), **arguments)


def _gradients(trial: Trial) -> list[Trial]:
    """The trial, and gradients of the other functions that return the like of one x."""
    like, own = ("softmax", "log_softmax", "gelu_new", "gelu", "silu"), changed(trial, {"N": trial.case.sizes["C"]})
    return [trial, *(own.of(f"ops.{name}_vjp", **given_arguments(trial, "grad", "x")) for name in like)]


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


def _remainder(gradient: Trial, name: str, slope: Array, known: Reference) -> Callable[[float], float]:
    """f(x + h d) - f(x) - h g.d by the step h, in size; NaN where it is not far above what rounding may do to it.

    f is the function's first result, weighed with grad and summed up. x is the argument of that name, slope (g) the
    gradient by it, d a direction in which its rows move by about as much as their numbers differ, or as they are large.
    """
    function, grad = _function_of(gradient), gradient.arguments["grad"].astype(np.float64)
    x = float_arguments(function.arguments)[name].astype(np.float64)
    spread = x.std(axis=-1, keepdims=True)
    way = random_of(gradient).standard_normal(x.shape) * np.where(spread > 0, spread, np.abs(x).mean())

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
    return remainder


def _last_slopes(remainder: Callable[[float], float]) -> Array:
    """The slopes between the four smallest steps whose remainders are known; NaN where there are not as many.

    Remainders shrink with the step, so where they end is found by halving: of 18 steps some seven are looked at.
    """
    known = functools.cache(lambda place: remainder(STEPS[place]))
    last, end = -1, len(STEPS)
    while end - last > 1:
        middle = (last + end) // 2
        last, end = (middle, end) if np.isfinite(known(middle)) else (last, middle)
    sizes = np.array([known(place) if place >= 0 else np.nan for place in range(last - 3, last + 1)])
    return -np.diff(np.log2(sizes))


def _falls_as_a_square(gradient: Trial) -> Verdicts:
    """Verdicts on the slope by some of the arguments, at the smallest steps at which it can be told from noise.

    The slope of a h^2 + b h^3 from one step to its half is 2, a little more or less by b h, and half as much off at the
    next step: that is taken off. There is no verdict where the slope has not settled yet, where the cube outweighs the
    square, or where the steps all lead over an edge, beyond which the function is flat.
    """
    order = _in_order_of_gradients(_function_of(gradient))
    parts = dict(zip(order, zip(gradient.run(), gradient.references(), strict=True), strict=True))
    for name in random_of(gradient).permutation(order)[:LINES]:
        slopes = _last_slopes(_remainder(gradient, name, *parts[name]))
        if np.isfinite(slopes).all() and _is_settled(*np.diff(slopes)):
            slope = float(2 * slopes[2] - slopes[1])
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
    return trial if is_smooth else changed(trial, config={"activation_function": "gelu_new"})


@law("ops.layer_norm_vjp")
def gradients_are_tangents(trial: Trial) -> Verdicts:
    """Of LayerNorm, softmax, its logarithm and the smooth activations: along a line, what is left of the function
    beside the tangent that its gradient draws falls with the square of the step, with slope 2.0 +- 0.5 on logarithmic
    axes. No verdict where the remainder cannot be told from rounding at three steps.

    Proof: Taylor, f(x + h d) = f(x) + h g.d + O(h^2). If g is wrong by e, h e.d is left, of slope 1.
    """
    return where_offered(*map(_falls_as_a_square, _gradients(trial)))


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
        yield trial.close(whole[0], sum(pieces), noise, size=largest(*pieces))


def _with_noise(trial: Trial) -> list[tuple[Array, float]]:
    return [(x, known.noise) for x, known in zip(trial.run(), trial.references(), strict=True)]


@law("ops.layer_norm_vjp")
def gradients_add_up(trial: Trial) -> Verdicts:
    """Of LayerNorm, softmax, its logarithm and the activations: what the even channels of grad give and what the odd
    ones give make up what all give.

    Proof: a gradient is grad times the Jacobian, a linear map, in which grad does not occur.
    """
    return where_offered(*map(_adds_up, _gradients(trial)))


@law("model.block_vjp")
def gradients_of_a_block_add_up(trial: Trial) -> Verdicts:
    """The same of a block, its parameters and what enters it.

    Proof: as for gradients_add_up.
    """
    if is_tame(trial):
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
    if is_tame(trial):
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
    own, length = untied(trial).with_arguments(position_ids=None), trial.case.sizes["T"]
    place = int(random_of(trial).integers(length))
    scored = (np.arange(length) == place)[None, :, None] & token_rows(trial)
    own = own.with_arguments(grad=np.where(scored, own.arguments["grad"], np.zeros_like(own.arguments["grad"])))
    if is_tame(own):
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
    tied = changed(trial, config={"tie_word_embeddings": True}, params=params)
    if not is_tame(tied):
        return
    found, expected = _named(tied), _named(untied(tied))
    head, noise_of_head = expected.pop("lm_head.weight")
    for name, (x, noise) in found.items():
        parts = [expected[name][0].astype(np.float64)] + ([head.astype(np.float64)] if name == "wte.weight" else [])
        others = expected[name][1] + (noise_of_head if name == "wte.weight" else 0.0)
        yield trial.close(x, sum(parts), noise + others, size=largest(*parts))


@law("attention.attention_vjp")
def the_bias_of_the_keys_has_no_gradient(trial: Trial) -> Verdicts:
    """The gradient of attention by the bias of the keys is zero.

    Proof: it adds the same to all scores of a query, and softmax forgets a shift.
    """
    if is_tame(trial):
        bias, noise = _named(trial)["c_attn.bias"]
        keys = np.split(bias, 3)[1]
        yield trial.close(keys, np.zeros_like(keys), noise)
