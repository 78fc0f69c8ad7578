"""Laws of the operations: products, look-ups, softmax, LayerNorm, activations."""

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.cases.contracts import contracts
from parity.laws.base import (
    Array,
    Verdicts,
    changed,
    given_arguments,
    largest,
    law,
    must_hold,
    other_rows,
    random_of,
    shifted,
    where_offered,
)
from parity.verdict.trial import Trial
from reference.config import ACTIVATIONS

# The operations.

ELEMENTWISE = (
    *(f"{file}.{name}" for name in ACTIVATIONS for file in ("ops", "activations") if f"{file}.{name}" in contracts()),
    "fast.gelu_new_fast",
)
# Those that are x times a gate.
GATED = ("ops.gelu_new", "ops.gelu", "ops.relu", "ops.silu", "activations.quick_gelu", "fast.gelu_new_fast")
# What the activations give for these, computed from the formulas with mpmath 1.4, to 20 digits.
POINTS = (-5.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
KNOWN = {
    "gelu_new": (
        -2.2917961966295060456e-7,
        -0.0036373920817730188378,
        -0.045402305912224981219,
        -0.15880800939172329522,
        -0.15428599017485607796,
        0.0,
        0.34571400982514392204,
        0.84119199060827670478,
        1.9545976940877750188,
        2.9963626079182269812,
        4.999999770820380337,
    ),
    "gelu": (
        -1.4332578593959695584e-6,
        -0.00404969409489028358,
        -0.045500263896358414401,
        -0.15865525393145705141,
        -0.15426876936299344818,
        0.0,
        0.34573123063700655182,
        0.84134474606854294859,
        1.9544997361036415856,
        2.9959503059051097164,
        4.999998566742140604,
    ),
    "relu": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0),
    "silu": (
        -0.033464254621424277797,
        -0.14227761953270034264,
        -0.23840584404423511188,
        -0.26894142136999512075,
        -0.18877033439907271768,
        0.0,
        0.31122966560092728232,
        0.73105857863000487925,
        1.7615941559557648881,
        2.8577223804672996574,
        4.9665357453785757222,
    ),
    "quick_gelu": (
        -0.0010070162673523689397,
        -0.018071309707785966513,
        -0.064341376855791850193,
        -0.15420423406717870429,
        -0.14961156339361987683,
        0.0,
        0.35038843660638012317,
        0.84579576593282129571,
        1.9356586231442081498,
        2.9819286902922140335,
        4.9989929837326476311,
    ),
    "mish": (
        -0.033576237730161705396,
        -0.14564746127562458731,
        -0.25250148269570886364,
        -0.30340146137410891807,
        -0.22074377465172999682,
        0.0,
        0.37524521130489510482,
        0.86509838826731034612,
        1.9439589595339945203,
        2.9865350049679573191,
        4.9995520775294056873,
    ),
    "tanh": (
        -0.99990920426259513121,
        -0.99505475368673045133,
        -0.96402758007581688395,
        -0.76159415595576488812,
        -0.4621171572600097585,
        0.0,
        0.4621171572600097585,
        0.76159415595576488812,
        0.96402758007581688395,
        0.99505475368673045133,
        0.99990920426259513121,
    ),
    "sigmoid": (
        0.0066928509242848555594,
        0.047425873177566780879,
        0.11920292202211755594,
        0.26894142136999512075,
        0.37754066879814543536,
        0.5,
        0.62245933120185456464,
        0.73105857863000487925,
        0.88079707797788244406,
        0.95257412682243321912,
        0.99330714907571514444,
    ),
    "leaky_relu": (-0.05, -0.03, -0.02, -0.01, -0.005, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0),
    "relu2": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 1.0, 4.0, 9.0, 25.0),
    "linear": (-5.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0),
}


@law("ops.matmul")
def a_product_turned_is_the_product_turned_round(trial: Trial) -> Verdicts:
    """The transpose of a product is the product of the transposed factors in reverse order.

    Proof: both have the sum over c of a[t, c] b[c, n] at place (n, t).
    """
    a, b = trial.arguments["a"], trial.arguments["b"]
    turned = trial.with_arguments(a=b.swapaxes(1, 2), b=a.swapaxes(1, 2)).run()[0]
    yield trial.close(turned.swapaxes(1, 2), trial.run()[0], 2 * trial.noise())


@law("ops.conv1d")
def conv1d_moves_channels(trial: Trial) -> Verdicts:
    """If the weight is a permutation, output n is channel order[n] of the input, bit for bit; if it is zero, the output
    is the bias. The same holds for the fast form, whose weight is transposed.

    Proof: each output is a sum of products, all exactly 0 but one, which is exactly a channel of x; in the second case
    all are 0, and only the bias remains.
    """
    x, weight, bias = (trial.arguments[name] for name in ("x", "weight", "bias"))
    order = random_of(trial).permutation(x.shape[2])
    moving = np.eye(x.shape[2])[:, order].astype(x.dtype)

    def form(name: str, turn: Callable[[Array], Array]) -> Verdicts:
        moved = trial.of(name, x=x, weight=turn(moving), bias=np.zeros(x.shape[2], x.dtype)).run()[0]
        yield trial.identical(moved, x[..., order])
        left = trial.of(name, x=x, weight=turn(np.zeros_like(weight)), bias=bias).run()[0]
        yield trial.identical(left, np.broadcast_to(bias, (*x.shape[:2], len(bias))))

    return where_offered(form("ops.conv1d", np.asarray), form("fast.linear", np.transpose))


@law("ops.conv1d")
def conv1d_adds_up(trial: Trial) -> Verdicts:
    """The result for the even channels plus that for the odd channels is the result for all, with the bias added once.

    Proof: x @ weight is a sum over the channels; each is zero in one of the two parts and unchanged in the other.
    """
    x, bias = trial.arguments["x"], trial.arguments["bias"].astype(np.float64)
    is_even = np.arange(x.shape[2]) % 2 == 0
    even, odd = (trial.with_arguments(x=np.where(part, x, np.zeros_like(x))) for part in (is_even, ~is_even))
    parts = [part.run()[0].astype(np.float64) for part in (even, odd)]
    noise, size = trial.noise() + even.noise() + odd.noise(), largest(*parts, bias)
    yield trial.close(trial.run()[0], parts[0] + parts[1] - bias, noise, size=size)


@law("ops.embedding")
def embedding_is_a_look_up(trial: Trial) -> Verdicts:
    """Every id gets its own row of the weight, bit for bit.

    Proof: this is the definition; nothing is computed.
    """
    weight = trial.arguments["weight"]
    yield trial.identical(trial.run()[0], np.stack([[weight[i] for i in row] for row in trial.arguments["ids"]]))
    yield trial.identical(trial.with_arguments(ids=np.arange(len(weight))[None]).run()[0], weight[None])


@law("ops.softmax")
def softmax_forgets_a_shift(trial: Trial) -> Verdicts:
    """The softmax of a row does not change if any number is added to the row, even one whose exp overflows.

    Proof: exp(x + c) = exp(x) exp(c), and the factor exp(c) is in every numerator and in the sum.
    """
    here, there = (trial.with_arguments(x=x) for x in shifted(trial.arguments["x"], 128))
    yield trial.close(there.run()[0], here.run()[0], here.noise() + there.noise())


@law("ops.softmax")
def softmax_gives_shares(trial: Trial) -> Verdicts:
    """A row of softmax has no negative number, sums to 1, and is larger where x is larger.

    Proof: exp is positive and increasing, and each exponential is divided by the sum of all.
    """
    x, shares = trial.arguments["x"], trial.run()[0].astype(np.float64)
    yield must_hold(trial, shares >= 0)
    yield trial.close(shares.sum(axis=-1), np.ones(x.shape[:-1]), x.shape[-1] * trial.noise())
    climbing = np.take_along_axis(shares, np.argsort(x, axis=-1), axis=-1)
    yield trial.close(climbing, np.maximum.accumulate(climbing, axis=-1), 2 * trial.noise())


@law("ops.softmax")
def softmax_undoes_the_logarithm(trial: Trial) -> Verdicts:
    """The softmax of the logarithms of 1, 2, 3 and 4, in any order, is 0.1, 0.2, 0.3 and 0.4.

    Proof: exp(log n) = n, and the four sum to 10.
    """
    numbers = np.stack([random_of(trial).permutation([1, 2, 3, 4]) for _ in range(trial.case.sizes["T"])])[None]
    known = changed(trial, {"B": 1, "N": 4}, x=np.log(numbers).astype(trial.dtype))
    yield trial.close(known.run()[0], numbers / 10, known.noise())


@law("ops.layer_norm")
def layer_norm_normalises(trial: Trial) -> Verdicts:
    """With gain 1 and bias 0 each row has mean 0 and variance v / (v + eps), where v is the variance of the row of x.

    Proof: the centred row has mean 0 and mean square v; after division by the root of v + eps, v / (v + eps). The
    errors of mean and standard deviation are no larger than those of the elements.
    """
    weight, bias, eps = (trial.arguments[name] for name in ("weight", "bias", "eps"))
    plain = trial.with_arguments(weight=np.ones_like(weight), bias=np.zeros_like(bias))
    y, v = plain.run()[0].astype(np.float64), trial.arguments["x"].astype(np.float64).var(axis=-1)
    yield trial.close(y.mean(axis=-1), np.zeros_like(v), plain.noise(), size=largest(y))
    yield trial.close(y.std(axis=-1), np.sqrt(v / (v + eps)), plain.noise(), size=largest(y))


@law("ops.layer_norm")
def layer_norm_forgets_shift_and_scale(trial: Trial) -> Verdicts:
    """A number added to all channels changes nothing; doubling the channels and multiplying eps by 4 changes nothing.

    Proof: subtracting the mean removes the shift; the centred row and the root of v + eps both double.
    """
    x, eps = trial.arguments["x"], trial.arguments["eps"]
    here, there = (trial.with_arguments(x=moved) for moved in shifted(x, 4))
    yield trial.close(there.run()[0], here.run()[0], here.noise() + there.noise())
    twice = trial.with_arguments(x=x + x, eps=4 * eps)
    yield trial.close(twice.run()[0], trial.run()[0], twice.noise() + trial.noise())


@law("ops.layer_norm")
def layer_norm_applies_gain_and_bias_last(trial: Trial) -> Verdicts:
    """LayerNorm equals LayerNorm with gain 1 and bias 0, times the gain, plus the bias.

    Proof: this is its definition, equation 4 of Ba et al. 2016.
    """
    weight, bias = trial.arguments["weight"], trial.arguments["bias"]
    plain = trial.with_arguments(weight=np.ones_like(weight), bias=np.zeros_like(bias))
    gained = plain.run()[0].astype(np.float64) * weight.astype(np.float64)
    noise = trial.noise() + plain.noise() * largest(weight)
    yield trial.close(trial.run()[0], gained + bias.astype(np.float64), noise, size=largest(gained, bias))


@law("ops.gelu_new")
def an_activation_less_its_mirror_image_is_x(trial: Trial) -> Verdicts:
    """f(x) - f(-x) = x for relu, silu and each form of GELU.

    Proof: each is x g(x) with g(x) + g(-x) = 1, g being (1 + tanh(odd)) / 2, the normal distribution function, the
    logistic sigmoid (of 1.702 x for quick_gelu), or the step at 0 (where x is 0 too).
    """
    x = trial.arguments["x"]

    def mirrored(name: str) -> Verdicts:
        plus, minus = trial.of(name, x=x), trial.of(name, x=-x)
        difference = plus.run()[0].astype(np.float64) - minus.run()[0].astype(np.float64)
        yield trial.close(difference, x, plus.noise() + minus.noise(), size=largest(x))

    return where_offered(*(mirrored(name) for name in GATED))


@law("ops.gelu_new")
def activations_have_known_values(trial: Trial) -> Verdicts:
    """The activations have the values of their formulas, at any place in the array.

    Proof: the values were computed to 20 digits with mpmath.
    """
    places = random_of(trial).integers(0, len(POINTS), trial.arguments["x"].shape)
    x = np.array(POINTS)[places].astype(trial.dtype)

    def valued(name: str) -> Verdicts:
        point = trial.of(name, x=x)
        known = KNOWN[name.partition(".")[2].removesuffix("_fast")]
        yield trial.close(point.run()[0], np.array(known)[places], point.noise())

    return where_offered(*(valued(name) for name in ELEMENTWISE))


@law("ops.layer_norm")
def rows_are_computed_alone(trial: Trial) -> Verdicts:
    """The result of LayerNorm, softmax and the activations for a row does not depend on the other rows, bit for bit.

    Proof: no formula mixes rows, and with the same shapes, the sums within a row have the same order.
    """
    row, changed = other_rows(trial)

    def alone(name: str, **others: Any) -> Verdicts:
        before, after = (trial.of(name, x=x, **others) for x in (trial.arguments["x"], changed))
        yield trial.identical(after.run()[0], before.run()[0], row)

    norm = alone("ops.layer_norm", **given_arguments(trial, "weight", "bias", "eps"))
    return where_offered(norm, *(alone(name) for name in ("ops.softmax", *ELEMENTWISE)))
