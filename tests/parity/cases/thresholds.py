"""Sizes from which on the sources take another way: found in them, so that a new one is noticed."""

import ast
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

from parity.laws.decoder import UPDATED_AT_ONCE

ROOT = Path(__file__).parents[3]
SOURCES = ("reference/**/*.py", "ms_backend/**/*.py", "gpt2/backends/numpy_backend.py", "gpt2/generation/*.py")
# Checks of options, and rows of ids, which no case enlarges: what these compare, tests of their own draw.
NOT_SEARCHED = (
    "reference/config.py",
    "reference/data.py",
    "ms_backend/data.py",
    "gpt2/generation/config.py",
    "gpt2/generation/saved.py",
)
SMALL = 4  # shapes and axes are made of such numbers; cases of every rule are larger


@dataclasses.dataclass(frozen=True, order=True)
class Threshold:
    """A number in the sources with which a size may be compared; function "": outside of functions."""

    file: str
    function: str
    value: int


# The axes whose product is compared with it. A weight of the optimizer has more elements in a law of its own.
THRESHOLDS = {
    Threshold("reference/fast.py", "_product", 64): "B*T",
    Threshold("reference/fast.py", "gelu_new_fast", 1 << 16): "B*T*I",
    Threshold("reference/fast.py", "attend", 1 << 18): "H*T*N",
    Threshold("ms_backend/fast.py", "_product", 64): "B*T",
    Threshold("ms_backend/fast.py", "mlp_fast", 1 << 12): "B*T*I",
    Threshold("ms_backend/engine/runner.py", "bucket", 64): "T",
}
UPDATED_IN_PARTS = Threshold("reference/fast.py", "adamw_fast", UPDATED_AT_ONCE)
# How many compiled graphs, and models of how many parameters, are kept for later: no size of a case.
KEPT = (
    Threshold("ms_backend/engine/backend.py", "", 64),
    Threshold("ms_backend/engine/model.py", "", 16),
    Threshold("ms_backend/engine/model.py", "", 1 << 20),
)


def compared(axes: str, sizes: dict[str, int]) -> int:
    """The number of elements of those axes, "B*T"."""
    return math.prod(sizes[letter] for letter in axes.split("*"))


def thresholds() -> set[Threshold]:
    """Every integer above SMALL in the sources, constants such as 1 << 12 computed; not the defaults of arguments."""
    found = set()
    for file in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        name = file.relative_to(ROOT).as_posix()
        if name not in NOT_SEARCHED:
            found |= set(_numbers(ast.parse(file.read_text(encoding="utf-8")), name, ""))
    return found


def _numbers(tree: ast.AST, file: str, function: str) -> Iterator[Threshold]:
    for node in ast.iter_child_nodes(tree):
        value = _constant(node)
        if isinstance(node, ast.arguments):
            continue
        if value is None:
            inner = node.name if isinstance(node, ast.FunctionDef) else function
            yield from _numbers(node, file, inner)
        elif value > SMALL:
            yield Threshold(file, function, value)


def _constant(node: ast.AST) -> int | None:
    """The value of an integer, or of an expression of integers alone; None for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and None not in (_constant(node.left), _constant(node.right)):
        return eval(compile(ast.Expression(node), "<constant>", "eval"), {})
    return None
