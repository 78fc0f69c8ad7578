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
from parity.cases.contracts import contracts
from parity.verdict import orbit
from parity.verdict.stages import STAGE_AXES, stage_references
from parity.verdict.verdict import Reference, Verdict
from reference.config import ACTIVATIONS, GPT2Config

Array = NDArray[Any]
SOURCES = Path(reference.__file__).parent


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: the verdict on it computed from the reference's values, and on it in the backend's normal run."""

    name: str
    alone: Verdict
    in_the_run: Verdict
    lines: tuple[str, ...]

    def explain(self) -> str:
        """The stage in words, with its source lines on both sides."""
        return "\n".join([f"{self.name}: {self.alone.explain()}", *self.lines])


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

    Arguments as for stage_references. A stage that the backend does not return is wrong.
    """
    dtype = numpy_dtype(backend.dtype)
    inputs = config, parameters, ids, attention_mask, position_ids
    free = stage_references(*inputs, dtype, backend.accuracy, most=most)
    known_values = {name: reference.orbit[0] for name, reference in free.items()}
    fed = stage_references(*inputs, dtype, backend.accuracy, known_values, most)
    model = backend.model(config, parameters)
    alone = model.stages(ids, attention_mask, position_ids, known_values)
    in_the_run = model.stages(ids, attention_mask, position_ids)
    return [
        Stage(name, _judge(fed[name], alone, name), _judge(free[name], in_the_run, name), source_lines(backend, name))
        for name in free
    ]


def first_wrong(stages: list[Stage]) -> Stage | None:
    """The stage to blame; None if all agree."""
    return next((stage for stage in stages if not stage.alone.agrees), None)


def _judge(known: Reference, values: Mapping[str, Array], name: str) -> Verdict:
    return known.judge(values[name] if name in values else np.zeros(0))


def source_lines(backend: Backend, name: str) -> tuple[str, ...]:
    """Where the reference and the backend compute a stage ("h.0.attn.q") or a function, one line each.

    A function's name is that of its file below a folder of sources, and its own: "ops.softmax", "optim.AdamW.state".
    A backend names the folder of its files in an attribute `sources`; without it, there is only the reference's line.
    A copy of our sources has a line of the original as well.
    """
    sources = getattr(backend, "sources", None)
    own = [] if sources is None else [SOURCES.parent / Path(sources).name, Path(sources)]
    found = (_find(folder, name) for folder in dict.fromkeys([SOURCES, *own]))
    return tuple(line for line in found if line)


def _find(folder: Path, name: str) -> str:
    role = re.sub(r"^h\.\d+\.", "", name)
    leaf = role.rpartition(".")[2]
    if role in STAGE_AXES or role.removeprefix("mlp.") in ACTIVATIONS:
        file = "attention" if role.startswith("attn.") else "model"
        stage = re.escape("{name}" if leaf in ACTIVATIONS else leaf)
        # observe(f"{at}.q", ...), observe_each(at, q=...)
        return _line(folder, f"{file}.py", 1, rf'\(f?"(\{{at\}}\.)?{stage}", |\b{stage}=\w')
    steps = ".".join(reference.place(name)).split(".") if name in contracts() else name.split(".")
    for start in (folder, folder.parent):
        for count in range(len(steps), 0, -1):
            path = start.joinpath(*steps[:count]).with_suffix(".py")
            if path.is_file():
                return _line(start, path.relative_to(start).as_posix(), *_definition(path, steps[count:]))
    return ""


def _definition(path: Path, steps: list[str]) -> tuple[int, str]:
    """The line from which a function or method stands in a file, and a pattern for its beginning."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    first = 1
    for step in steps:
        named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == step]
        if not named:
            return 1, r"(?!)"
        first, body = named[0].lineno, named[0].body
    return first, ""


def _line(folder: Path, file: str, first: int, pattern: str) -> str:
    """The first line of a file, from line `first` on, that has the pattern, with its place; "" if there is none."""
    path = folder / file
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines[first - 1 :], start=first):
        if re.search(pattern, line):
            return f"  {folder.name}/{file}:{number}: {line.strip()}"
    return ""
