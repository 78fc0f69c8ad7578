"""Find the first wrong stage of a model. Each is computed from the reference's values, so that no error is inherited.

One run of the backend is enough: after every stage its result is recorded and then replaced by the reference's value.
So an error of a stage arose between the stage before it and itself.
"""

import ast
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reference
from gpt2.backends import Backend, numpy_dtype
from gpt2.errors import GPT2Error
from parity.cases.contracts import contracts
from parity.verdict import orbit
from parity.verdict.stages import STAGE_AXES, stage_references
from parity.verdict.steps import accuracy_of
from parity.verdict.verdict import Verdict
from reference.config import ACTIVATIONS, GPT2Config

Array = NDArray[Any]
SOURCES = Path(reference.__file__).parent
ABSENT = np.zeros(0)
REPEATS = 4


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: the verdict on it computed from the reference's values, and on it in the backend's normal run.

    after: the stage before it that the backend shows, if it does not show all between them; "" if it does. as_given:
    whether it came back, bit for bit, as it was given.
    """

    name: str
    alone: Verdict
    in_the_run: Verdict
    lines: tuple[str, ...]
    after: str = ""
    as_given: bool = False

    def explain(self) -> str:
        """The stage in words, with its source lines on both sides."""
        between = f" (it went wrong between {self.after} and here)" if self.after else ""
        return "\n".join([f"{self.name}: {self.alone.explain()}{between}", *self.lines])


def blame(
    backend: Backend,
    config: GPT2Config,
    parameters: Mapping[str, Array],
    ids: Array,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    most: int = orbit.SAMPLES,
) -> list[Stage]:
    """Judge every stage of a forward pass, in order; the first that is wrong by itself is to blame.

    Arguments as for stage_references. Stages that the backend does not show are left out. A backend whose model has a
    set `replaceable` is given those stages alone: an error of the others is inherited.
    Raises GPT2Error if it shows none of them.
    """
    dtype = numpy_dtype(backend.dtype)
    inputs = config, parameters, ids, attention_mask, position_ids
    free = stage_references(*inputs, dtype, accuracy_of(backend), most=most)
    model = backend.model(config, parameters)
    in_the_run = model.stages(ids, attention_mask, position_ids)
    # Of a stage that is replaced and not shown, nobody would see the error.
    fit = in_the_run.keys() & set(getattr(model, "replaceable", free))
    known_values = {name: reference.orbit[0] for name, reference in free.items() if name in fit}
    fed = stage_references(*inputs, dtype, accuracy_of(backend), known_values, most)
    alone = model.stages(ids, attention_mask, position_ids, known_values)
    shown = [name for name in free if name in alone or name in in_the_run]
    if not shown:
        raise GPT2Error(f"backend {backend.name!r} shows none of the stages of this model ({', '.join(free)})")
    names, found = list(free), []
    for last, name in zip([None, *shown], shown, strict=False):
        skipped = last is not None and names.index(name) - names.index(last) > 1
        own, run = fed[name].judge(alone.get(name, ABSENT)), free[name].judge(in_the_run.get(name, ABSENT))
        same = name in known_values and np.array_equal(alone.get(name, ABSENT), known_values[name], equal_nan=True)
        found.append(Stage(name, own, run, source_lines(backend, name), (last or "") if skipped else "", same))
    return found


def is_random(backend: Backend, config: GPT2Config, parameters: Mapping[str, Array], *inputs: Any) -> bool:
    """Whether a model gives other scores when it is asked for the same a second time. inputs: as for its stages."""
    model = backend.model(config, parameters)
    first, *others = (model.stages(*inputs) for _ in range(REPEATS))  # few numbers may be alike by chance
    return any(
        not np.array_equal(first[name], other.get(name, ABSENT), equal_nan=True) for other in others for name in first
    )


RANDOM = "the same input gives other numbers the second time: is dropout on, or are they drawn at random?"


def recorded_too_late(backend: Backend, stages: list[Stage]) -> str:
    """What to say if stages differ in the run and all of them come back exactly as given; "" if that is not so."""
    if all(stage.in_the_run.agrees for stage in stages) or not all(stage.as_given for stage in stages):
        return ""
    return (
        f"{backend.name} returns every stage exactly as it was given: it records a stage after it has replaced it. "
        "Record it before."
    )


def first_wrong(stages: list[Stage]) -> Stage | None:
    """The stage to blame; None if all agree."""
    return next((stage for stage in stages if not stage.alone.agrees), None)


def source_lines(backend: Backend | None, name: str) -> tuple[str, ...]:
    """Where the reference and the backend compute a stage ("h.0.attn.q") or a function, one line each.

    A function's name is that of its file below a folder of sources, and its own: "ops.softmax", "optim.AdamW.state".
    A backend names the folder of its files in an attribute `sources`; without one, there is only the reference's line.
    In a copy of our sources, the original's line is shown as well if it is another.
    """
    sources = getattr(backend, "sources", None)
    own = [] if sources is None else [SOURCES.parent / Path(sources).name, Path(sources)]
    return tuple(line for line in dict.fromkeys(_find(folder, name) for folder in [SOURCES, *own]) if line)


def _find(folder: Path, name: str) -> str:
    role = re.sub(r"^h\.\d+\.", "", name)
    if role in STAGE_AXES or role.removeprefix("mlp.") in ACTIVATIONS:
        leaf, file = role.rpartition(".")[2], "attention.py" if role.startswith("attn.") else "model.py"
        stage = re.escape("{name}" if leaf in ACTIVATIONS else leaf)
        pattern = rf'\(f?"(\{{at\}}\.)?{stage}", |\b{stage}=\w'  # observe(f"{{at}}.q", ...), observe_each(at, q=...)
        numbers = (number for number, line in enumerate(_lines(folder / file), start=1) if re.search(pattern, line))
        return _shown(folder / file, next(numbers, 0), folder.parent)
    steps = ".".join(reference.place(name)).split(".") if name in contracts() else name.split(".")
    for path in ([folder.name, *steps], steps):
        for count in range(len(path), 0, -1):
            file_path = folder.parent.joinpath(*path[:count]).with_suffix(".py")
            if file_path.is_file():
                return _shown(file_path, _first_line(file_path, path[count:]), folder.parent)
    return ""


def _first_line(path: Path, steps: list[str]) -> int:
    """The number of the line that begins a function or method, "AdamW", "state", in a file; 0 if there is none."""
    number, body = 1, ast.parse("\n".join(_lines(path))).body
    for step in steps:
        named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == step]
        if not named:
            return 0
        number, body = named[0].lineno, named[0].body
    return number


def _shown(path: Path, number: int, root: Path) -> str:
    """A line of a file with its place; "" for line 0."""
    return f"  {path.relative_to(root).as_posix()}:{number}: {_lines(path)[number - 1].strip()}" if number else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
