"""The rule for functions of anybody's, in place of an `rtol`: `assert_agrees`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.verdict import orbit
from parity.verdict.trial import as_float64, leaves
from parity.verdict.verdict import Reference

Array = NDArray[Any]
# Two float64 results of one formula, as a share of the largest number: a wrong symmetry differs by far more.
FLOAT64_ALIKE = 2.0**-26


def assert_agrees(
    found: Any,
    reference_function: Callable[..., Any],
    inputs: Mapping[str, Any],
    permute: Mapping[str, str] | None = None,
    result: str = "",
    seed: int = 0,
) -> None:
    """Raise AssertionError, with the judge's words, unless a result agrees with a NumPy function's on these inputs.

    The function is called with the inputs by name: in float64, which is the truth, and in the inputs' own dtype with
    axes in another order; the largest error of these runs is the rounding noise of this input. Allowed are 3 times the
    noise + 4 ulp.

    found: the result to judge, an array or a tuple of arrays, in the inputs' dtype. permute: the axes of each input,
    separated by spaces, with a letter where they have no order, as those that are summed over, and a dot where they
    have: {"x": ". . C", "weight": "C N"}; result: those of the result, ". . N", of several separated by commas. An axis
    with the same letter is put in the same order everywhere.
    Raises ValueError if the function does change with the order of such an axis.
    """
    axes = {name: tuple(spec.split()) for name, spec in (permute or {}).items()}
    _require_axes(axes, inputs)
    out = [tuple(spec.split()) for spec in result.split(",")] if result else []
    wide = {name: as_float64(x) for name, x in inputs.items()}
    random, dtype = np.random.default_rng(seed), _dtype(inputs)
    exact = [np.asarray(x) for x in leaves(reference_function(**wide), np.dtype(np.float64))]
    members = [[np.asarray(x) for x in leaves(reference_function(**inputs), dtype)]]
    for _ in range(orbit.SAMPLES - 1 if axes else 0):
        orders = _orders(axes, inputs, random)
        again = _run(reference_function, wide, axes, out, orders, np.dtype(np.float64))
        for x, y in zip(exact, again, strict=True):
            allowed = FLOAT64_ALIKE * np.abs(x).max(initial=0)
            if x.shape != y.shape or np.abs(x - y).max(initial=0) > allowed:
                letters = ", ".join(orders)
                raise ValueError(f"the function changes with the order of {letters}: write a dot for these axes")
        members.append(_run(reference_function, dict(inputs), axes, out, orders, dtype))
    values = [np.asarray(x) for x in leaves(found, dtype)]
    if len(values) != len(exact):
        raise AssertionError(f"{len(values)} results, expected {len(exact)}")
    for value, oracle, *runs in zip(values, exact, *members, strict=True):
        verdict = Reference(oracle, runs).judge(value)
        if not verdict.agrees:
            raise AssertionError(verdict.explain())


def _require_axes(axes: Mapping[str, tuple[str, ...]], inputs: Mapping[str, Any]) -> None:
    for name, letters in axes.items():
        if name not in inputs or np.ndim(inputs[name]) != len(letters):
            shape = np.shape(inputs[name]) if name in inputs else "no such input"
            raise ValueError(f"permute[{name!r}] names {len(letters)} axes, but there is {shape}")


def _dtype(inputs: Mapping[str, Any]) -> np.dtype:
    floats = [x.dtype for x in inputs.values() if isinstance(x, np.ndarray) and x.dtype.kind not in "iub"]
    return floats[0] if floats else np.dtype(np.float32)


def _orders(axes: Mapping[str, tuple[str, ...]], inputs: Mapping[str, Any], random: Any) -> dict[str, Array]:
    """A random order for every letter."""
    sizes = {
        letter: size
        for name, letters in axes.items()
        for letter, size in zip(letters, np.shape(inputs[name]), strict=True)
    }
    return {letter: random.permutation(size) for letter, size in sizes.items() if letter != "."}


def _run(
    function: Callable[..., Any],
    inputs: dict[str, Any],
    axes: Mapping[str, tuple[str, ...]],
    result: list[tuple[str, ...]],
    orders: Mapping[str, Array],
    dtype: np.dtype,
) -> list[Array]:
    """The results on inputs whose axes are in those orders, with their own axes back in the old order."""
    permuted = {name: _ordered(x, axes.get(name, ()), orders) for name, x in inputs.items()}
    back = {letter: np.argsort(order) for letter, order in orders.items()}
    found = [np.asarray(x) for x in leaves(function(**permuted), dtype)]
    specs = [*result, *[()] * len(found)]
    return [_ordered(x, letters, back) for x, letters in zip(found, specs, strict=False)]


def _ordered(x: Any, letters: tuple[str, ...], orders: Mapping[str, Array]) -> Any:
    for axis, letter in enumerate(letters):
        if letter in orders:
            x = np.take(x, orders[letter], axis)
    return x
