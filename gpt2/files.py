"""Write files and folders atomically: complete or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from gpt2.errors import GPT2Error

PART = ".part"


def user_cache() -> Path:
    """The folder of the user's caches: $XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))


def require_writable(path: Path) -> None:
    """Raise GPT2Error before long work starts, if its result could not be written to path. Makes no folder."""
    _require_file_or_nothing(path)
    part = path.resolve().with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise GPT2Error(
            f"cannot write {path}: {error.strerror}; name a file in a folder that exists and can be written to"
        ) from error


def _require_file_or_nothing(path: Path) -> None:
    """Only a file may be replaced: /dev/null, replaced by one, would be lost to the whole machine."""
    if os.path.exists(path) and not os.path.isfile(path):  # unlike pathlib, no error for a folder without permission
        raise GPT2Error(f"cannot write {path}: it exists and is not a file; name a file")


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write; it replaces `path` at the end, atomically and synced to disk.

    If anything fails, the old file at `path` stays. A symbolic link keeps pointing at its file. Missing folders are
    made. A process that is killed leaves a hidden folder; the next write to `path` removes it.
    Raises GPT2Error if the file cannot be written, or if `path` is a folder, a pipe or a device.
    """
    _require_file_or_nothing(path)
    with _hidden_folder(path) as (hidden, target):
        part = hidden / target.name
        yield part
        part.chmod(hidden.stat().st_mode & 0o666)  # safetensors lets only the owner read
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(part, target)


@contextlib.contextmanager
def write_folder_whole(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it replaces `folder`, which is absent or empty: write_whole for a folder."""
    with _hidden_folder(folder) as (hidden, target):
        yield hidden
        for file in hidden.iterdir():
            file.chmod(0o644)  # safetensors lets only the owner read
        os.replace(hidden, target)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8; a lone surrogate is written as its escape. Raises GPT2Error."""
    with write_whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _hidden_folder(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a new folder beside the target of `path`, and the target. The folder is removed at the end."""
    try:
        target = path.resolve()
        hidden = target.parent / f".{target.name}{PART}"  # a folder: safetensors adds a temporary file
        _make_folder(target.parent)
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            hidden.mkdir()
            yield hidden, target
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors raises its own error on a full disk
        reason = getattr(error, "strerror", None) or error
        raise GPT2Error(f"cannot write {path}: {reason}; what was there before is unharmed") from error


def _make_folder(folder: Path) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for parent in reversed(missing):
        _sync_folder(parent.parent)


def _sync_folder(folder: Path) -> None:
    """Sync the folder's entries to disk, so that they survive a power failure."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL):  # some file systems cannot sync a folder
            raise
    finally:
        os.close(handle)
