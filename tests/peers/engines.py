"""The engines that tests in this folder put beside PyTorch, and how they are asked."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gpt2
from benchmarks.peers.client import Peer
from gpt2.backends import Backend
from tests.peers.question import Question

Array = NDArray[Any]
# Engines, and how many examples of a hundred each gets: MindSpore compiles every new model and shape, for a second.
ENGINES = {"numpy": 25, "mindspore pynative": 10, "mindspore graph": 3}
ATTENTIONS = st.sampled_from(["eager", "sdpa"])


@functools.cache
def backend_of(engine: str) -> Backend:
    """The backend that an engine's name stands for, in float32."""
    name, _, mode = engine.partition(" ")
    return gpt2.get_backend(name, mode=mode or None)


def for_all(engine: str, **strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], None]:
    """Run the decorated law at once, on as many examples as the engine and Hypothesis's profile are good for."""
    examples = max(1, ENGINES[engine] * settings().max_examples // 100)
    phases = [Phase.generate] if engine == "mindspore graph" else [Phase.generate, Phase.shrink]

    def run(law: Callable[..., None]) -> None:
        settings(max_examples=examples, phases=phases)(given(**strategies)(law))()

    return run


def ask_about(model: gpt2.Model, question: Question, peer: Peer, request: str, **fields: Any) -> dict[str, Array]:
    """What transformers answers when it loads the folder that we save."""
    with tempfile.TemporaryDirectory() as room:
        model.save(Path(room) / "ours")
        _, answer = peer.ask(request, question.sent, folder=str(Path(room) / "ours"), **fields)
    return answer


@functools.cache
def accuracy_of(peer: Peer) -> dict[str, float]:
    """How accurate the elementary functions of a peer are: measured, as what our engines declare was."""
    return peer.ask("accuracy")[0]
