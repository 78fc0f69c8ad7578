"""Shrink the numbers of a failing input: those not needed for the failure become zero, the others get short.

Hypothesis has shrunk the sizes before. After this, a script reproduces the failure.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import Backend
from parity import time_limits
from parity.check import Rule
from parity.verdict.trial import Arguments, Memory, Trial, decide

Array = NDArray[Any]
# What a wrong implementation may raise on a valid input.
BREAKDOWNS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
ATTEMPTS = 600  # the most inputs to try: each costs an orbit of the reference


def shrink(rule: Rule, trial: Trial, correct: Backend, attempts: int = ATTEMPTS) -> Trial:
    """The trial with as few non-zero numbers as still break the rule, each as short as possible.

    correct: an implementation that must still keep the rule, so that the search does not end in rounding noise. After
    the time of a step, the numbers are as they are by then: a law may call a slow backend a hundred times on one.
    """
    budget, plain, begun = itertools.count(), breaks(rule, trial, plain=True), time.monotonic()
    memory: Memory = {}  # shared: the reference runs once per input
    broken, right = (Trial(trial.case, backend, memory) for backend in (trial.backend, correct))

    def fails(arguments: Arguments) -> bool:
        if next(budget) >= attempts or time.monotonic() - begun > time_limits.of_a_step():
            return False
        fails = breaks(rule, with_only(broken, arguments), plain=plain)
        return fails and not breaks(rule, with_only(right, arguments))

    arguments = trial.arguments
    for simplify in (_zeros, _zero_slices, _zero_elements, _zero_slices, _zero_elements, _short_numbers):
        arguments = _simplify(arguments, simplify, fails)
    return with_only(trial, arguments)


def with_only(trial: Trial, arguments: Arguments) -> Trial:
    """The trial with exactly these arguments."""
    absent = dict.fromkeys(set(trial.arguments) - set(arguments))
    return trial.with_arguments(**absent, **arguments)


def breaks(rule: Rule, trial: Trial, breakdown: bool = False, plain: bool = False) -> bool:
    """Whether a rule is broken; with `plain`, by far more than rounding.

    breakdown: the answer if the backend raises an error on the input.
    """
    try:
        return any(verdict.is_plain if plain else not verdict.agrees for verdict in decide(rule.judge, trial))
    except BREAKDOWNS:
        return breakdown


def nonzero(arguments: Arguments) -> int:
    """How many non-zero floats the arguments hold."""
    return sum(int(np.count_nonzero(x)) for _, x in _floats(arguments))


Path = tuple[Any, ...]
Fails = Callable[[Array], bool]


def _simplify(
    arguments: Arguments, simplify: Callable[[Array, Fails], Array], fails: Callable[[Arguments], bool]
) -> Arguments:
    """Simplify each array of floats in turn, as far as it still fails."""
    for path, x in list(_floats(arguments)):
        simpler = simplify(x, lambda y, at=path, rest=arguments: fails(_replace(rest, at, y)))  # type: ignore[misc]
        arguments = _replace(arguments, path, simpler)
    return arguments


def _zeros(x: Array, fails: Fails) -> Array:
    return np.zeros_like(x) if x.any() and fails(np.zeros_like(x)) else x


def _zero_slices(x: Array, fails: Fails) -> Array:
    for axis in range(x.ndim):
        for index in range(x.shape[axis]):
            x = _without(x, (slice(None),) * axis + (index,), fails)
    return x


def _zero_elements(x: Array, fails: Fails) -> Array:
    """Halves, quarters, ... down to single elements. Source: Zeller and Hildebrandt 2002, delta debugging."""
    size = max(x.size // 2, 1)
    while size:
        places = np.argwhere(x)
        for start in range(0, len(places), size):
            x = _without(x, tuple(places[start : start + size].T), fails)
        size //= 2
    return x


def _without(x: Array, where: Any, fails: Fails) -> Array:
    if not np.any(x[where]):
        return x
    simpler = x.copy()
    simpler[where] = 0
    return simpler if fails(simpler) else x


def _short_numbers(x: Array, fails: Fails) -> Array:
    """Replace a number by 1, the nearest power of two, or a number of three bits: the first that still fails."""
    for where in map(tuple, np.argwhere(x)):
        fraction, exponent = np.frexp(float(x[where]))
        for short in (
            np.sign(fraction),
            *(np.ldexp(np.round(fraction * 2**bits) / 2**bits, exponent) for bits in (1, 3)),
        ):
            simpler = x.copy()
            simpler[where] = short
            if (simpler == x).all() or fails(simpler):
                x = simpler
                break
    return x


def _floats(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Array]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _floats(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from _floats(value, (*path, i))
    elif isinstance(tree, np.ndarray) and tree.dtype.kind not in "iub":
        yield path, tree


def _replace(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(tree, dict):
        return tree | {key: _replace(tree[key], tuple(rest), value)}
    return type(tree)(_replace(x, tuple(rest), value) if i == key else x for i, x in enumerate(tree))
