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

# Activations whose slope jumps at 0, or bends there so that differences across it err by more than their square.
KINKED = ("relu", "leaky_relu", "relu2")
SMOOTH = (
    "ops.softmax",
    "ops.log_softmax",
    "ops.gelu_new",
    "ops.gelu",
    "ops.silu",
    "activations.quick_gelu",
    "activations.mish",
    "activations.tanh",
    "activations.sigmoid",
)


def _function_of(gradient: Trial) -> Trial:
    """The function that a trial takes the gradient of, on the same arguments."""
    arguments = {name: x for name, x in gradient.arguments.items() if name != "grad"}
    return gradient.of(gradient.case.contract.function.removesuffix("_vjp"), **arguments)


def _gradients(trial: Trial) -> list[Trial]:
    """The trial, and gradients of the other functions that map one x to an array of its shape."""
    square = changed(trial, {"N": trial.case.sizes["C"]})
    return [trial, *(square.of(f"{name}_vjp", **given_arguments(trial, "grad", "x")) for name in SMOOTH)]


SLOPE, BAND = 2.0, 0.5  # halfway to the slope of a wrong gradient
SETTLED = 0.1
LINES = 6  # the most arguments to move, one at a time
STEPS = 2.0 ** -np.arange(-2, 16)
FAR_ABOVE = 32  # a remainder this many times its rounding error has a slope known to a few hundredths


def _in_order_of_gradients(function: Trial) -> list[str]:
    """The names of a function's float arguments, in the order of the returned gradients."""
    named = map_floats(lambda name, x: name, function.arguments)
    signature = inspect.signature(function.case.contract.target).parameters
    every: list[Any] = [leaf for part in signature for leaf in leaves(named.get(part), function.dtype)]
    return [leaf for leaf in every if isinstance(leaf, str)]


def _may_err(known: Reference, dtype: np.dtype) -> float:
    """How far a number may be off, by the verdict's rule."""
    return NOISE_FACTOR * known.noise + ULP_TERM * float(ulp(known.oracle, dtype))


def _remainder(gradient: Trial, name: str, slope: Array, known: Reference) -> Callable[[float], float]:
    """|f(x + h d) - f(x) - h g.d| as a function of h; NaN where it is not far above its rounding error.

    f is the function's first result, weighted with grad and summed. x is the argument of that name, slope (g) the
    gradient by it, d a direction that moves its rows by about their spread, or their size.
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
    known = functools.cache(lambda place: remainder(float(STEPS[place])))
    last, end = -1, len(STEPS)
    while end - last > 1:
        middle = (last + end) // 2
        last, end = (middle, end) if np.isfinite(known(middle)) else (last, middle)
    sizes = np.array([known(place) if place >= 0 else np.nan for place in range(last - 3, last + 1)])
    return -np.diff(np.log2(sizes))


def _falls_as_a_square(gradient: Trial) -> Verdicts:
    """Verdicts on the slope for some of the arguments, at the smallest steps that are above the noise.

    The slope of a h^2 + b h^3 from one step to its half is 2 plus an error of order b h, which halves at the next step
    and is therefore extrapolated away. There is no verdict where the slope has not settled, where the cube outweighs
    the square, or where all steps lead over an edge behind which the function is flat.
    """
    order = _in_order_of_gradients(_function_of(gradient))
    parts = dict(zip(order, zip(gradient.run(), gradient.references(), strict=True), strict=True))
    for name in random_of(gradient).permutation(order)[:LINES]:
        slopes = _last_slopes(_remainder(gradient, name, *parts[name]))
        if np.isfinite(slopes).all() and _is_settled(*map(float, np.diff(slopes))):
            slope = float(2 * slopes[2] - slopes[1])
            if SLOPE - 1.5 < slope < SLOPE + 0.5:  # by a wrong gradient it is 1
                yield _slope_verdict(name, slope)


def _is_settled(before: float, change: float) -> bool:
    """Whether a slope with these changes over two steps is near its limit, where changes halve or are small."""
    is_small = abs(before) < SETTLED / 2 and abs(change) < SETTLED / 4
    return is_small or (abs(change) < SETTLED / 2 and 1.25 < before / change < 3)


def _slope_verdict(name: str, slope: float) -> Verdict:
    agrees, error = abs(slope - SLOPE) <= BAND, abs(slope - SLOPE)
    reason = f"beside its tangent by {name}, the function falls off with slope {slope:.2f}, expected {SLOPE} +- {BAND}"
    return Verdict(agrees, error, BAND / NOISE_FACTOR, 0.0, (), slope, SLOPE, "" if agrees else reason)


def _smooth(trial: Trial) -> Trial:
    is_smooth = trial.arguments["config"].activation_function not in KINKED
    return trial if is_smooth else changed(trial, config={"activation_function": "gelu_new"})


@law("ops.layer_norm_vjp")
def gradients_are_tangents(trial: Trial) -> Verdicts:
    """For LayerNorm, softmax, its logarithm and the smooth activations: along a line, the difference between function
    and tangent (by the gradient) falls with the square of the step, with slope 2.0 +- 0.5 on logarithmic axes. No
    verdict where the difference is not above rounding at three steps.

    Proof: Taylor, f(x + h d) = f(x) + h g.d + O(h^2). If g is wrong by e, h e.d remains, which has slope 1.
    """
    return where_offered(*map(_falls_as_a_square, _gradients(trial)))


@law("model.language_model_loss_vjp")
def gradients_of_the_loss_are_tangents(trial: Trial) -> Verdicts:
    """The same for the loss of a language model and all its parameters. gelu_new replaces what has a kink.

    Proof: as for gradients_are_tangents.
    """
    yield from _falls_as_a_square(_smooth(trial))


def _adds_up(trial: Trial) -> Verdicts:
    grad = trial.arguments["grad"]
    is_even = np.arange(grad.shape[-1]) % 2 == 0
    parts = [trial.with_arguments(grad=np.where(part, grad, np.zeros_like(grad))) for part in (is_even, ~is_even)]
    for whole, *partial in zip(*(_with_noise(version) for version in (trial, *parts)), strict=True):
        pieces = [x.astype(np.float64) for x, _ in partial]
        noise = whole[1] + sum(noise for _, noise in partial)
        yield trial.close(whole[0], sum(pieces), noise, size=largest(*pieces))


def _with_noise(trial: Trial) -> list[tuple[Array, float]]:
    return [(x, known.noise) for x, known in zip(trial.run(), trial.references(), strict=True)]


@law("ops.layer_norm_vjp")
def gradients_add_up(trial: Trial) -> Verdicts:
    """For LayerNorm, softmax, its logarithm and the activations: the gradient for the even channels of grad plus that
    for the odd channels is the gradient for all.

    Proof: a gradient is grad times the Jacobian, which does not depend on grad, so it is linear in grad.
    """
    return where_offered(*map(_adds_up, _gradients(trial)))


@law("model.block_vjp")
def gradients_of_a_block_add_up(trial: Trial) -> Verdicts:
    """The same for a block, its parameters and its input.

    Proof: as for gradients_add_up.
    """
    if is_tame(trial):
        yield from _adds_up(trial)


def _named(trial: Trial) -> dict[str, tuple[Array, float]]:
    """The gradients of parameters that a trial returns, by name, each with its noise floor."""
    return {known.name: (x, known.noise) for x, known in zip(trial.run(), trial.references(), strict=True)}


@law("model.language_model_loss_vjp")
def gradients_grow_with_the_loss(trial: Trial) -> Verdicts:
    """A loss four times as large has gradients four times as large; a loss times 0 has gradients of 0, bit for bit.

    Proof: the chain rule; 0 times any finite number is exactly 0.
    """
    grad = trial.arguments["grad"]
    if is_tame(trial):
        larger, none = (trial.with_arguments(grad=np.asarray(times * grad)) for times in (4, 0))
        for (four_times, noise), (x, own_noise) in zip(_with_noise(larger), _with_noise(trial), strict=True):
            yield trial.close(four_times, 4 * x.astype(np.float64), noise + 4 * own_noise)
        for x in none.run():
            yield trial.identical(x, np.zeros_like(x))


@law("model.language_model_vjp")
def no_score_asks_what_comes_later(trial: Trial) -> Verdicts:
    """The gradient of a token's scores by the embeddings of later tokens is 0, bit for bit: by the rows of later
    positions and, if the head is untied, by the rows of ids that occur only later.

    Proof: causality. A hidden key has a weight of exactly 0, and 0 times any finite number adds exactly nothing.
    """
    base, length = untied(trial).with_arguments(position_ids=None), trial.case.sizes["T"]
    place = int(random_of(trial).integers(length))
    scored = (np.arange(length) == place)[None, :, None] & token_rows(trial)
    base = base.with_arguments(grad=np.where(scored, base.arguments["grad"], np.zeros_like(base.arguments["grad"])))
    if is_tame(base):
        gradients, ids = _named(base), base.arguments["ids"]
        later = np.setdiff1d(np.arange(trial.case.sizes["V"]), ids[:, : place + 1])
        for x in (gradients["wpe.weight"][0][place + 1 :], gradients["wte.weight"][0][later]):
            yield trial.identical(x, np.zeros_like(x))


@law("model.language_model_loss_vjp")
def a_tied_head_and_the_embeddings_share_a_gradient(trial: Trial) -> Verdicts:
    """The gradient of a tied wte is the sum of the gradients of embeddings and head in a model where the two are
    separate; all other gradients are those of that model.

    Proof: the chain rule, for a number that is used in two places.
    """
    params = {name: part for name, part in trial.arguments["params"].items() if name != "lm_head"}
    tied = changed(trial, config={"tie_word_embeddings": True}, params=params)
    if not is_tame(tied):
        return
    actual, expected = _named(tied), _named(untied(tied))
    head, noise_of_head = expected.pop("lm_head.weight")
    for name, (x, noise) in actual.items():
        parts = [expected[name][0].astype(np.float64)] + ([head.astype(np.float64)] if name == "wte.weight" else [])
        others = expected[name][1] + (noise_of_head if name == "wte.weight" else 0.0)
        yield trial.close(x, sum(parts), noise + others, size=largest(*parts))


@law("attention.attention_vjp")
def the_bias_of_the_keys_has_no_gradient(trial: Trial) -> Verdicts:
    """The gradient of attention by the bias of the keys is zero.

    Proof: it adds the same to all scores of a query, and softmax is not changed by a shift.
    """
    if is_tame(trial):
        bias, noise = _named(trial)["c_attn.bias"]
        keys = np.split(bias, 3)[1]
        yield trial.close(keys, np.zeros_like(keys), noise)
