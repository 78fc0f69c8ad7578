"""Equivalent forms of an input: unordered axes are permuted in all arrays at once, and the results permuted back.

In exact arithmetic nothing changes; in floating point the sums run in another order. The spread is the rounding noise.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from parity.cases.cases import Case, axis_factors, is_axes
from parity.cases.contracts import UNORDERED, Axes
from parity.verdict.steps import EVERY_STEP, Steps, plain, steps
from parity.verdict.verdict import ulp
from reference.stages import ELEMENTARY, WIDENED

Array = NDArray[Any]
FLOAT64 = np.dtype(np.float64)
Permutations = dict[str, NDArray[np.int64]]
# Members of an orbit, at least and at most: more if a result has few elements, so that the largest distance is not
# small by chance. FEWEST: of a first look, which settles what differs by much less than is allowed.
FEWEST, MEMBERS, SAMPLES = 2, 8, 64
# Arrays, because NumPy takes longer for numbers, and an orbit is made of millions of small operations.
ONES = {np.dtype(x): np.array(x(1)) for x in (np.float32, np.float64)}
# The largest numbers that have a next one.
LARGEST = {np.dtype(x).char: np.array(np.nextafter(np.finfo(x).max, x(0))) for x in (np.float32, np.float64)}
# In an accuracy: how far a sigmoid errs from which tanh is made.
BY_SIGMOID = "tanh by sigmoid"
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


def members(results: Iterable[Array], most: int = SAMPLES) -> int:
    """How many members an orbit needs, more where a result has few numbers that can err; no more than `most`.

    What is cut off or masked is 0, and cannot: of two numbers that a softmax leaves, both err to the same side in every
    other member, and then their shares do not change.
    """
    fewest = min((int(np.count_nonzero(x)) or x.size for x in results), default=1)
    return min(most, max(MEMBERS, min(SAMPLES, -(-SAMPLES // max(fewest, 1)))))


def permute(tree: Any, axes: Any, case: Case, chosen: Permutations) -> Any:
    """The tree of arrays with every axis permuted as its letters say."""
    orders = _Orders(case.sizes, chosen)
    return _walk(tree, axes, lambda x, letters: _permute_axes(x, letters, orders))


def undo(tree: Any, axes: Any, case: Case, chosen: Permutations) -> Any:
    """Undo `permute`."""
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
    """An observer that gives the reference the errors of a correct implementation; member 0 gets none.

    Elementary functions and means move by up to one unit in the last place, as those of any library do, and by the
    relative error that the backend declares, up or down at random. The result of an op or a sum is rounded up or down
    at random, because permutations alone would often give the same numbers: small cases have few orders of summation,
    and in 16 bits, sums computed in float32 are the same in any order. Every other member rounds a 16-bit op after each
    step, if the accuracy names EVERY_STEP.
    Source: Parker 1997, Monte Carlo Arithmetic.

    A sigmoid moves by up to a unit in the last place of numbers just below 1, however small it is.
    Proof: sigmoid(x) = (1 + tanh(x / 2)) / 2, in which libraries compute it (XLA does). Far below 0 the tanh is near -1
    and errs by a unit there, the sum is exact, and half of it errs by half that unit; elsewhere the sum rounds by as
    much again. So 1 + tanh of a GELU, that the reference writes so itself, may be 0 where the GELU is not: in float32
    below -5, and in 16 bits below -3 if the tanh is rounded to them. It is no convention to be declared: the tanh moves
    by a unit, or is rounded, in some member, and 0 is within 3 times what that makes of the result.

    BY_SIGMOID: tanh(x) = 2 sigmoid(2x) - 1, so a sigmoid that errs by e times itself errs by e (1 + tanh(x)) there.
    """
    if not member:
        return lambda name, x: x
    random = np.random.default_rng([case.seed, member, 1])
    each_step = member % 2 == 1 and EVERY_STEP in accuracy
    factors = {name: 1 + accuracy[name] * np.array([-1.0, 1.0]) for name in ELEMENTARY if accuracy.get(name)}

    def move(name: str, x: Any) -> Any:
        kind = _kind(name)
        if kind is None:
            return x
        if kind == WIDENED:
            return steps(x, numpy_dtype(name.removeprefix(WIDENED)), random) if each_step else x
        if isinstance(x, Steps) and kind in ("sum", "elementary"):
            x = x.rounded(x)
            return x.rounded(_sigmoid_moved(plain(x), x.rounds_to, random)) if name == "sigmoid" else x
        x, dtype = plain(x), x.dtype
        if kind not in ("sum", "elementary"):  # a 16-bit dtype: it will be rounded to the nearest of its numbers
            return (x + ulp(x, numpy_dtype(kind)) * (random.random(x.shape) - 0.5)).astype(dtype)
        if name == "sigmoid":
            x = _sigmoid_moved(x, dtype, random)
        size = np.abs(x)
        unit = np.minimum(_spacing(size), size)  # no step across 0: 0 is exact, no mean of squares negative
        step = random.random(x.shape, FLOAT64 if name in factors or dtype not in ONES else dtype)
        step = np.multiply(np.subtract(np.add(step, step), ONES[step.dtype]), unit)  # from -1 to 1 of it
        moved = np.add(x, step)
        if name in factors:
            moved = np.multiply(moved, factors[name].take(random.integers(0, 2, x.shape)))
        if name == "tanh" and BY_SIGMOID in accuracy:
            moved = moved + accuracy[BY_SIGMOID] * (1 + x) * random.choice([-1.0, 1.0], x.shape)
        return moved.astype(dtype, copy=False)

    return move


def _sigmoid_moved(x: Array, dtype: np.dtype, random: np.random.Generator) -> Array:
    """The sigmoid moved by up to a unit in the last place of numbers just below 1, but not across 0."""
    moved = x + (2 * random.random(x.shape) - 1) * ulp(np.array(0.5), dtype)
    return np.where(x > 0, np.maximum(moved, 0), x).astype(x.dtype)


@functools.cache  # a forward pass has few names, and this is asked for at every step
def _kind(name: str) -> str | None:
    """How a stage may move: as a "sum", as an "elementary" function, as what a 16-bit dtype rounds, or not at all.

    WIDENED: it is what a 16-bit op begins with.
    """
    if name.startswith(WIDENED):
        return WIDENED
    if name.startswith("rounding."):
        return name.removeprefix("rounding.")
    if name == "rounding" or name.rpartition(".")[2] in SUMS:
        return "sum"  # another library may have rounded it the other way
    return "elementary" if name in ELEMENTARY else None


def _spacing(size: Array) -> Array:
    """`ulp` in the dtype of the sizes themselves, which are not negative: in NumPy's own way, where it has one."""
    largest = LARGEST.get(size.dtype.char)
    return ulp(size, size.dtype) if largest is None else np.spacing(np.minimum(size, largest))
