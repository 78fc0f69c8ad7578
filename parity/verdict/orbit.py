"""Equivalent forms of an input: unordered axes are permuted in all arrays at once, and the results permuted back.

In exact arithmetic nothing changes; in floating point the sums run in another order. The spread is the rounding noise.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from parity.cases.cases import Case, axis_factors, is_axes
from parity.cases.contracts import UNORDERED, Axes
from parity.verdict.verdict import MOST_MEMBERS, SAMPLES, ulp
from reference.stages import ELEMENTARY

Array = NDArray[Any]
Permutations = dict[str, NDArray[np.int64]]
MEMBERS = 8  # of an orbit, at least
# Stages that are sums without being an op: a bias or the residual stream is added, and the result rounded.
SUMS = ("embeddings", "qkv", "c_fc", "c_proj", "linear", "attn_residual", "mlp_residual")


def permutations(case: Case, member: int) -> Permutations:
    """One permutation for each unordered letter; those of member 0 change nothing."""
    letters = tuple((letter, case.sizes[letter]) for letter in UNORDERED if letter in case.sizes)
    return dict(_drawn_permutations(letters, case.seed, member))


@functools.lru_cache(maxsize=1024)  # a law asks for the orbit of one case many times
def _drawn_permutations(letters: tuple[tuple[str, int], ...], seed: int, member: int) -> Permutations:
    random = np.random.default_rng([seed, member])
    return {letter: random.permutation(size) if member else np.arange(size) for letter, size in letters}


def members(elements: int) -> int:
    """How many members an orbit needs when the result has that many elements."""
    return max(MEMBERS, min(MOST_MEMBERS, -(-SAMPLES // max(elements, 1))))


def permute(tree: Any, axes: Any, case: Case, chosen: Permutations) -> Any:
    """The tree of arrays with every axis permuted as its letters say."""
    orders = _Orders(case.sizes, chosen)
    return _walk(tree, axes, lambda x, letters: _permute_axes(x, letters, orders))


def undo(tree: Any, axes: Any, case: Case, chosen: Permutations) -> Any:
    """What permute has done, taken back."""
    return permute(tree, axes, case, {letter: np.argsort(order) for letter, order in chosen.items()})


class _Orders(dict[str, Any]):
    """Which entries of an axis, "C" or "3*H*D", stand where in the permuted one; None if all stay. Found when asked."""

    def __init__(self, sizes: dict[str, int], chosen: Permutations) -> None:
        super().__init__()
        self._sizes, self._chosen = sizes, chosen

    def __missing__(self, axis: str) -> Any:
        order = None
        letters = axis.split("*")
        if not self._chosen.keys().isdisjoint(letters):
            order = np.arange(math.prod(axis_factors(axis, self._sizes))).reshape(axis_factors(axis, self._sizes))
            for i, letter in enumerate(letters):
                if letter in self._chosen:
                    order = order.take(self._chosen[letter], i)
            order = order.ravel()
        self[axis] = order
        return order


def _walk(tree: Any, axes: Any, function: Callable[[Array, Axes], Any]) -> Any:
    if axes is None:
        return tree
    if is_axes(axes):
        return function(tree, axes)
    if isinstance(axes, dict):
        return {key: _walk(tree[key], value, function) if key in tree else None for key, value in axes.items()}
    walked = [_walk(branch, value, function) for branch, value in zip(tree, axes, strict=True)]
    return walked if isinstance(tree, list) else tuple(walked)


def _permute_axes(x: Array, axes: Axes, orders: _Orders) -> Array:
    for i, axis in enumerate(axes):
        order = orders[axis]
        if order is not None:
            x = x.take(order, i)
    return x


def inexact(accuracy: Mapping[str, float], case: Case, member: int) -> Callable[[str, Any], Any]:
    """An observer that lets the reference err as a correct implementation may; not for member 0.

    Elementary functions and means move by up to one unit in the last place, as those of any library do, and by the
    relative error that the backend declares, up or down at random. The result of an op or a sum is rounded up or down
    at random: in small cases there are few orders to sum in, and in 16 bits the sums, computed in float32, come out
    alike in any order; permutations alone would give the same numbers again and again.
    Source: Parker 1997, Monte Carlo Arithmetic.
    """
    random = np.random.default_rng([case.seed, member, 1])

    def move(name: str, x: Any) -> Any:
        if not member:
            return x
        kind = _kind(name)
        if kind is None:
            return x
        if isinstance(kind, np.dtype):  # not rounded yet: it will be, to the nearest number of that dtype
            return (x + ulp(x, kind) * random.uniform(-0.5, 0.5, x.shape)).astype(x.dtype)
        moved = x + _unit(x) * random.uniform(-1.0, 1.0, x.shape)
        if kind == "elementary" and accuracy.get(name):
            moved = moved * (1 + accuracy[name] * (2.0 * random.integers(0, 2, x.shape) - 1))
        return moved.astype(x.dtype)

    return move


@functools.cache
def _kind(name: str) -> Any:
    """What is moved at a stage: the dtype that is rounded to afterwards, "sum", "elementary", or None: nothing."""
    if name.startswith("rounding."):
        return numpy_dtype(name.removeprefix("rounding."))
    if name == "rounding" or name.rpartition(".")[2] in SUMS:  # rounded to the nearest: it may have gone either way
        return "sum"
    return "elementary" if name in ELEMENTARY else None


def _unit(x: Any) -> Any:
    """A unit in the last place, but no step across 0: that is exact, and a mean of squares must not fall below it."""
    size = np.abs(x)
    if x.dtype.kind != "f":  # bfloat16 is none of NumPy's own
        return np.minimum(ulp(x, x.dtype), size)
    # np.spacing is ulp, many times as fast; but it is infinite at the largest number, and NaN at infinity
    return np.minimum(np.fmin(np.spacing(size), _largest_unit(x.dtype)), size)


@functools.cache
def _largest_unit(dtype: np.dtype) -> Any:
    info = np.finfo(dtype)
    return dtype.type(2.0 ** (int(info.maxexp) - 1 - int(info.nmant)))
