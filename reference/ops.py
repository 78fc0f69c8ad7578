"""The operations GPT-2 is made of. B batch, T tokens, C channels, N outputs, V vocabulary; `...` any leading axes.

Under each op stands its vector-Jacobian product, derived by hand: op_vjp(grad, ...) takes the gradient of a loss with
respect to the op's result, and returns that with respect to every float argument of the op, in their order.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.precision import as_low_as, gradients_rounded_once, rounded_once
from reference.stages import observe

Array = NDArray[Any]


@rounded_once
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes.

    Shapes: a (B, T, C), b (B, C, N) -> (B, T, N)
    """
    return np.matmul(a, b)


@gradients_rounded_once
def matmul_vjp(grad: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Gradients of matmul: each factor's is grad times the other factor, transposed.

    Shapes: grad (B, T, N), a (B, T, C), b (B, C, N) -> (B, T, C), (B, C, N)
    """
    return matmul(grad, b.swapaxes(-1, -2)), matmul(a.swapaxes(-1, -2), grad)


def conv1d(x: Array, weight: Array, bias: Array) -> Array:
    """Affine map of the last axis, x @ weight + bias; GPT-2 calls it conv1d and stores the weight as (in, out).

    It runs in the dtype of the weight, as mixed precision has it.
    Shapes: x (B, T, C), weight (C, N), bias (N) -> (B, T, N)
    Source: `conv1d` in GPT-2's model.py.
    """
    rows = as_low_as(x, weight).reshape(-1, weight.shape[0])  # one product for all positions of the batch
    return (matmul(rows, weight) + bias).reshape(*x.shape[:-1], weight.shape[1])


def conv1d_vjp(grad: Array, x: Array, weight: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Gradients of conv1d; a weight and a bias serve every position, so theirs are sums over the positions.

    Shapes: grad (B, T, N), x (B, T, C), weight (C, N), bias (N) -> (B, T, C), (C, N), (N)
    """
    rows, grads = as_low_as(x, weight).reshape(-1, weight.shape[0]), grad.reshape(-1, weight.shape[1])
    d_rows, d_weight = matmul_vjp(grads, rows, weight)
    return d_rows.reshape(x.shape).astype(x.dtype), d_weight, _sum_rows(grads)


@rounded_once
def _sum_rows(x: Array) -> Array:
    """Sum of all rows: the gradient of what was added to every row.

    Shapes: x (T, C) -> (C)
    """
    return x.sum(axis=0)


def _mean(x: Array) -> Array:
    return x.sum(axis=-1, keepdims=True) / x.shape[-1]  # what x.mean does, in half its time


@rounded_once
def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Shift and scale each row to mean 0 and variance 1 (the biased variance), then apply gain and bias.

    Shapes: x (B, T, C), weight (C), bias (C) -> (B, T, C)
    Source: Ba et al. 2016, equation 4; `norm` in GPT-2's model.py.
    """
    centred = x - observe("mean", _mean(x))
    variance = _mean(centred * centred)
    return centred / np.sqrt(variance + eps) * weight + bias


@gradients_rounded_once
def layer_norm_vjp(grad: Array, x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """Gradients of layer_norm: dx = (g - mean(g) - n mean(g n)) / deviation, with n the normed row, g = grad * weight.

    The two means take off what a shift or a scaling of the row would change: the normed row does not notice either.
    Shapes: grad (B, T, C), x (B, T, C), weight (C), bias (C) -> (B, T, C), (C), (C)
    """
    deviation = np.sqrt(observe("mean", x.var(axis=-1, keepdims=True)) + eps)
    n = layer_norm(x, np.ones_like(weight), np.zeros_like(bias), eps)
    g = grad * weight
    shift, scale = observe("mean", g.mean(-1, keepdims=True)), observe("mean", np.mean(g * n, -1, keepdims=True))
    leading = tuple(range(x.ndim - 1))
    return (g - shift - n * scale) / deviation, (grad * n).sum(axis=leading), grad.sum(axis=leading)


@rounded_once
def gelu_new(x: Array) -> Array:
    """GPT-2's GELU, the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, section 2; `gelu` in GPT-2's model.py.
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))  # x**3 is 100 times slower
    return 0.5 * x * (1 + observe("tanh", np.tanh(inner)))


@gradients_rounded_once
def gelu_new_vjp(grad: Array, x: Array) -> Array:
    """Gradient of gelu_new: with t = tanh(u), (1 + t)/2 + x/2 (1 - t^2) u'.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    factor = math.sqrt(2 / math.pi)
    t = observe("tanh", np.tanh(factor * x * (1 + 0.044715 * x * x)))
    slope = factor * (1 + 3 * 0.044715 * x * x)
    return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


@rounded_once
def gelu(x: Array) -> Array:
    """GELU itself, x times the normal distribution function: x/2 (1 + erf(x / sqrt 2)).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, equation 1.
    """
    return 0.5 * x * (1 + observe("erf", _erf(x / math.sqrt(2))))


@gradients_rounded_once
def gelu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of gelu: the normal distribution function plus x times its density.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    distribution = (1 + observe("erf", _erf(x / math.sqrt(2)))) / 2
    density = observe("exp", np.exp(-x * x / 2)) / math.sqrt(2 * math.pi)
    return grad * (distribution + x * density)


def _erf(x: Array) -> Array:
    """NumPy has no erf. Of x + ih, with h tiny as in a complex step, erf(x) + ih erf'(x): Taylor's first two terms."""
    erf = np.vectorize(math.erf, otypes=[np.float64])(x.real)
    if np.iscomplexobj(x):
        erf = erf + 1j * x.imag * (2 / math.sqrt(math.pi) * np.exp(-x.real * x.real))
    return erf.astype(x.dtype)


def relu(x: Array) -> Array:
    """max(x, 0).

    Shapes: x (B, T, C) -> (B, T, C)
    """
    return np.maximum(x, 0)


def relu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of relu: it passes where x is above 0; at 0 itself the convention is 0.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    return np.where(x > 0, grad, np.zeros_like(grad))


@rounded_once
def silu(x: Array) -> Array:
    """x times its logistic sigmoid, also called swish: x / (1 + exp(-x)).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, section 2.
    """
    return x * observe("sigmoid", _sigmoid(x))


def _sigmoid(x: Array) -> Array:
    decay = np.exp(np.where(x >= 0, -x, x))  # of -|x|, which cannot overflow
    return np.where(x >= 0, 1, decay) / (1 + decay)


@gradients_rounded_once
def silu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of silu: with s the sigmoid, s (1 + x (1 - s)).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    s = observe("sigmoid", _sigmoid(x))
    return grad * s * (1 + x * (1 - s))


@rounded_once
def softmax(x: Array) -> Array:
    """Exponentials of each row, divided by their sum; the row's maximum is taken off first, so nothing overflows.

    Shapes: x (B, T, N) -> (B, T, N)
    """
    weights = observe("exp", np.exp(x - x.max(axis=-1, keepdims=True)))
    return weights / weights.sum(axis=-1, keepdims=True)


@gradients_rounded_once
def softmax_vjp(grad: Array, x: Array) -> Array:
    """Gradient of softmax: y (g - sum(g y)), with y = softmax(x). Its rows sum to zero: softmax forgets a shift.

    Shapes: grad (B, T, N), x (B, T, N) -> (B, T, N)
    """
    y = softmax(x)
    return y * (grad - np.sum(grad * y, axis=-1, keepdims=True))


@rounded_once
def log_softmax(x: Array) -> Array:
    """Logarithm of softmax: x - log(sum(exp(x))), the row's maximum taken off first.

    Shapes: x (B, T, N) -> (B, T, N)
    """
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - observe("log", np.log(observe("exp", np.exp(shifted)).sum(axis=-1, keepdims=True)))


@gradients_rounded_once
def log_softmax_vjp(grad: Array, x: Array) -> Array:
    """Gradient of log_softmax: g - exp(log_softmax(x)) sum(g).

    Shapes: grad (B, T, N), x (B, T, N) -> (B, T, N)
    """
    return grad - observe("exp", np.exp(log_softmax(x))) * np.sum(grad, axis=-1, keepdims=True)


def cross_entropy(logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    """The loss: mean of -log softmax(logits)[label] over all labels but those that are ignore_index; 0 if all are.

    PyTorch gives NaN where nothing is scored; one such micro-batch would then spoil a whole training run. The loss is
    float32 at least: the sum of many small numbers.
    Shapes: logits (B, T, V), labels (B, T) labels V -> ()
    """
    scored = labels != ignore_index
    wide = logits.astype(np.promote_types(logits.dtype, np.float32))
    chosen = np.take_along_axis(log_softmax(wide), np.where(scored, labels, 0)[..., None], axis=-1)[..., 0]
    return observe("rounding", -np.sum(np.where(scored, chosen, 0)) / np.array(max(scored.sum(), 1), wide.dtype))


@gradients_rounded_once
def cross_entropy_vjp(grad: Array, logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    """Gradient of cross_entropy: (softmax - one-hot) / number of scored labels; 0 where a label is ignored.

    Shapes: grad (), logits (B, T, V), labels (B, T) labels V -> (B, T, V)
    """
    scored = labels != ignore_index
    d_chosen = np.where(scored, -grad / np.array(max(scored.sum(), 1), logits.dtype), 0).astype(logits.dtype)
    d_log_softmax = np.zeros_like(logits)
    np.put_along_axis(d_log_softmax, np.where(scored, labels, 0)[..., None], d_chosen[..., None], axis=-1)
    return log_softmax_vjp(d_log_softmax, logits)


def dropout(x: Array, keep: Array | None, rate: float) -> Array:
    """x / (1 - rate) where keep is True, 0 elsewhere: on average, x. Without keep, x itself.

    Chance stays outside: whoever draws keep, True with probability 1 - rate, can hand the same to both sides.
    Shapes: x (B, T, C), keep (B, T, C) bool optional -> (B, T, C)
    Source: Srivastava et al. 2014, section 10 (scaled at training time).
    """
    return x if keep is None else _thin_out(x, keep, rate)


@rounded_once
def _thin_out(x: Array, keep: Array, rate: float) -> Array:
    return np.where(keep, x / (1 - rate), np.zeros_like(x))


def dropout_vjp(grad: Array, x: Array, keep: Array | None, rate: float) -> Array:
    """Gradient of dropout: it thins out grad in the same places.

    Shapes: grad (B, T, C), x (B, T, C), keep (B, T, C) bool optional -> (B, T, C)
    """
    return dropout(grad, keep, rate)


def embedding(ids: Array, weight: Array) -> Array:
    """Rows of weight, looked up by id; ids from 0 to V - 1 (not checked here: NumPy lets -1 mean the last row).

    Shapes: ids (B, T) int V, weight (V, C) -> (B, T, C)
    Raises IndexError for an id of V or more.
    """
    return weight[ids]


@gradients_rounded_once
def embedding_vjp(grad: Array, ids: Array, weight: Array) -> Array:
    """Gradient of the embedding's weight: each row collects what reaches the tokens that looked it up.

    Shapes: grad (B, T, C), ids (B, T) int V, weight (V, C) -> (V, C)
    """
    d_weight = np.zeros_like(weight)
    np.add.at(d_weight, ids, grad)
    return d_weight


def unembedding(x: Array, weight: Array) -> Array:
    """Score of every row of weight: the product of x with each.

    Shapes: x (B, T, C), weight (V, C) -> (B, T, V)
    """
    return matmul(x, weight.T)


def unembedding_vjp(grad: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """Gradients of unembedding: conv1d's, with the weight the other way round.

    Shapes: grad (B, T, V), x (B, T, C), weight (V, C) -> (B, T, C), (V, C)
    """
    rows, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    d_rows, d_turned = matmul_vjp(grads, rows, weight.T)
    return d_rows.reshape(x.shape), d_turned.T
