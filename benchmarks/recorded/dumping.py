"""One debugger of msprobe for many models: each is a step, and its files are moved to the folder of its case."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.recorded.plain import CaseOfRun, read_cases

CONFIG = {
    "task": "tensor",
    "rank": [],
    "step": [],
    "level": "mix",
    "async_dump": False,
    "tensor": {"scope": [], "list": [], "data_mode": ["all"]},
}


class Dumping:
    """msprobe's debugger, a class of its own for each framework, started once. It writes below `folder` first."""

    def __init__(self, debugger: Any, folder: Path) -> None:
        self._steps, self._count, self._begun = folder / "steps", 0, time.perf_counter()
        file = folder / "config.json"
        file.write_text(json.dumps(CONFIG | {"dump_path": str(self._steps)}), encoding="utf-8")
        self._debugger = debugger(config_path=str(file))

    @contextlib.contextmanager
    def into(self, target: Path, model: Any) -> Iterator[None]:
        """Dump what runs inside to target/step0."""
        service = self._debugger.service
        service.hooked_modules.clear()  # they would stay in memory
        service.first_start = True  # else msprobe hooks the primitives of the first model alone
        self._debugger.start(model)
        yield
        self._debugger.stop()
        self._debugger.step()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        shutil.move(self._steps / f"step{self._count}", target / "step0")
        self._count += 1

    def log(self, place: Path, bug: str, loss: float) -> None:
        """Say what was dumped."""
        seconds = time.perf_counter() - self._begun
        print(f"{seconds:6.1f} s  {self._count:4d}  {place.name}  {bug}  loss {loss:.6f}", file=sys.stderr, flush=True)


def selected(folder: Path, model: str) -> Iterator[tuple[Path, CaseOfRun, str]]:
    """The cases of one model, with the bug that is to be planted; each one of a bug also without it."""
    for place, case in read_cases(folder, (model,)):
        if not (place / "dump").exists():
            yield place, case, case.bug
        if case.bug and not (place / "golden").exists():
            yield place, case, ""
