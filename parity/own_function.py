"""Judge one function of somebody's own, in Python: what `gpt2 check FUNCTION --with FILE.py:NAME` does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpt2.errors import GPT2Error
from parity.cases.contracts import contracts
from parity.cases.supports import UNKNOWN, Supports
from parity.check import SearchResult, check_at_its_cost, rules
from parity.diagnosis.diagnose import diagnose
from parity.ports.frameworks import framework as framework_of
from parity.ports.frameworks import guessed
from parity.ports.function_port import FunctionPort
from parity.ports.port import source_file
from parity.ports.source import PortSource


def check_function(
    target: Callable[..., Any],
    function: str,
    *,
    examples: int = 25,
    seed: int = 0,
    dtype: str = "float32",
    framework: str | None = None,
    supports: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> SearchResult:
    """Compare a function with that of the mirror, "attention.split_heads", on random cases.

    The result has `agrees`, `cases` and, of a failure, `failure`, `failing_case`, `blame` and `script`. framework:
    "numpy", "torch" or "mindspore", by default what the function's file imports. supports: as for a backend. names: the
    function's names of arguments, where they differ: {"x": "hidden_states"}.
    Raises GPT2Error for an unknown function or framework, or a target without an argument that cannot be left out.
    """
    if function not in contracts():
        raise GPT2Error(f"no function {function!r} in the mirror: its names are like 'attention.split_heads'")
    file = source_file(target) or Path()
    used = framework or (guessed(file) if file.is_file() else "numpy")
    place = f"{file}:{getattr(target, '__qualname__', type(target).__name__)}"
    source = PortSource(place, function, names=tuple(sorted((names or {}).items())))
    port = FunctionPort(source, target, framework_of(used), dtype, Supports.read(UNKNOWN | dict(supports or {})), file)
    rule = rules()[function]
    result = check_at_its_cost(rule, port, examples, seed)
    diagnose(rule, result, port, examples, seed)
    return result
