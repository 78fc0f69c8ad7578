"""Backends with a planted bug: "twin:erf for tanh" names the bug; in "exercise:7" the reader has to find it."""

import difflib
import hashlib
import shutil
from pathlib import Path

from gpt2.backends import Backend
from gpt2.errors import GPT2Error
from parity.explanation.explain import HIDES_ITS_BUG
from parity.mutants.all import FEEDING, MUTANTS, mutant
from parity.mutants.base import REORDERED, Mutant, Twin
from parity.mutants.generation import GENERATION

ROOT = Path(__file__).parents[2]


def get_twin(name: str = "", device: str = "CPU", dtype: str = "float32", mode: str | None = None) -> Backend:
    """The backend with the planted bug of that name; "reordered" is a correct one that rounds in other places.

    Raises GPT2Error for an unknown name.
    """
    return (REORDERED if name == REORDERED.name else _twin(mutant(name))).backend(device, dtype, mode)


def get_exercise(number: str = "", device: str = "CPU", dtype: str = "float32", mode: str | None = None) -> Backend:
    """The backend with the bug of that number, which reports do not name. Raises GPT2Error for an unknown number."""
    backend = _twin(exercise(number)).backend(device, dtype, mode)
    vars(backend).update({"name": f"exercise:{number}", HIDES_ITS_BUG: True})
    return backend


def _twin(bug: Mutant) -> Twin:
    return Twin(bug.name, bug.edits, bug.engine)


def exercises() -> list[Mutant]:
    """The planted bugs that show in float32 on NumPy, in an order that shows nothing.

    Those of generation come last but one, and those of what feeds a model last.
    """
    chosen = [bug for bug in MUTANTS if bug.engine == "numpy" and bug.dtype == "float32" and not bug.equivalent]
    return sorted(
        chosen, key=lambda bug: (bug in FEEDING, bug in GENERATION, hashlib.sha256(bug.name.encode()).digest())
    )


def exercise(number: str) -> Mutant:
    """The bug of that number, counted from 1. Raises GPT2Error for an unknown number."""
    count = len(exercises())
    if not number.isdecimal() or not 1 <= int(number) <= count:
        raise GPT2Error(f"exercise {number!r} does not exist: choose a number from 1 to {count}")
    return exercises()[int(number) - 1]


def difference(each: Mutant) -> str:
    """The changed lines, as a unified diff."""
    lines: list[str] = []
    for file in dict.fromkeys(edit.file for edit in each.edits):
        text = changed = (ROOT / file).read_text(encoding="utf-8")
        for edit in each.edits:
            if edit.file == file:
                changed = edit.apply(changed)
        lines += difflib.unified_diff(text.splitlines(), changed.splitlines(), file, file, lineterm="", n=1)
    return "\n".join(lines)


def write_sources(number: str, folder: Path) -> None:
    """Copy the room with the bug of that number into a new folder, to read. Raises GPT2Error if the folder exists."""
    room = Path(exercise(number).edits[0].file).parts[0]
    sources = get_exercise(number).sources.parent / room
    try:
        shutil.copytree(sources, folder, ignore=shutil.ignore_patterns("__pycache__"))
    except FileExistsError as error:
        raise GPT2Error(f"{folder} exists already: give the name of a new folder") from error
    except OSError as error:
        raise GPT2Error(f"cannot write {folder}: {error.strerror}") from error
