"""The elementary functions: the judge sees each once, under its name, and can put another value in its place."""

import inspect

import numpy as np
import pytest

from reference import elementary
from reference.stages import ELEMENTARY, observing

FUNCTIONS = {
    name: function
    for name, function in vars(elementary).items()
    if inspect.isfunction(function) and function.__module__ == elementary.__name__
}


def test_they_have_the_names_that_the_judge_knows() -> None:
    assert set(FUNCTIONS) == {name for name in ELEMENTARY if not name.startswith("rounding")}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_a_result_is_seen_once_and_can_be_replaced(name: str, dtype: str) -> None:
    x, seen = np.array([[0.5, 2.0, 0.25]], dtype), []

    def watch(stage: str, value: np.ndarray) -> np.ndarray:
        seen.append(stage)
        return 2 * value

    plain = FUNCTIONS[name](x)
    with observing(watch):
        moved = FUNCTIONS[name](x)
    assert seen == [name]
    assert plain.dtype == moved.dtype == np.dtype(dtype)
    assert (moved == 2 * plain).all()
