"""How much the elementary functions of the framework that was recorded err: what was measured of it on a machine here.

A recording does not say on which device it was made, so the largest of all measurements of the framework counts.
"""

import importlib.util
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import numpy as np

from parity.recorded.recording import RecordedRun, is_float, tensors
from parity.recorded.runs.stage_map import lowest_dtype
from parity.verdict.steps import EVERY_STEP
from parity.verdict.verdict import ulp

TWIN, MEASURED = "ms_backend", "accuracy.json"


def accuracy_of(run: RecordedRun) -> dict[str, float]:
    """The largest relative errors of elementary functions in the run's framework, in any, if that is not said.

    In 16 bits, how far a step errs as well: a formula that is written out rounds after each.
    """
    found: dict[str, float] = {}
    for entry in _measurements():
        if run.framework in ("", entry["framework"]):
            for name, error in entry["relative_error"].items():
                found[name] = max(found.get(name, 0.0), error)
    floats = [x for call in run.calls for x in tensors(call.results) if is_float(x)]
    floats += [x for x in run.stages.values() if is_float(x)]
    if floats and lowest_dtype(floats).itemsize == 2:
        found[EVERY_STEP] = float(ulp(np.array(1.0), lowest_dtype(floats))) / 2
    return found


def _measurements() -> list[Mapping]:
    """What is declared here, and in the twin's file of MindSpore, if the twin is installed."""
    here = json.loads(resources.files(__package__).joinpath(MEASURED).read_text(encoding="utf-8"))
    twin = importlib.util.find_spec(TWIN)
    for folder in (twin.submodule_search_locations or []) if twin is not None else []:
        file = Path(folder) / "engine" / MEASURED
        if file.is_file():
            here += [{"framework": "mindspore", **entry} for entry in json.loads(file.read_text(encoding="utf-8"))]
    return here
