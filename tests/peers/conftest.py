"""The processes that tests in this folder ask; each starts once a session."""

import importlib.util
import os
from collections.abc import Iterator

import pytest

from benchmarks.peers.client import Peer, peer_python
from tests.peers.engines import ENGINES


@pytest.fixture(scope="session")
def hugging_face() -> Iterator[Peer]:
    """Hugging Face transformers on PyTorch. Without the environment the test is skipped, or fails if it is required."""
    _require_python()
    peer = Peer(peer_python(), "benchmarks.peers.pytorch")
    peer.ask("ping")
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def tokens_of_transformers() -> Iterator[Peer]:
    """Hugging Face's tokenizers, in the same environment."""
    _require_python()
    peer = Peer(peer_python(), "benchmarks.peers.tokens")
    yield peer
    peer.close()


def _require_python() -> None:
    python = peer_python()
    if not python.is_file():
        absent(f"no {python}: run `make peers` to compare with Hugging Face transformers")


def absent(reason: str) -> None:
    """Skip for that reason, or fail for it under GPT2_REQUIRE_PEERS=1."""
    if os.environ.get("GPT2_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine, if it runs here."""
    if request.param.startswith("mindspore") and importlib.util.find_spec("mindspore") is None:
        pytest.skip("MindSpore is not installed: pip install 'gpt2-parity[mindspore]'")
    return request.param
