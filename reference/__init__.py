"""GPT-2 in NumPy alone: the ground truth. Begin with forward.py, then read ops.py, attention.py, model.py."""

import importlib
from collections.abc import Callable
from typing import Any


def place(name: str) -> tuple[str, str]:
    """The module and the name in it of a function of the mirror: ("gradients.ops", "softmax_vjp") of "ops.softmax_vjp".

    Gradients are named as if they stood beside their functions, but stand in gradients/.
    """
    file, function = name.split(".")
    return (f"gradients.{file}" if function.endswith("_vjp") else file), function


def find_function(name: str) -> Callable[..., Any]:
    """The function of the mirror that has that name, "ops.softmax" or "ops.softmax_vjp"."""
    module, function = place(name)
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
