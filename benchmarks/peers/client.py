"""Client for a process in another environment: one JSON line per request and answer; arrays go in .npz files."""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
ROOT = Path(__file__).parents[2]


class PeerError(RuntimeError):
    """An error in the other process, with its message."""


def peer_python() -> Path:
    """The interpreter of the PyTorch environment: $GPT2_PEER_PYTHON, or that of `make peers`."""
    return Path(os.environ.get("GPT2_PEER_PYTHON") or ROOT / ".venv-torch" / "bin" / "python")


def pytorch_command() -> list[str | Path]:
    """The command that starts the process of pytorch.py."""
    return [peer_python(), "-m", "benchmarks.peers.pytorch"]


class Peer:
    """A process started by `command` that answers requests until it is closed."""

    def __init__(self, command: list[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self._room = tempfile.TemporaryDirectory(prefix="gpt2-peer-")
        self.folder = Path(self._room.name)
        self._log = (self.folder / "stderr").open("wb")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def ask(self, request: str, arrays: Mapping[str, NDArray[Any]] | None = None, **fields: Any) -> tuple[dict, Arrays]:
        """The answer's fields and arrays. Raises PeerError if the request failed or the process has died."""
        given, answer = self.folder / "given.npz", self.folder / "answer.npz"
        np.savez(given, **(arrays or {}))
        returned = self._exchange({"request": request, "arrays": str(given), "answer": str(answer), **fields})
        if "error" in returned:
            raise PeerError(f"{request}: {returned['error']}")
        with np.load(answer) as file:
            return returned, dict(file)

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        pipe, lines = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert lines is not None
        try:
            print(json.dumps(request), file=pipe, flush=True)
            line = lines.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            log = (self.folder / "stderr").read_text(errors="replace").strip().splitlines()
            raise PeerError(f"the process ended with code {self._process.wait()}: {' | '.join(log[-5:])}")
        return json.loads(line)

    def close(self) -> None:
        """End the process by closing its input."""
        self._process.communicate()
        self._log.close()
        self._room.cleanup()
