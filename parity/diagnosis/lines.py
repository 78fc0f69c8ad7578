"""Which line of a port leaves the reference: the first that computes what the reference nowhere does.

The port runs on the failing case line by line. Every array that a line gives to a variable, and every result, is
compared with all that the reference's functions return on the same case, in whatever layout.
"""

import dataclasses
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reference
from parity.verdict import orbit
from parity.verdict.trial import Trial, as_float64, leaves
from parity.verdict.verdict import Reference
from reference.stages import observing

Array = NDArray[Any]
SOURCES = str(Path(reference.__file__).parent)
MOST_LINES = 3  # that are shown


@dataclasses.dataclass(frozen=True)
class Value:
    """An array that a line of the port gave to a variable, or returned ("")."""

    line: int
    variable: str
    array: Array


def wrong_line(trial: Trial) -> str:
    """The line in words; "" for a backend that is not a port with a file of its own, or if no line can be named."""
    file = getattr(trial.backend, "file", None)
    if file is None or not trial.case.contract.outputs:
        return ""
    values, known = port_values(trial, file), reference_values(trial)
    right = [is_known(value.array, known, trial.dtype) for value in values]
    last = max((i for i, known_one in enumerate(right) if known_one), default=-1)
    siblings = [i for i in range(last) if not right[i] and _is_passed_over(i, values, right)]
    blamed = siblings[0] if siblings else last + 1
    if blamed >= len(values):
        return ""
    value = values[blamed]
    before = [each.line for each, good in zip(values[:blamed], right[:blamed], strict=True) if good]
    named = f"`{value.variable}`" if value.variable else "what it returns"
    up_to = f"; up to line {before[-1]} they agree" if before and before[-1] < value.line else ""
    first = before[-1] + 1 if up_to else value.line
    lines = [(number, linecache.getline(str(file), number).strip()) for number in range(first, value.line + 1)]
    shown = [f"  {file.name}:{number}: {text}" for number, text in lines if text and not text.startswith("#")]
    return "\n".join([*shown[-MOST_LINES:], f"    {named} is the first value that the reference never computes{up_to}"])


def _is_passed_over(i: int, values: list[Value], right: list[bool]) -> bool:
    """Whether a value that is not known has the shape of its neighbours on both sides, which are, as one of q, k, v.

    An unknown value on the way to a known one is no fault: the reference has other intermediate results.
    """
    same = [j for j in range(len(values)) if values[j].array.shape == values[i].array.shape and right[j]]
    again = any(values[j].line == values[i].line or values[j].variable == values[i].variable for j in same if j > i)
    return bool(same) and values[same[-1]].variable in "qkv" and values[i].variable in "qkv" and not again


def port_values(trial: Trial, file: Path) -> list[Value]:
    """The arrays in the variables of a port's functions, as its lines give them, in order."""
    found: list[Value] = []
    array = trial.backend.framework.array  # type: ignore[attr-defined]

    def arrays(frame: FrameType) -> dict[str, Array]:
        named = {name: array(x) for name, x in list(frame.f_locals.items()) if not isinstance(x, dict | list | str)}
        return {name: x for name, x in named.items() if isinstance(x, np.ndarray) and x.dtype.kind not in "iub"}

    def watch(frame: FrameType) -> Any:
        before, line = arrays(frame), frame.f_lineno

        def step(_: FrameType, event: str, argument: Any) -> Any:
            nonlocal before, line
            if event == "exception":
                return step
            now = arrays(frame)
            for name, x in now.items():
                if name not in before or not np.array_equal(x, before[name], equal_nan=True):
                    found.append(Value(line, name, x))
            if event == "return":
                found.extend(Value(frame.f_lineno, "", x) for x in _floats(argument, array))
            before, line = now, frame.f_lineno
            return step

        return step

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        return watch(frame) if Path(frame.f_code.co_filename) == file else None

    previous = sys.gettrace()
    sys.settrace(enter)
    try:
        trial.run()
    except Exception:  # then the last line is to blame
        return found
    finally:
        sys.settrace(previous)
    return found


def _floats(tree: Any, array: Any) -> Iterator[Array]:
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from _floats(branch, array)
    else:
        x = array(tree)
        if isinstance(x, np.ndarray) and x.dtype.kind not in "iub":
            yield x


def reference_values(trial: Trial) -> list[Reference]:
    """Everything that functions of the reference return when they compute a trial, and its arguments."""
    accuracy, case = trial.backend.accuracy, trial.case
    oracle = _returned(trial, as_float64(trial.arguments), lambda name, x: x)
    members = [
        _returned(trial, trial.arguments, orbit.inexact(accuracy, case, member)) for member in range(orbit.MEMBERS)
    ]
    return [Reference(exact, list(run)) for exact, *run in zip(oracle, *members, strict=False)]


def _returned(trial: Trial, arguments: dict[str, Any], move: Any) -> list[Array]:
    found = [x for x in leaves(arguments, trial.dtype) if _is_floats(x)]

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code.co_filename.startswith(SOURCES):
            found.extend(x for x in leaves(argument, trial.dtype) if _is_floats(x))

    previous = sys.getprofile()
    with observing(move), np.errstate(all="ignore"):
        sys.setprofile(note)
        try:
            trial.case.contract.target(**arguments)
        finally:
            sys.setprofile(previous)
    return found


def _is_floats(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


# How axes may be exchanged: heads after tokens, keys turned for a product.
EXCHANGES = ((0, 2, 1, 3), (0, 1, 3, 2), (0, 2, 3, 1))


def is_known(x: Array, known: list[Reference], dtype: np.dtype) -> bool:
    """Whether an array agrees with one of the references, with axes exchanged or merged.

    The same numbers in the same shape, but in another order, are not known.
    """
    x = x.astype(dtype)
    forms = [x, *(x.transpose(axes) for axes in EXCHANGES if x.ndim == 4)]
    alike = [each for each in known if each.oracle.size == x.size]
    if any(form.shape == each.oracle.shape and each.judge(form).agrees for each in alike for form in forms):
        return True
    in_order = np.sort(x, axis=None)
    same_numbers = [each for each in alike if each.then(lambda y: np.sort(y, axis=None)).judge(in_order).agrees]
    return bool(same_numbers) and not any(each.oracle.shape == x.shape for each in same_numbers)
