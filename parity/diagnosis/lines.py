"""Which line of a port leaves the reference: the first that computes what the reference nowhere does.

The port runs on the failing case line by line. Every array that a line gives to a variable, and every result, is
compared with all that the reference's functions return on the same case, in whatever layout.
"""

import dataclasses
import linecache
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reference
from parity.check import Rule, agrees, draw_for
from parity.verdict import orbit
from parity.verdict.steps import accuracy_of
from parity.verdict.trial import Trial, as_float64, leaves
from parity.verdict.verdict import Reference
from reference.stages import observing

Array = NDArray[Any]
SOURCES = str(Path(reference.__file__).parent)
FLOAT32_BYTES = 4
NEAR = 6  # values: queries, keys and values of one attention are made one after the other
MOST_LINES = 3  # that are named
DRAWN = 40  # cases, among which one is looked for in which little is alike by chance
# Below this a score is a hidden one's; and by how much lower than the highest one has no weight in any dtype.
HIDDEN, NO_WEIGHT = -1e30, 200.0


@dataclasses.dataclass(frozen=True)
class Value:
    """An array that a line of the port gave to a variable, or returned (""). step: how many lines had run before."""

    line: int
    variable: str
    array: Array
    step: int


@dataclasses.dataclass(frozen=True)
class Raised:
    """Where a port raised an exception: the numbers of its lines to show, and why these."""

    numbers: list[int]
    why: str


def wrong_line(rule: Rule, trial: Trial) -> str:
    """The line in words, for a case that breaks a rule; "" for a backend that is not a port with a file of its own."""
    file = getattr(trial.backend, "file", None)
    if file is None or not trial.case.contract.outputs:
        return ""
    values, lines, raised = port_values(trial, file)
    if raised:
        return _shown(file, raised.numbers, raised.why)
    if trial.dtype.itemsize < FLOAT32_BYTES:
        return ""  # in 16 bits the reference rounds in more places than in float64
    for other in _telling(rule, trial):
        told = port_values(other, file)
        if told[2] is None:  # the case has raised nothing
            trial, (values, lines, _) = other, told
            break
    known = reference_values(trial)
    if not values:
        return ""
    # How far in the reference's computation each value stands; -1: it never computes it.
    places = [min(known_places(value.array, known, trial.dtype), default=-1) for value in values]
    last = max((i for i in range(len(places)) if places[i] > max(places[:i], default=-1)), default=-1)
    passed_over = [i for i in range(last) if places[i] < 0 and _is_one_of_three(i, values, places)]
    unknown = [*passed_over, *(i for i in range(last + 1, len(values)) if places[i] < 0)]
    if not unknown and trial.case.contract.function.startswith(("engine.", "model.language_model")):
        return ""  # the file builds a model whose layers are written elsewhere
    if not unknown:
        steps = range(values[last].step, min(values[last].step + 2, len(lines)))
        why = "every value is one that the reference computes too, but this is not its result"
    else:
        value = values[unknown[0]]
        steps_before = [values[i].step for i in range(unknown[0]) if places[i] >= 0 and values[i].step < value.step]
        before = max(steps_before, default=value.step - 1)
        steps = range(max(before + 1, value.step - MOST_LINES + 1), value.step + 1)
        named = f"`{value.variable}`" if value.variable else "what it returns"
        why = f"{named} is the first value that leaves the reference's computation"
    return _shown(file, [lines[step] for step in steps], why)


def _shown(file: Path, numbers: list[int], why: str) -> str:
    """Lines of a port, each once, and why they are shown."""
    shown = [f"  {file.name}:{n}: {linecache.getline(str(file), n).strip()}" for n in dict.fromkeys(numbers)]
    return "\n".join([*shown, f"    {why}"])


def _telling(rule: Rule, trial: Trial) -> Iterator[Trial]:
    """Failing cases with several tokens, heads and channels, where few numbers are alike by chance."""
    cases = draw_for(rule, trial.backend, DRAWN)
    several = [case for case in cases if all(case.sizes[letter] > 1 for letter in "THD")]
    several.sort(key=lambda case: len({case.sizes[letter] for letter in "BTHDC"}), reverse=True)
    others = (Trial(dataclasses.replace(case, regime="live"), trial.backend) for case in several)
    return (other for other in others if not agrees(rule, other))


def _is_one_of_three(i: int, values: list[Value], places: list[int]) -> bool:
    """Whether a value that is not known is one of queries, keys and values, and another of them is known."""

    def is_one(j: int) -> bool:
        return values[j].variable[:1] in tuple("qkv") and values[j].array.shape == values[i].array.shape

    near = range(max(i - NEAR, 0), min(i + NEAR, len(values)))
    others = [j for j in near if is_one(j) and values[j].variable != values[i].variable]
    again = any(values[j].variable == values[i].variable and places[j] >= 0 for j in range(i, len(values)))
    return is_one(i) and not again and any(places[j] >= 0 for j in others)


def port_values(trial: Trial, file: Path) -> tuple[list[Value], list[int], Raised | None]:
    """The arrays in the variables of a port's functions, as its lines give them, and the numbers of all lines run.

    And where an exception was raised, if there was one.
    """
    found: list[Value] = []
    lines: list[int] = []
    framework = getattr(trial.backend, "framework", None)
    array = framework.array if framework is not None else lambda x: x

    def arrays(frame: FrameType) -> dict[str, Array]:
        named = {name: array(x) for name, x in list(frame.f_locals.items()) if not isinstance(x, dict | list | str)}
        return {name: x for name, x in named.items() if _is_floats(x)}

    def watch(frame: FrameType) -> Any:
        before, at = arrays(frame), -1

        def note(line: int, variable: str, x: Array) -> None:
            if not np.isin(x, (0, 1)).all():  # a mask
                found.append(Value(line, variable, x, at))

        def step(_: FrameType, event: str, argument: Any) -> Any:
            nonlocal before, at
            now = arrays(frame)
            for name, x in now.items():
                if at >= 0 and (name not in before or not np.array_equal(x, before[name], equal_nan=True)):
                    note(lines[at], name, x)
            if event == "return" and at >= 0:
                for x in filter(_is_floats, map(array, leaves(argument, trial.dtype))):
                    note(lines[at], "", x)
            if event == "line":
                at = len(lines)
                lines.append(frame.f_lineno)
            before = now
            return step

        return step

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        return watch(frame) if Path(frame.f_code.co_filename) == file else None

    previous = sys.gettrace()
    sys.settrace(enter)
    try:
        trial.run()
    except Exception as error:  # whatever the port raises, and what is said of its results
        frames = traceback.extract_tb(error.__traceback__)
        inside = [frame.lineno or 0 for frame in frames if Path(frame.filename) == file]
        if inside:
            return found, lines, Raised(inside[-1:], "an exception is raised here")
        return found, lines, Raised(lines[-1:], "this is the last line before the exception")
    finally:
        sys.settrace(previous)
    return found, lines, None


def reference_values(trial: Trial) -> list[Reference]:
    """Everything that functions of the reference return when they compute a trial, and its arguments."""
    accuracy, case = accuracy_of(trial.backend), trial.case
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


def known_places(x: Array, known: list[Reference], dtype: np.dtype) -> list[int]:
    """The places of the references with which an array agrees, as it is or with axes exchanged or merged.

    The same numbers in the same shape, but in another order, are not known. A hidden score may have any low number.
    """
    x = x.astype(dtype)
    alike = [(place, each) for place, each in enumerate(known) if each.oracle.size == x.size]
    found = [place for place, each in alike if each.oracle.shape == x.shape and _agrees(each, x)]
    forms = [x.transpose(axes) for axes in EXCHANGES if x.ndim == 4]
    for form in (form for form in forms if form.shape != x.shape):
        found += [place for place, each in alike if each.oracle.shape == form.shape and _agrees(each, form)]
    if found:
        return found
    in_order = np.sort(x, axis=None)
    same = [(place, each) for place, each in alike if each.then(lambda y: np.sort(y, axis=None)).judge(in_order).agrees]
    return [] if any(each.oracle.shape == x.shape for _, each in same) else [place for place, _ in same]


def _agrees(known: Reference, x: Array) -> bool:
    """Whether an array agrees; where the reference hides a score, it is only to be so low that it has no weight."""
    hidden = known.oracle < HIDDEN
    if not hidden.any() or hidden.all():
        return known.judge(x).agrees
    highest = np.where(hidden, -np.inf, x).max(axis=-1, keepdims=True)
    return known.only(~hidden).judge(np.where(hidden, known.orbit[0], x)).agrees and bool(
        (np.where(hidden, x, -np.inf) < highest - NO_WEIGHT).all()
    )
