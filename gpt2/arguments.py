"""Checks of arguments at the public interface, and the errors they raise."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2.errors import GPT2Error

Array = NDArray[Any]
LANGUAGES = ("en", "zh")  # of pages, notebooks and tables


def integers(name: str, value: ArrayLike) -> Array:
    """The value as an int64 array. Raises GPT2Error if it is ragged, or holds anything but integers below 2**63."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise GPT2Error(
            f"{name} must be a rectangle of integers: pad shorter rows on the left, and mask the pads"
        ) from error
    if array.dtype.kind in "US":
        raise GPT2Error(f"{name} must be integers, but are text: model.encode(text) makes ids of it")
    if array.size and array.dtype.kind not in "biu":
        raise GPT2Error(f"{name} must be integers below 2**63, but are {array.dtype}")
    converted = array.astype(np.int64)
    if (converted < 0).any() and array.dtype.kind == "u":
        raise GPT2Error(f"{name} must be integers below 2**63, but one is {array.max()}")
    return converted


def in_range(name: str, array: Array, end: int, what: str) -> None:
    """Raise GPT2Error unless every element lies between 0 and end - 1."""
    wrong = array[(array < 0) | (array >= end)]
    if wrong.size:
        raise GPT2Error(f"{name}: {wrong[0]} is outside {what}: expected 0 to {end - 1}")


def is_number(value: object) -> bool:
    """Whether value is an integer or a float, NumPy's included. A bool does not count."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_integer(value: object, end: int, start: int = 0) -> bool:
    """Whether value is an integer from start to end - 1, NumPy's included. A bool does not count."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and start <= int(value) < end


def require(name: str, value: Any, holds: Any, expected: str) -> None:
    """Raise GPT2Error, naming the argument, unless `holds` is true."""
    if not holds:
        shown = repr(value)
        raise GPT2Error(f"{name} must be {expected}, but is {shown if len(shown) <= 100 else shown[:100] + '...'}")


def is_finite(x: Array) -> bool:
    """Whether no number is NaN or infinite. Source: minimum and maximum pass NaN on, and need no memory."""
    if not x.size:
        return True
    with np.errstate(invalid="ignore"):  # a warning of ml_dtypes' minimum
        return bool(np.isfinite(np.array([x.min(), x.max()], np.float64)).all())
