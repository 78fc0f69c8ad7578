"""The server for client.py: a process that answers requests. It only needs NumPy, so it runs in any environment.

A request is one JSON object on a line of stdin: "request" names a function, "arrays" and "answer" are the .npz files
to read and to write, other keys are arguments. The answer is one JSON line; {"error": ...} after a failure.
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
    """Answer every line of stdin on stdout; redirect anything that libraries print to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    named = {function.__name__: function for function in (*functions, peak_memory)}
    for line in sys.stdin:
        try:
            answer = _respond(named, **json.loads(line))
        except Exception as error:  # report any error to the client, which may continue
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _respond(
    functions: dict[str, Function], request: str, arrays: str, answer: str, **arguments: Any
) -> dict[str, Any]:
    """Compute one answer: return its fields, and write its arrays to the file `answer`."""
    with np.load(arrays) as file:
        fields, returned = functions[request](dict(file), **arguments)
    np.savez(answer, **returned)
    return fields


def peak_memory(arrays: Arrays) -> Answer:
    """Peak memory of this process in bytes; None if the system does not report it (only Linux does)."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return {"bytes": peaks[0] if peaks else None}, {}
