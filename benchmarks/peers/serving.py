"""The server for client.py: the functions of a module as the subject of a peer. It needs NumPy and what they need.

A request names a function of the module's FUNCTIONS. It gets arrays by name, and other arguments; its answer is a dict
of values and a dict of arrays.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Answer = tuple[dict[str, Any], Arrays]
Function = Callable[..., Answer]


class Functions:
    """The subject."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self.named = {function.__name__: function for function in (*functions, peak_memory)}

    def answer(self, request: str, arrays: Arrays, arguments: dict[str, Any]) -> Answer:
        """What the function of that name returns."""
        return self.named[request](arrays, **arguments)


def peak_memory(arrays: Arrays) -> Answer:
    """Peak memory of this process in bytes; None if the system does not report it (only Linux does)."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return {"bytes": peaks[0] if peaks else None}, {}


def make(root: str, module: str, arguments: Sequence[str]) -> Functions:
    """The functions of a module of the repository, which finds these arguments in sys.argv."""
    sys.path.insert(0, root)
    sys.argv = [module, *arguments]
    return Functions(importlib.import_module(module).FUNCTIONS)
