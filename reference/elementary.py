"""exp, log, tanh, sigmoid, erf and mean as the ops use them: where the judge looks into an op.

Every library computes them a little differently, in the last digits. `observe` shows each result to the judge, who can
move it by as much as another library may differ, and sees what that does to the op. This file has no twin: there, the
library's own functions are called.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.stages import observe

Array = NDArray[Any]


def exp(x: Array) -> Array:
    """e to the power of x."""
    return observe("exp", np.exp(x))


def log(x: Array) -> Array:
    """The natural logarithm."""
    return observe("log", np.log(x))


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return observe("tanh", np.tanh(x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by the exponential of -|x|, which cannot overflow."""
    decay = np.exp(np.where(x >= 0, -x, x))
    return observe("sigmoid", np.where(x >= 0, 1, decay) / (1 + decay))


def erf(x: Array) -> Array:
    """The error function, which NumPy does not have.

    Of x + ih, with h tiny as in a complex step, erf(x) + ih erf'(x): Taylor's first two terms.
    """
    value = np.vectorize(math.erf, otypes=[np.float64])(x.real)
    if np.iscomplexobj(x):
        value = value + 1j * x.imag * (2 / math.sqrt(math.pi) * np.exp(-x.real * x.real))
    return observe("erf", value.astype(x.dtype))


def mean(x: Array) -> Array:
    """The mean of the last axis, which stays, with size 1."""
    return observe("mean", x.sum(axis=-1, keepdims=True) / x.shape[-1])  # what x.mean does, in half its time
