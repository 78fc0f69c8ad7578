"""Calls that compute in 16 bits within a model whose parameters are float32: no error by itself, but worth a look."""

import dataclasses

from parity.recorded.recording import Call, RecordedRun, RecordedTensor, is_float, tensors
from parity.recorded.runs.names import kind_of

WIDE, NARROW = "float32", ("float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class LowerPrecision:
    """The forward calls that were given numbers of a narrower dtype than the model's, in the order of the run."""

    dtype: str
    calls: tuple[Call, ...]


def lower_precision(run: RecordedRun) -> list[LowerPrecision]:
    """What computes in float16 or bfloat16 within a float32 model; nothing for a model of another or of mixed dtype.

    Operators, or modules where no operator was recorded. A call that only turns numbers back into float32 is none.
    """
    if {x.dtype for x in _parameters(run)} != {WIDE}:
        return []
    forward = [call for call in run.calls if not call.is_backward]
    operators = [call for call in forward if not call.is_module]
    found: dict[str, list[Call]] = {}
    for call in operators or forward:
        given = [x.dtype for x in tensors((call.arguments, call.keywords)) if is_float(x)]
        for dtype in NARROW:
            if dtype in given and not _widens(call):
                found.setdefault(dtype, []).append(call)
    return [LowerPrecision(dtype, tuple(calls)) for dtype, calls in found.items()]


def _parameters(run: RecordedRun) -> list[RecordedTensor]:
    """The parameters of all modules; without modules, the tables that rows are looked up in."""
    held = [x for call in run.calls for x in call.parameters.values() if is_float(x)]
    tables = (call for call in run.calls if kind_of(call.operator) == "embedding" and not call.is_backward)
    return held or [x for call in tables for x in tensors(call.arguments) if is_float(x)]


def _widens(call: Call) -> bool:
    """Whether it has one argument, and a result of its shape in float32."""
    given, results = (
        [(x.shape, x.dtype) for x in tensors(values)] for values in ((call.arguments, call.keywords), call.results)
    )
    return len(given) == 1 and results == [(given[0][0], WIDE)]
