"""Equivalent forms of an input: unordered axes are permuted in all arrays at once, and the results permuted back.

In exact arithmetic nothing changes; in floating point the sums run in another order. The spread is the rounding noise.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from parity.cases.cases import Case, axis_factors, is_axes
from parity.cases.contracts import UNORDERED, Axes
from parity.verdict.verdict import ulp
from reference.stages import ELEMENTARY

Array = NDArray[Any]
Permutations = dict[str, NDArray[np.int64]]
# Members of an orbit: enough that the largest distance is not small by chance, even if a result has few elements.
MEMBERS, SAMPLES = 8, 64
# Stages that are sums without being an op: a bias or the residual stream is added, and the result rounded.
SUMS = ("embeddings", "qkv", "c_fc", "c_proj", "linear", "attn_residual", "mlp_residual")


def permutations(case: Case, member: int) -> Permutations:
    """One permutation for each unordered letter; those of member 0 change nothing."""
    random = np.random.default_rng([case.seed, member])
    letters = [letter for letter in UNORDERED if letter in case.sizes]
    return {
        letter: random.permutation(case.sizes[letter]) if member else np.arange(case.sizes[letter])
        for letter in letters
    }


def members(elements: int) -> int:
    """How many members an orbit needs when the result has that many elements."""
    return max(MEMBERS, min(SAMPLES, -(-SAMPLES // max(elements, 1))))


def permute(tree: Any, axes: Any, case: Case, chosen: Permutations) -> Any:
    """The tree of arrays with every axis permuted as its letters say."""
    return _walk(tree, axes, lambda x, letters: _permute_axes(x, letters, case, chosen))


def undo(tree: Any, axes: Any, case: Case, chosen: Permutations) -> Any:
    """Undo `permute`."""
    return permute(tree, axes, case, {letter: np.argsort(order) for letter, order in chosen.items()})


def _walk(tree: Any, axes: Any, function: Callable[[Array, Axes], Any]) -> Any:
    if axes is None:
        return tree
    if is_axes(axes):
        return function(tree, axes)
    if isinstance(axes, dict):
        return {key: _walk(tree[key], value, function) if key in tree else None for key, value in axes.items()}
    walked = [_walk(branch, value, function) for branch, value in zip(tree, axes, strict=True)]
    return walked if isinstance(tree, list) else tuple(walked)


def _permute_axes(x: Array, axes: Axes, case: Case, chosen: Permutations) -> Array:
    shape = x.shape
    for i, axis in enumerate(axes):
        letters = axis.split("*")
        if chosen.keys().isdisjoint(letters):
            continue
        split = x.reshape(*shape[:i], *axis_factors(axis, case.sizes), *shape[i + 1 :])
        for j, letter in enumerate(letters):
            if letter in chosen:
                split = np.take(split, chosen[letter], axis=i + j)
        x = split.reshape(shape)
    return x


def inexact(accuracy: Mapping[str, float], case: Case, member: int) -> Callable[[str, Any], Any]:
    """An observer that gives the reference the errors of a correct implementation; member 0 gets none.

    Elementary functions and means move by up to one unit in the last place, as those of any library do, and by the
    relative error that the backend declares, up or down at random. The result of an op or a sum is rounded up or down
    at random, because permutations alone would often give the same numbers: small cases have few orders of summation,
    and in 16 bits, sums computed in float32 are the same in any order.
    Source: Parker 1997, Monte Carlo Arithmetic.
    """
    random = np.random.default_rng([case.seed, member, 1])

    def move(name: str, x: Any) -> Any:
        if not member:
            return x
        if name.startswith("rounding."):  # not rounded yet: it will be, to the nearest number of that dtype
            unit = ulp(x, numpy_dtype(name.removeprefix("rounding.")))
            return (x + unit * random.uniform(-0.5, 0.5, x.shape)).astype(x.dtype)
        if name == "rounding" or name.rpartition(".")[2] in SUMS:  # another library may have rounded it the other way
            return (x + _unit(x) * random.uniform(-1.0, 1.0, x.shape)).astype(x.dtype)
        if name in ELEMENTARY:
            moved = x + _unit(x) * random.uniform(-1.0, 1.0, x.shape)
            return (moved * (1 + accuracy.get(name, 0.0) * random.choice((-1.0, 1.0), x.shape))).astype(x.dtype)
        return x

    return move


def _unit(x: Any) -> Any:
    """A unit in the last place, but no step across 0: 0 is exact, and a mean of squares must not become negative."""
    return np.minimum(ulp(x, x.dtype), np.abs(x))
