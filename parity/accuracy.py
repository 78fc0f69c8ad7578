"""Measure how accurate a backend's elementary functions are: what the file accuracy.json of a backend declares."""

import numpy as np

from gpt2.backends import Backend, numpy_dtype

POINTS = 200_001


def measure(backend: Backend) -> dict[str, float]:
    """Largest relative error of exp on [-20, 0] (as softmax computes it) and of sigmoid on [-20, 20] (as silu does).

    Where an exp is below e**-20 its share of a softmax is beyond float32's last place, and its error with it.
    """
    dtype = numpy_dtype(backend.dtype)
    x = np.linspace(-20, 0, POINTS).astype(dtype)
    weights = backend.call("ops.softmax", {"x": np.stack((np.zeros_like(x), x), axis=-1)[None]}).astype(np.float64)
    exp = weights[0, :, 1] / weights[0, :, 0]
    y = np.linspace(-20, 20, POINTS - 1).astype(dtype)  # an even number of points: none of them is 0
    sigmoid = backend.call("ops.silu", {"x": y[None, :, None]})[0, :, 0].astype(np.float64) / y
    wide = y.astype(np.float64)
    return {
        "exp": float(np.abs(exp / np.exp(x.astype(np.float64)) - 1).max()),
        "sigmoid": float(np.abs(sigmoid * (1 + np.exp(-wide)) - 1).max()),
    }
