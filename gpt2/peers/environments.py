"""Environments of peers: made from the pinned lists in pins/, in a folder of their own, whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gpt2.backends.registry import PEERS
from gpt2.errors import GPT2Error
from gpt2.files import user_cache, write_text

PINS = Path(__file__).parent / "pins"
STAMP = "gpt2-peer.json"  # written last: an environment without it is not whole
# In a list, {version} stands for what comes after the @.
_VERSION = re.compile(r"mindspore@(\d+(?:\.\w+)+)")


def home() -> Path:
    """The folder of the environments: $GPT2_PEERS, or one in the user's cache."""
    given = os.environ.get("GPT2_PEERS")
    return Path(given) if given else user_cache() / "gpt2-peers"


def pins(name: str) -> list[str]:
    """The lists of an environment: what is installed, and then, if there is a second, what is without dependencies.

    Raises GPT2Error for an unknown name.
    """
    version = _VERSION.fullmatch(name)
    if name not in PEERS and version is None:
        raise GPT2Error(f"unknown peer {name!r}: choose one of {', '.join(PEERS)}, such as mindspore@2.9.0")
    family = "mindspore" if version else name
    if name == PEERS[-1]:
        raise GPT2Error("say which MindSpore: mindspore@2.9.0")
    files = [PINS / f"{family}.txt", PINS / f"{family}-no-deps.txt"]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    return [text.replace("{version}", version[1] if version else "") for text in texts]


def is_known(name: str) -> bool:
    """Whether this is the name of a peer: the folder of the environments may hold others."""
    return name in PEERS[:-1] or _VERSION.fullmatch(name) is not None


def python(name: str) -> Path:
    """The interpreter of an environment. Raises GPT2Error, which says how to install it, unless it is whole."""
    if not _is_whole(home() / name):
        raise GPT2Error(f"peer {name!r} is not installed: gpt2 peers install {name}")
    return _python(home() / name)


def installed() -> list[str]:
    """The names of the environments that are whole."""
    return sorted(path.name for path in home().iterdir() if _is_whole(path)) if home().is_dir() else []


def size(name: str) -> int:
    """The bytes of all files of an environment, which are tens of thousands."""
    return sum(file.lstat().st_size for file in (home() / name).rglob("*"))


def install(name: str, interpreter: str | None = None, say: Callable[[str], object] = print) -> Path:
    """Make the environment with this Python (default: the one that runs), and return its interpreter.

    One that was interrupted is made anew. Raises GPT2Error, with pip's reason, if something cannot be installed, and
    while another process installs it.
    """
    require_pipes(name)
    lists, folder = pins(name), home() / name
    try:
        with _held(name):
            if _is_whole(folder):
                raise GPT2Error(f"peer {name!r} is installed: gpt2 peers remove {name}")
            say(f"installing {name} in {folder} ...")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _make(name, folder, lists, interpreter or sys.executable)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except OSError as error:
        raise GPT2Error(f"cannot install peer {name!r}: {error}") from error
    return _python(folder)


def remove(name: str) -> None:
    """Delete an environment, whole or not.

    Raises GPT2Error if there is none of that name, if it cannot be deleted, and while another process installs it.
    """
    pins(name)
    folder = home() / name
    if not folder.is_dir():
        raise GPT2Error(f"peer {name!r} is not installed")
    try:
        with _held(name):
            (folder / STAMP).unlink(missing_ok=True)  # from now on it is not whole
            shutil.rmtree(folder)
    except OSError as error:
        raise GPT2Error(f"cannot remove peer {name!r}: {error}") from error


def require_pipes(name: str) -> None:
    """Raise GPT2Error where no peer runs."""
    if os.name == "nt":
        raise GPT2Error(f"peer {name!r} needs pipes as Linux and macOS have them: run gpt2 there, or in WSL")


@contextlib.contextmanager
def _held(name: str) -> Iterator[None]:
    """Keep other processes from this environment: two that make it would delete each other's files.

    The system lets go of the lock when the process ends, however it ends; its empty file stays.
    """
    import fcntl  # which Windows does not have

    home().mkdir(parents=True, exist_ok=True)
    with (home() / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GPT2Error(f"peer {name!r} is being installed or removed by another process") from None
        yield


def _make(name: str, folder: Path, lists: Sequence[str], interpreter: str) -> None:
    folder.mkdir()
    _run(name, [interpreter, "-m", "venv", str(folder)])
    for number, text in enumerate(lists):
        listed = folder / f"pins-{number}.txt"
        listed.write_text(text, encoding="utf-8")
        alone = ["--no-deps"] * number
        _run(name, [str(_python(folder)), "-m", "pip", "install", "--quiet", *alone, "-r", str(listed)])
    write_text(folder / STAMP, json.dumps({"pins": lists}))


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _is_whole(folder: Path) -> bool:
    return (folder / STAMP).is_file() and _python(folder).is_file()


def _run(name: str, command: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in said if line.startswith("ERROR: ")), said[-1] if said else "without a word")
        raise GPT2Error(f"cannot install peer {name!r}: {reason.removeprefix('ERROR: ')}")
