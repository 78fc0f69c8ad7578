"""How much the elementary functions of a framework err: measured where they run, against NumPy in float64."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from gpt2.backends.protocol import Array
from reference import elementary

# Where elementary functions are measured: exp below e**-20 is lost in a softmax, and so is its error; log is that of a
# sum of up to GPT-2's vocabulary.
RANGES = {"exp": (-20.0, 0.0), "sigmoid": (-20.0, 20.0), "tanh": (-20.0, 20.0), "erf": (-20.0, 20.0), "log": (2, 5e4)}
POINTS = 100_000  # an even number: none of them is 0
# What stands inside of an activation x (1 + f(inner(x))) / 2, by the name of f: its kernel may have another f, as that
# of PyTorch on CPUs, whose erf errs ten times as much as torch.erf. From x = 1 on, 1 + f has digits enough to tell.
INSIDE: dict[str, tuple[str, Callable[[Array], Array]]] = {
    "erf": ("gelu", lambda x: x / math.sqrt(2)),
    "tanh": ("gelu_new", lambda x: math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
}
# A function of that name on an array; None if the framework has none.
Named = Callable[[str, Array], Array | None]


def measured_errors(
    function: Named, activation: Named, ranges: Mapping[str, tuple[float, float]] = RANGES
) -> dict[str, float]:
    """Largest relative error in float32, on these ranges, of elementary functions, alone or inside of an activation."""
    found = {}
    for name, (low, high) in ranges.items():
        x = np.linspace(low, high, POINTS).astype(np.float32)
        value = function(name, x)
        if value is not None:
            found[name] = float(np.abs(value / getattr(elementary, name)(x.astype(np.float64)) - 1).max())
    for name, (kernel, inner) in INSIDE.items():
        x = np.concatenate([sign * np.linspace(1, 20, POINTS) for sign in (-1, 1)]).astype(np.float32)
        value = activation(kernel, x)
        if value is not None:
            wide = x.astype(np.float64)
            inside = 2 * value.astype(np.float64) / wide - 1
            error = float(np.abs(inside / getattr(elementary, name)(inner(wide)) - 1).max())
            found[name] = max(found[name], error)
    return found
