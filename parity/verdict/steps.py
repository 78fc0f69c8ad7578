"""16-bit arithmetic that rounds after every step, as NumPy and PyTorch do in a formula that is written out.

The reference computes a 16-bit op in float32 and rounds once, as the kernels of accelerators do. On arrays of this
class the same lines of the reference round everywhere.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from parity.cases.supports import Supports
from parity.verdict.verdict import ulp

Array = NDArray[Any]
EVERY_STEP = "every step"


def accuracy_of(backend: Any) -> Mapping[str, float]:
    """The accuracy that a backend declares; with EVERY_STEP, how far each step errs, if it rounds each to 16 bits."""
    declared: Mapping[str, float] = backend.accuracy
    dtype = numpy_dtype(backend.dtype)
    if dtype.itemsize > 2 or not Supports.of(backend).every_step:
        return declared
    return {**declared, EVERY_STEP: float(ulp(np.array(1.0), dtype)) / 2}


class Steps(np.ndarray):
    """float32 numbers that a 16-bit dtype has: every result of NumPy's functions is rounded to such, up or down.

    Up or down at random, the nearer one more often: another formula rounds elsewhere. What the dtype has stays.
    Source: Croci et al. 2022, Stochastic rounding, section 2.
    """

    rounds_to: np.dtype
    random: np.random.Generator

    def __array_finalize__(self, other: Any) -> None:
        if isinstance(other, Steps):
            self.rounds_to, self.random = other.rounds_to, other.random

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        """The result of a function of NumPy's, rounded."""
        if "out" in named:
            named["out"] = tuple(plain(x) for x in named["out"])
        found = getattr(ufunc, method)(*map(plain, inputs), **named)
        return self.rounded(found) if isinstance(found, np.ndarray | np.generic) else found

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        """The result of a function that is no ufunc, such as np.where, which returns an array of NumPy's own."""
        found = super().__array_function__(function, types, args, named)
        return self.rounded(found) if type(found) is np.ndarray else found

    def rounded(self, x: Any) -> Any:
        """The numbers as one of these arrays, if they are floats; others unchanged."""
        x = np.asarray(plain(x))
        if x.dtype == object:  # of a function that is vectorised: floats later
            return steps(x, self.rounds_to, self.random)
        if x.dtype.kind != "f":
            return x
        with np.errstate(all="ignore"):  # beyond the largest number is infinity
            moved = x + ulp(x, self.rounds_to) * (self.random.random(x.shape) - 0.5)
            return steps(moved.astype(self.rounds_to).astype(x.dtype), self.rounds_to, self.random)


def steps(x: Array, dtype: np.dtype, random: np.random.Generator) -> Steps:
    """An array, whose numbers the 16-bit dtype has, as one of Steps."""
    found = x.view(Steps)
    found.rounds_to, found.random = dtype, random
    return found


def plain(x: Any) -> Any:
    """An array of Steps as one of NumPy's own; anything else unchanged."""
    return x.view(np.ndarray) if isinstance(x, Steps) else x
