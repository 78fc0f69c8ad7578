"""GPT-2 in NumPy alone: the ground truth. Begin with forward.py, then read ops.py, attention.py, model.py."""

import importlib
from collections.abc import Callable
from typing import Any


def place(name: str) -> tuple[str, str]:
    """Return the module and the name of a function: ("gradients.ops", "softmax_vjp") for "ops.softmax_vjp".

    A gradient is named as if it stood in the file of its function, but it stands in gradients/.
    """
    file, function = name.split(".")
    return (f"gradients.{file}" if function.endswith("_vjp") else file), function


def find_function(name: str) -> Callable[..., Any]:
    """Return the function of that name, such as "ops.softmax" or "ops.softmax_vjp"."""
    module, function = place(name)
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)
