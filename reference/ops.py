"""The operations GPT-2 is made of. B batch, T tokens, C channels, N outputs, V vocabulary; `...` any leading axes."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.precision import rounded_once
from reference.stages import observe

Array = NDArray[Any]


@rounded_once
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes.

    Shapes: a (B, T, C), b (B, C, N) -> (B, T, N)
    """
    return np.matmul(a, b)


def conv1d(x: Array, weight: Array, bias: Array) -> Array:
    """Affine map of the last axis, x @ weight + bias; GPT-2 calls it conv1d and stores the weight as (in, out).

    Shapes: x (B, T, C), weight (C, N), bias (N) -> (B, T, N)
    Source: `conv1d` in GPT-2's model.py.
    """
    rows = x.reshape(-1, weight.shape[0])  # one product for all positions of the batch
    return (matmul(rows, weight) + bias).reshape(*x.shape[:-1], weight.shape[1])


@rounded_once
def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Shift and scale each row to mean 0 and variance 1 (the biased variance), then apply gain and bias.

    Shapes: x (B, T, C), weight (C), bias (C) -> (B, T, C)
    Source: Ba et al. 2016, equation 4; `norm` in GPT-2's model.py.
    """
    centred = x - observe("mean", x.mean(axis=-1, keepdims=True))
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


@rounded_once
def gelu_new(x: Array) -> Array:
    """GPT-2's GELU, the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, section 2; `gelu` in GPT-2's model.py.
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))  # x**3 is 100 times slower
    return 0.5 * x * (1 + observe("tanh", np.tanh(inner)))


@rounded_once
def gelu(x: Array) -> Array:
    """GELU itself, x times the normal distribution function: x/2 (1 + erf(x / sqrt 2)).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, equation 1.
    """
    return 0.5 * x * (1 + observe("erf", _erf(x / math.sqrt(2))))


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


@rounded_once
def silu(x: Array) -> Array:
    """x times its logistic sigmoid, also called swish: x / (1 + exp(-x)).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, section 2.
    """
    decay = np.exp(np.where(x >= 0, -x, x))  # of -|x|, which cannot overflow
    return x * observe("sigmoid", np.where(x >= 0, 1, decay) / (1 + decay))


@rounded_once
def softmax(x: Array) -> Array:
    """Exponentials of each row, divided by their sum; the row's maximum is taken off first, so nothing overflows.

    Shapes: x (B, T, N) -> (B, T, N)
    """
    weights = observe("exp", np.exp(x - x.max(axis=-1, keepdims=True)))
    return weights / weights.sum(axis=-1, keepdims=True)


def embedding(ids: Array, weight: Array) -> Array:
    """Rows of weight, looked up by id; ids from 0 to V - 1 (not checked here: NumPy lets -1 mean the last row).

    Shapes: ids (B, T) int V, weight (V, C) -> (B, T, C)
    Raises IndexError for an id of V or more.
    """
    return weight[ids]
