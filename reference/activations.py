"""The activations that few folders of GPT-2 name; the usual ones are those of ops.py, which can be had from here too.

Names are those of Hugging Face transformers' activations.py. reference/config.py lists them all.
"""

import numpy as np

from reference import elementary
from reference.ops import Array, gelu, gelu_new, relu, silu  # noqa: F401 (the model asks here for all by their names)
from reference.precision import rounded_once


@rounded_once
def quick_gelu(x: Array) -> Array:
    """GELU with a logistic sigmoid in place of the normal distribution function: x sigmoid(1.702 x).

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Hendrycks and Gimpel 2016, section 2.
    """
    return x * elementary.sigmoid(1.702 * x)


@rounded_once
def mish(x: Array) -> Array:
    """x tanh(log(1 + exp(x))).

    With e = exp(-abs(x)) the tanh is (1 + 2e) / (1 + 2e + 2e^2), or e (e + 2) / (e (e + 2) + 2) for negative x: no
    overflow, and no digits are lost.
    Shapes: x (B, T, C) -> (B, T, C)
    Source: Misra 2019, equation 1.
    """
    positive = x >= 0
    e = elementary.exp(np.where(positive, -x, x))
    part = np.where(positive, 1 + 2 * e, e * (e + 2))
    return x * part / (part + 2 * np.where(positive, e * e, 1))


@rounded_once
def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    Shapes: x (B, T, C) -> (B, T, C)
    """
    return elementary.tanh(x)


@rounded_once
def sigmoid(x: Array) -> Array:
    """The logistic function, 1 / (1 + exp(-x)).

    Shapes: x (B, T, C) -> (B, T, C)
    """
    return elementary.sigmoid(x)


@rounded_once
def leaky_relu(x: Array) -> Array:
    """x where it is above 0, else x / 100.

    Shapes: x (B, T, C) -> (B, T, C)
    Source: Maas et al. 2013, section 2.
    """
    return np.where(x > 0, x, 0.01 * x)


@rounded_once
def relu2(x: Array) -> Array:
    """The square of relu: x^2 where x is above 0, else 0.

    Shapes: x (B, T, C) -> (B, T, C)
    Source: So et al. 2021, section 3.1.
    """
    positive = np.maximum(x, 0)
    return positive * positive


def linear(x: Array) -> Array:
    """x itself.

    Shapes: x (B, T, C) -> (B, T, C)
    """
    return x
