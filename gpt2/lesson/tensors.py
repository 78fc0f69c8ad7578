"""Pack arrays for the page: float32 in base64, with labels of the axes; of a large array only a sample."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Labels = Sequence[Any]  # labels along an axis: strings, or {"en": ..., "zh": ...}

MOST = {"H": 16, "T": 48, "S": 48, "V": 96}  # most elements shown along an axis
MOST_CHANNELS = 64
MOST_LAYERS = 12


def evenly(count: int, most: int) -> list[int]:
    """At most `most` numbers of range(count), evenly spaced, including the first and the last."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, most)).round()})


def base64_floats(x: Array) -> str:
    """The numbers as little-endian float32, in base64."""
    with np.errstate(over="ignore"):  # float64's mask value becomes infinite, and is still drawn as masked
        return base64.b64encode(np.ascontiguousarray(x).astype("<f4").tobytes()).decode()


def packed(x: Array, axes: Sequence[str], labels: Mapping[str, Labels] | None = None) -> dict[str, Any]:
    """Pack an array for the page. labels: the labels of an axis, by its letter, where they are not the prompt's tokens.

    In the result, "at" holds the indices shown along each axis, or None for all.
    """
    at: list[list[int] | None] = []
    shown, names = x, {}
    for axis, letter in enumerate(axes):
        places = evenly(x.shape[axis], MOST.get(letter, MOST_CHANNELS))
        whole = len(places) == x.shape[axis]
        at.append(None if whole else places)
        shown = shown if whole else shown.take(places, axis)
        if labels and letter in labels:
            names[letter] = [labels[letter][i] for i in places]
    return {
        "axes": list(axes),
        "shape": list(shown.shape),
        "full_shape": list(x.shape),
        "dtype": x.dtype.name,
        "at": at,
        "labels": names,
        "data": base64_floats(shown),
    }
