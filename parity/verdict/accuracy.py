"""Measure the accuracy of a backend's elementary functions, which its file accuracy.json declares."""

import numpy as np

from gpt2.backends import Backend, numpy_dtype

POINTS = 200_001
SUMS = np.unique(np.geomspace(2, 50_257, 400).astype(int))


def measure(backend: Backend) -> dict[str, float]:
    """Largest relative error of exp on [-20, 0] (by softmax), of sigmoid on [-20, 20] (by silu), of log (by the loss).

    An exp below e**-20 is lost beside float32's last place in a softmax, and so is its error. The loss of n equal
    scores is log(n), because exp(0) has hardly any error; n runs up to the size of GPT-2's vocabulary.
    """
    dtype = numpy_dtype(backend.dtype)
    x = np.linspace(-20, 0, POINTS).astype(dtype)
    weights = backend.call("ops.softmax", {"x": np.stack((np.zeros_like(x), x), axis=-1)[None]}).astype(np.float64)
    exp = weights[0, :, 1] / weights[0, :, 0]
    y = np.linspace(-20, 20, POINTS - 1).astype(dtype)  # an even number of points: none of them is 0
    sigmoid = backend.call("ops.silu", {"x": y[None, :, None]})[0, :, 0].astype(np.float64) / y
    wide = y.astype(np.float64)
    log = np.array([_loss_of_equal_scores(backend, int(count), dtype) for count in SUMS])
    return {
        "exp": float(np.abs(exp / np.exp(x.astype(np.float64)) - 1).max()),
        "sigmoid": float(np.abs(sigmoid * (1 + np.exp(-wide)) - 1).max()),
        "log": float(np.abs(log / np.log(SUMS) - 1).max()),
    }


def _loss_of_equal_scores(backend: Backend, count: int, dtype: np.dtype) -> float:
    logits, labels = np.zeros((1, 1, count), dtype), np.zeros((1, 1), np.int64)
    return float(backend.call("ops.cross_entropy", {"logits": logits, "labels": labels}))
