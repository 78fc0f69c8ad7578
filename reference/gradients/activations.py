"""The gradients of activations.py, derived by hand, in the order of that file. ops.py here says what a vjp is."""

import numpy as np

from reference import elementary
from reference.gradients.ops import gelu_new_vjp, gelu_vjp, relu_vjp, silu_vjp  # noqa: F401 (as in that file)
from reference.ops import Array
from reference.precision import gradients_rounded_once


@gradients_rounded_once
def quick_gelu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of quick_gelu: with s = sigmoid(1.702 x), s (1 + 1.702 x (1 - s)).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    s = elementary.sigmoid(1.702 * x)
    return grad * s * (1 + 1.702 * x * (1 - s))


@gradients_rounded_once
def mish_vjp(grad: Array, x: Array) -> Array:
    """Gradient of mish: with t = tanh(log(1 + exp(x))), t + x (1 - t^2) sigmoid(x).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    t = elementary.tanh(np.logaddexp(x, np.zeros_like(x)))
    return grad * (t + x * (1 - t * t) * elementary.sigmoid(x))


@gradients_rounded_once
def tanh_vjp(grad: Array, x: Array) -> Array:
    """Gradient of tanh: with t = tanh(x), 1 - t^2.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    t = elementary.tanh(x)
    return grad * (1 - t * t)


@gradients_rounded_once
def sigmoid_vjp(grad: Array, x: Array) -> Array:
    """Gradient of sigmoid: with s = sigmoid(x), s (1 - s).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    s = elementary.sigmoid(x)
    return grad * s * (1 - s)


@gradients_rounded_once
def leaky_relu_vjp(grad: Array, x: Array) -> Array:
    """Gradient of leaky_relu: grad where x is above 0, else grad / 100 (at x = 0 by convention).

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    return np.where(x > 0, grad, 0.01 * grad)


@gradients_rounded_once
def relu2_vjp(grad: Array, x: Array) -> Array:
    """Gradient of relu2: 2 x where x is above 0, else 0.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    return grad * (2 * np.maximum(x, 0))


def linear_vjp(grad: Array, x: Array) -> Array:
    """Gradient of linear: grad.

    Shapes: grad (B, T, C), x (B, T, C) -> (B, T, C)
    """
    return grad
