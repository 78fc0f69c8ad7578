"""The judge must stay silent on correct pairs. Files of their own: a worker takes a file, and graphs take memory."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from gpt2.backends import get_backend
from parity.cases.contracts import contracts, engine_contracts
from parity.check import check_rule, rules

EVERY = list(contracts() | engine_contracts())
# Files whose functions compile in a tenth of a second, others take one or two: they are given more shapes.
QUICK = ("ops", "generate", "optim", "data")
SMALL = (*QUICK, "attention")
MORE = 25 if settings().max_examples > 100 else 1  # --hypothesis-profile=deep


def learns(function: str) -> bool:
    """Whether it is of gradients, updates or losses, which take longer; none are in 16 bits."""
    return rules()[function].learns or "loss" in function or "entropy" in function


def shapes(function: str, dtype: str) -> int:
    """How many shapes of a function are compiled, each for several cases."""
    if learns(function):
        return 1 if dtype == "float32" else 0
    quick = function.split(".")[0] in QUICK
    return (4 if dtype == "float32" else 2) if quick else 1


def on_every(*functions: str) -> Callable[[Any], Any]:
    """Run a test for each of the functions, all by default, by name."""
    return pytest.mark.parametrize("function", functions or EVERY)


def expect_silence(function: str, name: str, dtype: str, mode: str, examples: int, fillings: int | None = None) -> None:
    """No case of a function may be objected to, and so many are to be looked at."""
    if name == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    backend = get_backend(name, dtype=dtype, mode=mode)
    result = check_rule(rules()[function], backend, examples, fillings=fillings, closest=0)
    assert result.agrees, result.to_dict()
    assert result.cases >= examples


def expect_silence_of_graphs(function: str, dtype: str) -> None:
    """The same of compiled graphs; a thorough search looks at each shape once.

    What takes long to compile gets a single drawn shape, beside the large one, and as many numbers as two would have.
    """
    drawn = shapes(function, dtype)
    fillings = 8 if drawn == 1 and dtype == "float32" and not learns(function) else 4
    examples = fillings * drawn * MORE
    expect_silence(function, "mindspore", dtype, "graph", examples, fillings if MORE == 1 else 1)
