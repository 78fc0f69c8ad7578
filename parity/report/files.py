"""Write a file whole, or not at all."""

import contextlib
import os
from pathlib import Path

from gpt2.errors import GPT2Error


def require_writable(path: Path) -> None:
    """Raise GPT2Error now, before a long search, if write_whole could not write this file after it."""
    if os.path.exists(path) and not os.path.isfile(path):  # as pathlib asks, but a folder shut to us is no error yet
        raise GPT2Error(f"cannot write {path}: it is there already and is no file; name a file")
    try:
        part = _part(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise _refusal(path, error) from error


def write_whole(path: Path, text: str) -> None:
    """Write the file as UTF-8; if that fails, what stood there stays. Raises GPT2Error if it cannot be written."""
    part = _part(path)
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(part, path.resolve())  # a link keeps pointing at its file
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # whether or not there was a part: the file itself has been seen to
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    whole = path.resolve()
    return whole.with_name(f".{whole.name}.{os.getpid()}.part")


def _refusal(path: Path, error: OSError) -> GPT2Error:
    return GPT2Error(
        f"cannot write {path}: {error.strerror}; name a file in a folder that exists and can be written to"
    )
