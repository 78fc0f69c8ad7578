"""Files, read and written whole: JSON that people hand in, and results that are there entirely or not at all."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gpt2.errors import GPT2Error

PART = ".part"


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises GPT2Error if it is missing, not UTF-8, not JSON, or nested beyond Python's depth."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a byte order mark first
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{path} is not valid JSON: {error}") from error


def require_writable(path: Path) -> None:
    """Raise GPT2Error now, before long work, if a file could not be written there after it. Makes no folder."""
    if os.path.exists(path) and not os.path.isfile(path):  # as pathlib asks, but a folder shut to us is no error yet
        raise GPT2Error(f"cannot write {path}: it is there already and is no file; name a file")
    part = path.resolve().with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise GPT2Error(
            f"cannot write {path}: {error.strerror}; name a file in a folder that exists and can be written to"
        ) from error


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` at the end, in one step and for good: even if power fails then.

    If anything goes wrong, what stood at `path` stays; a link keeps pointing at its file. Missing folders are made.
    Raises GPT2Error if the file cannot be written. A process that is killed leaves a hidden folder, which the next one
    to write `path` removes.
    """
    with _hidden_folder(path) as (hidden, target):
        part = hidden / target.name
        yield part
        part.chmod(hidden.stat().st_mode & 0o666)  # safetensors lets only the owner read
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, target)


@contextlib.contextmanager
def write_folder_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `folder`, absent or empty, at the end: write_whole for a folder."""
    with _hidden_folder(folder) as (hidden, target):
        yield hidden
        for file in hidden.iterdir():
            file.chmod(0o644)  # safetensors lets only the owner read
        os.replace(hidden, target)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8; half a character is written as its escape. Raises GPT2Error."""
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _hidden_folder(path: Path) -> Iterator[tuple[Path, Path]]:
    """A new folder beside what `path` points at, and that target; afterwards the folder is gone, and names are kept."""
    try:
        target = path.resolve()
        hidden = target.parent / f".{target.name}{PART}"  # a folder: safetensors writes a temporary file of its own
        _make_folder(target.parent)
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            hidden.mkdir()
            yield hidden, target
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors has its own error for a full disk
        reason = getattr(error, "strerror", None) or error
        raise GPT2Error(f"cannot write {path}: {reason}; what was there before is unharmed") from error


def _make_folder(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in reversed(missing):
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    """Have the names in the folder outlive a power cut."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):  # how some file systems say that they do not offer it
            raise
    finally:
        os.close(handle)
