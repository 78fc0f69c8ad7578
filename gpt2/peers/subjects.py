"""Which peers there are: "torch", "mindnlp", "mindspore@2.9.0", and each of them behind a command that starts one."""

import functools
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.backends.protocol import Backend
from gpt2.errors import GPT2Error
from gpt2.peers import environments
from gpt2.peers.backend import Peer, TorchPeer, TwinPeer
from gpt2.peers.process import (
    CALL_SECONDS,
    START_SECONDS,
    PeerDiedError,
    PeerError,
    PeerProcess,
    PeerValueError,
    source,
)

READY = "GPT2_PEER_PYTHON"  # the interpreter of torch, if it is set
WORKER = Path(__file__).parent / "worker"
ROOT = Path(__file__).parents[2]
TWIN = WORKER / "mindspore_twin.py"
# The files that run in the process of each, in this order; the last is the subject.
FILES = {
    "torch": (WORKER / "transformers_functions.py", WORKER / "torch_gpt2.py"),
    "mindnlp": (WORKER / "mindnlp_torch.py", WORKER / "transformers_functions.py", WORKER / "torch_gpt2.py"),
}


def get_peer(name: str, device: str | None = None, dtype: str | None = None, mode: str | None = None) -> Backend:
    """The backend of a peer: "torch", "mindnlp" or "mindspore@2.9.0", or one of these, a colon, and a command.

    The command starts its Python, on this machine or another: "torch:ssh host python3". Without one it is that of the
    environment that `gpt2 peers install` made, or, for torch, $GPT2_PEER_PYTHON. A request may take
    $GPT2_PEER_SECONDS, 60 if it is not set. Raises GPT2Error, one line, if it is not installed or does not start.
    """
    environments.require_pipes(name)
    kind, _, command = name.partition(":")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise GPT2Error(f"the command of {name!r} cannot be read: {error}") from error
    given = {"device": device, "dtype": dtype, "mode": mode}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    environments.pins(kind)  # refuses an unknown name
    if kind in FILES and mode not in (None, "eager"):
        raise GPT2Error(f"backend {kind!r} has no mode {mode!r}: leave --mode out")
    words = words or [str(_python(kind))]
    if kind in FILES:
        files = FILES[kind]
        return _started(lambda: TorchPeer(_peer(name, words, files, options), files[-1]), name)
    graph = None if mode in (None, "graph") else functools.partial(get_peer, name, device, dtype, "graph")
    where = {"sources": _sources()} if command else {"root": str(ROOT)}
    options |= {"version": kind.partition("@")[2], **where}
    return _started(lambda: TwinPeer(_peer(name, words, [TWIN], options), ROOT / "ms_backend", TWIN, graph), name)


def _python(kind: str) -> Path:
    ready = os.environ.get(READY)
    return Path(ready) if ready and kind == "torch" else environments.python(kind)


def _peer(name: str, words: Sequence[str], files: Sequence[Path], options: Mapping[str, Any]) -> Peer:
    modules = [source(file) for file in files]
    limits = START_SECONDS, _seconds()
    return Peer(name, lambda: PeerProcess(name, words, modules, options, limits))


def _seconds() -> float:
    text = os.environ.get("GPT2_PEER_SECONDS") or str(CALL_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise GPT2Error(f"GPT2_PEER_SECONDS must be a number of seconds above 0, but is {text!r}")
    return seconds


def _sources() -> dict[str, str]:
    """The files of the twin, and of the configuration that it shares, as they are sent to another machine."""
    files = [*(ROOT / "ms_backend").rglob("*.py"), *(ROOT / "ms_backend").rglob("*.json")]
    files += [ROOT / "reference" / name for name in ("__init__.py", "config.py")]
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def _started(make: Callable[[], Any], name: str) -> Any:
    ready = os.environ.get(READY)
    given = f" (${READY} is {ready})" if ready and name == "torch" else ""
    try:
        return make()
    except PeerValueError as error:
        raise GPT2Error(f"{name}: {error.message}") from error
    except PeerDiedError as error:
        raise GPT2Error(f"{error}{given}") from error
    except PeerError as error:
        raise GPT2Error(f"backend {name!r} does not start: {error}{given}") from error
