"""The other end of client.py: a process that answers. Needs NumPy alone, so it runs in any environment.

A request is one JSON object on a line of stdin: "request" names a function, "arrays" and "answer" are .npz files to
read from and to write to, the rest are arguments. The answer is one JSON line; {"error": ...} if it failed.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Answer = tuple[dict[str, Any], Arrays]
Function = Callable[..., Answer]


def serve(functions: Iterable[Function]) -> None:
    """Answer every line of stdin on stdout, which nobody else may write to: what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    named = {function.__name__: function for function in (*functions, peak_memory)}
    for line in sys.stdin:
        try:
            answer = _respond(named, **json.loads(line))
        except Exception as error:  # whatever it is, the one who asked is told, and may ask again
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _respond(
    functions: dict[str, Function], request: str, arrays: str, answer: str, **arguments: Any
) -> dict[str, Any]:
    """One answer: its fields; its arrays are written to the file `answer`."""
    with np.load(arrays) as file:
        fields, returned = functions[request](dict(file), **arguments)
    np.savez(answer, **returned)
    return fields


def peak_memory(arrays: Arrays) -> Answer:
    """The most memory that this process has held at once, in bytes; None where the system does not say (not Linux)."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return {"bytes": found[0] if found else None}, {}
