"""The operations GPT-2 is made of. B batch, T tokens, C channels, N outputs, V vocabulary; `...` any leading axes.

`rounded_once` and `as_low_as` are for 16-bit dtypes: an op computes in float32 and rounds its result once, as
accelerators do, and an affine map runs in the dtype of its weight. exp, tanh, log, erf, sigmoid and mean come from
elementary.py, where the judge can read and change their results.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.elementary import erf, exp, log, mean, sigmoid, tanh
from reference.precision import as_low_as, rounded_once

Array = NDArray[Any]
Pair = tuple[Array, Array]


@rounded_once
def matmul(a: Array, b: Array) -> Array:
    """Matrix product over the last two axes.

    Shapes: a (B, T, C), b (B, C, N) -> (B, T, N)
    """
    return np.matmul(a, b)


def conv1d(x: Array, weight: Array, bias: Array) -> Array:
    """Affine map of the last axis, x @ weight + bias; GPT-2 calls it conv1d and stores the weight as (in, out).

    It runs in the dtype of the weight, as mixed precision requires.
    Shapes: x (B, T, C), weight (C, N), bias (N) -> (B, T, N)
    Source: `conv1d` in GPT-2's model.py.
    """
    rows = as_low_as(x, weight).reshape(-1, weight.shape[0])  # one product for all positions of the batch
    return (matmul(rows, weight) + bias).reshape(*x.shape[:-1], weight.shape[1])


@rounded_once
def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    """Shift and scale each row to mean 0 and variance 1 (the biased variance), then apply gain and bias.

    Shapes: x (B, T, C), weight (C), bias (C) -> (B, T, C)
    Source: Ba et al. 2016, equation 4; `norm` in GPT-2's model.py.
    """
    centred = x - mean(x)
    variance = (centred * centred).sum(axis=-1, keepdims=True) / x.shape[-1]  # no mean(): the judge changes that one
    return centred / np.sqrt(variance + eps) * weight + bias


@rounded_once
def gelu_new(x: Array) -> Array:
    """GPT-2's GELU, the tanh form: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, section 2; `gelu` in GPT-2's model.py.
    """
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))  # x**3 is 100 times slower
    return 0.5 * x * (1 + tanh(inner))


@rounded_once
def gelu(x: Array) -> Array:
    """GELU itself, x times the normal distribution function: x/2 (1 + erf(x / sqrt 2)).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, equation 1.
    """
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


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
    return x * sigmoid(x)


@rounded_once
def softmax(x: Array) -> Array:
    """Exponentials of each row, divided by their sum; the row's maximum is subtracted first, so nothing overflows.

    Shapes: x (B, T, N) -> (B, T, N)
    """
    weights = exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


@rounded_once
def log_softmax(x: Array) -> Array:
    """Logarithm of softmax: x - log(sum(exp(x))); the row's maximum is subtracted first.

    Shapes: x (B, T, N) -> (B, T, N)
    """
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - log(exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy(logits: Array, labels: Array, ignore_index: int = -100) -> Array:
    """The loss: mean of -log softmax(logits)[label] over all labels that are not ignore_index; 0 if there are none.

    PyTorch returns NaN if no label is scored; one such micro-batch would spoil a whole training run. The loss is at
    least float32, because it sums many small numbers.
    Shapes: logits (B, T, V), labels (B, T) labels V -> ()
    """
    scored = labels != ignore_index
    wide = logits.astype(np.promote_types(logits.dtype, np.float32))
    chosen = np.take_along_axis(log_softmax(wide), np.where(scored, labels, 0)[..., None], axis=-1)[..., 0]
    return _mean_surprise(chosen, scored)


@rounded_once
def _mean_surprise(log_probabilities: Array, scored: Array) -> Array:
    count = np.array(max(scored.sum(), 1), log_probabilities.dtype)
    return -np.sum(np.where(scored, log_probabilities, 0)) / count


def dropout(x: Array, keep: Array | None, rate: float) -> Array:
    """x / (1 - rate) where keep is True, 0 elsewhere: on average, x. Without keep, x itself.

    The caller draws keep, True with probability 1 - rate, so that both implementations can get the same mask.
    Shapes: x (B, T, C), keep (B, T, C) bool optional -> (B, T, C)
    Source: Srivastava et al. 2014, section 10 (scaled at training time).
    """
    return x if keep is None else _thin_out(x, keep, rate)


@rounded_once
def _thin_out(x: Array, keep: Array, rate: float) -> Array:
    return np.where(keep, x / (1 - rate), np.zeros_like(x))


def embedding(ids: Array, weight: Array) -> Array:
    """Rows of weight, looked up by id; ids from 0 to V - 1 (not checked here: NumPy lets -1 mean the last row).

    Shapes: ids (B, T) int V, weight (V, C) -> (B, T, C)
    Raises IndexError for an id of V or more.
    """
    return weight[ids]


def unembedding(x: Array, weight: Array) -> Array:
    """Score of every row of weight: its dot product with x.

    Shapes: x (B, T, C), weight (V, C) -> (B, T, V)
    """
    return matmul(x, weight.T)
