"""Client for a process in another environment: serving.py answers there, by the protocol of gpt2/peers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.peers.process import PeerProcess, source

Arrays = dict[str, NDArray[Any]]
ROOT = Path(__file__).parents[2]
SERVING = Path(__file__).with_name("serving.py")
LIMITS = 600.0, 3600.0  # seconds of a start, and of a request: some train


def peer_python() -> Path:
    """The interpreter of the PyTorch environment: $GPT2_PEER_PYTHON, or that of `make peers`."""
    return Path(os.environ.get("GPT2_PEER_PYTHON") or ROOT / ".venv-torch" / "bin" / "python")


class Peer:
    """A process of this interpreter that answers requests by the functions of a module until it is closed.

    arguments: what the module finds in sys.argv. Raises PeerError if it cannot be imported there.
    """

    def __init__(
        self, python: Path, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        options = {"root": str(ROOT), "module": module, "arguments": list(arguments)}
        command = [str(python.absolute())]
        self._process = PeerProcess(module, command, [source(SERVING)], options, LIMITS, environment)

    def ask(self, request: str, arrays: Mapping[str, NDArray[Any]] | None = None, **fields: Any) -> tuple[dict, Arrays]:
        """The answer's fields and arrays. Raises PeerError if the request failed or the process has died."""
        given = {name: np.asarray(x) for name, x in (arrays or {}).items()}
        answer: tuple[dict, Arrays] = self._process.ask("answer", request, given, fields)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.end()
