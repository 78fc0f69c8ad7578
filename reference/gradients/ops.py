"""The gradients of ops.py, derived by hand, in the order of that file.

op_vjp(grad, ...) is the vector-Jacobian product of op: it takes the gradient of a loss with respect to the op's result,
and returns the gradients with respect to the op's float arguments, in their order.
"""

import math

import numpy as np

from reference.elementary import erf, exp, mean, sigmoid, tanh
from reference.ops import Array, Pair, dropout, layer_norm, log_softmax, matmul, softmax
from reference.precision import as_low_as, gradients_rounded_once, rounded_once


@gradients_rounded_once
def matmul_vjp(grad: Array, a: Array, b: Array) -> Pair:
    """Gradients of matmul: each factor's is grad times the other factor, transposed.

    Shapes: grad (B, T, N), a (B, T, C), b (B, C, N) -> (B, T, C), (B, C, N)
    """
    return matmul(grad, b.swapaxes(-1, -2)), matmul(a.swapaxes(-1, -2), grad)


def conv1d_vjp(grad: Array, x: Array, weight: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Gradients of conv1d; every position uses weight and bias, so their gradients are sums over the positions.

    Shapes: grad (B, T, N), x (B, T, C), weight (C, N), bias (N) -> (B, T, C), (C, N), (N)
    """
    rows, grads = as_low_as(x, weight).reshape(-1, weight.shape[0]), grad.reshape(-1, weight.shape[1])
    d_rows, d_weight = matmul_vjp(grads, rows, weight)
    return d_rows.reshape(x.shape).astype(x.dtype), d_weight, _sum_rows(grads)


@rounded_once
def _sum_rows(x: Array) -> Array:
    """Sum of all rows: the gradient of a bias that was added to every row.

    Shapes: x (T, C) -> (C)
    """
    return x.sum(axis=0)


@gradients_rounded_once
def layer_norm_vjp(grad: Array, x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """Gradients of layer_norm: dx = (g - mean(g) - n mean(g n)) / deviation, with n the normed row, g = grad * weight.

    The two means remove the parts along a shift and a scaling of the row, which do not change the normed row.
    Shapes: grad (B, T, C), x (B, T, C), weight (C), bias (C) -> (B, T, C), (C), (C)
    """
    deviation = np.sqrt(mean(np.square(x - x.mean(axis=-1, keepdims=True))) + eps)
    n = layer_norm(x, np.ones_like(weight), np.zeros_like(bias), eps)
    g = grad * weight
    shift, scale = mean(g), mean(g * n)
    leading = tuple(range(x.ndim - 1))
    return (g - shift - n * scale) / deviation, (grad * n).sum(axis=leading), grad.sum(axis=leading)


@gradients_rounded_once
def gelu_new_vjp(grad: Array, x: Array) -> Array:
    """Gradient of gelu_new: with t = tanh(u), (1 + t)/2 + x/2 (1 - t^2) u'.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    factor = math.sqrt(2 / math.pi)
    t = tanh(factor * x * (1 + 0.044715 * x * x))
    slope = factor * (1 + 3 * 0.044715 * x * x)
    return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


@gradients_rounded_once
def gelu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of gelu: the normal distribution function plus x times its density.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    distribution = (1 + erf(x / math.sqrt(2))) / 2
    density = exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return grad * (distribution + x * density)


def relu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of relu: grad where x is above 0, else 0 (at x = 0 by convention).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    return np.where(x > 0, grad, np.zeros_like(grad))


@gradients_rounded_once
def silu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of silu: with s the sigmoid, s (1 + x (1 - s)).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    s = sigmoid(x)
    return grad * s * (1 + x * (1 - s))


@gradients_rounded_once
def softmax_vjp(grad: Array, x: Array) -> Array:
    """Gradient of softmax: y (g - sum(g y)), with y = softmax(x). Its rows sum to 0: a shift of x has no effect.

    Shapes: grad (B, T, N), x (B, T, N) -> (B, T, N)
    """
    y = softmax(x)
    return y * (grad - np.sum(grad * y, axis=-1, keepdims=True))


@gradients_rounded_once
def log_softmax_vjp(grad: Array, x: Array) -> Array:
    """Gradient of log_softmax: g - exp(log_softmax(x)) sum(g).

    Shapes: grad (B, T, N), x (B, T, N) -> (B, T, N)
    """
    return grad - exp(log_softmax(x)) * np.sum(grad, axis=-1, keepdims=True)


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


def dropout_vjp(grad: Array, x: Array, keep: Array | None, rate: float) -> Array:
    """Gradient of dropout: dropout of grad with the same mask.

    Shapes: grad (B, T, C), x (B, T, C), keep (B, T, C) bool optional -> (B, T, C)
    """
    return dropout(grad, keep, rate)


@gradients_rounded_once
def embedding_vjp(grad: Array, ids: Array, weight: Array) -> Array:
    """Gradient of the embedding's weight: each row sums the gradients of the tokens that looked it up.

    Shapes: grad (B, T, C), ids (B, T) int V, weight (V, C) -> (V, C)
    """
    d_weight = np.zeros_like(weight)
    np.add.at(d_weight, ids, grad)
    return d_weight


def unembedding_vjp(grad: Array, x: Array, weight: Array) -> Pair:
    """Gradients of unembedding: those of conv1d, with the weight transposed.

    Shapes: grad (B, T, V), x (B, T, C), weight (V, C) -> (B, T, C), (V, C)
    """
    rows, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    d_rows, d_turned = matmul_vjp(grads, rows, weight.T)
    return d_rows.reshape(x.shape), d_turned.T
