"""The activations that few folders of GPT-2 name, on MindSpore. Twin of reference/activations.py."""

import math

import mindspore as ms
from mindspore import Tensor, ops

from ms_backend.ops import gelu, gelu_new, relu, silu  # noqa: F401 (the model asks here for all by their names)


def quick_gelu(x: Tensor) -> Tensor:
    """GELU with a logistic sigmoid in place of the normal distribution function: x sigmoid(1.702 x)."""
    wide = x.astype(ms.float32)
    return (wide * ops.sigmoid(1.702 * wide)).astype(x.dtype)


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + exp(x)))."""
    wide = x.astype(ms.float32)
    # ops.mish is 0 below -17, where this has all its digits; ops.exp errs by 2e-5 below -40, ops.pow by a tenth of it
    positive, e = wide >= 0, ops.pow(math.e, -ops.abs(wide))
    part = ops.where(positive, 1 + 2 * e, e * (e + 2))
    return (wide * part / (part + 2 * ops.where(positive, e * e, ops.ones_like(e)))).astype(x.dtype)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    near = ops.clip_by_value(x.astype(ms.float32), -20.0, 20.0)  # cosh overflows at 89; tanh(10) is 1 in float32
    return (ops.sinh(near) / ops.cosh(near)).astype(x.dtype)  # ops.tanh is off by 1e-4 near 5


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function, 1 / (1 + exp(-x))."""
    return ops.sigmoid(x.astype(ms.float32)).astype(x.dtype)


def leaky_relu(x: Tensor) -> Tensor:
    """x where it is above 0, else x / 100."""
    wide = x.astype(ms.float32)
    return ops.where(wide > 0, wide, 0.01 * wide).astype(x.dtype)


def relu2(x: Tensor) -> Tensor:
    """The square of relu: x^2 where x is above 0, else 0."""
    positive = ops.relu(x.astype(ms.float32))
    return (positive * positive).astype(x.dtype)


def linear(x: Tensor) -> Tensor:
    """x itself."""
    return x
