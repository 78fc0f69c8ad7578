"""Find the first wrong stage of a model. Each is computed from the reference's values, so that no error is inherited.

One run of the backend is enough: after every stage its result is recorded and then replaced by the reference's value.
So an error of a stage arose between the stage before it and itself.
"""

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
from parity.verdict.stages import stage_references
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
) -> list[Stage]:
    """Judge every stage of a forward pass, in order; the first that is wrong by itself is to blame.

    Arguments as for stage_references. A stage that the backend does not return is wrong.
    """
    dtype = numpy_dtype(backend.dtype)
    inputs = config, parameters, ids, attention_mask, position_ids
    free = stage_references(*inputs, dtype, backend.accuracy)
    known_values = {name: reference.orbit[0] for name, reference in free.items()}
    fed = stage_references(*inputs, dtype, backend.accuracy, known_values)
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
    """Where the reference and the backend compute a stage ("h.0.attn.q") or a function ("ops.softmax"), one line each.

    A backend names the folder of its files in an attribute `sources`; without it, there is only the reference's line.
    """
    folders = [SOURCES] + [Path(folder) for folder in [getattr(backend, "sources", None)] if folder is not None]
    return tuple(line for folder in folders for line in [_find(folder, name)] if line)


def _find(folder: Path, name: str) -> str:
    if name in contracts():
        module, leaf = reference.place(name)
        file, pattern = module.replace(".", "/"), rf"^def {leaf}\("
    else:
        role = re.sub(r"^h\.\d+\.", "", name)
        leaf = role.rpartition(".")[2]
        file = "attention" if role.startswith("attn.") else "model"
        stage = re.escape("{name}" if leaf in ACTIVATIONS else leaf)
        pattern = rf'\(f?"(\{{at\}}\.)?{stage}", |\b{stage}=\w'  # observe(f"{{at}}.q", ...), observe_each(at, q=...)
    path = folder / f"{file}.py"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), start=1):
        if re.search(pattern, line):
            return f"  {folder.name}/{file}.py:{number}: {line.strip()}"
    return ""
