"""Cases of runs, as their folders hold them. It needs no package but the standard library.

FOLDER/
    model/          config.json and model.safetensors, its numbers such as the run's dtype holds
    inputs.npz      ids (B, T), labels (B, T), which are the ids, or -100 where nothing is scored, and attention_mask
                    (B, T) if there is one
    case.json       the fields of CaseOfRun
    dump/           what msprobe wrote; golden/: what it wrote of the correct model, if dump/ is that of a bug
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

MODELS = ("transformers", "cells", "twin")
FILE = "case.json"


@dataclasses.dataclass(frozen=True)
class CaseOfRun:
    """One model to run. model: one of MODELS. bug: the name of a planted bug, or "". train: dropout is on."""

    model: str
    dtype: str = "float32"
    bug: str = ""
    train: bool = False
    padding: str = "no mask"
    regime: str = "live"
    seed: int = 0


def read_cases(folder: Path, models: tuple[str, ...] = MODELS) -> Iterator[tuple[Path, CaseOfRun]]:
    """The folders of cases below a folder, in order, and what they hold."""
    for file in sorted(folder.glob(f"*/*/{FILE}")):
        case = CaseOfRun(**json.loads(file.read_text(encoding="utf-8")))
        if case.model in models:
            yield file.parent, case
