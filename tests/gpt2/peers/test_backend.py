"""A backend in another process is that backend, bit for bit, and its death is a counterexample."""

import dataclasses
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2.backends import Array, Batch, NumPyBackend
from gpt2.peers.backend import Peer, TwinPeer
from gpt2.peers.process import PeerDiedError, PeerProcess, Remote, source
from parity.check import check_rule, rules
from parity.diagnosis.diagnose import diagnose
from reference.config import GPT2Config, TrainingConfig, parameter_shapes
from tests.gpt2.command import run

pytestmark = pytest.mark.usefixtures("in_no_time")
FILE = Path(__file__).with_name("mortal.py")
CONFIG = GPT2Config(vocab_size=11, n_positions=8, n_embd=4, n_layer=2, n_head=2, num_labels=3, eos_token_id=(1, 2))
IDS, MASK = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[0, 1, 1], [1, 1, 1]])
RANDOM = np.random.default_rng(0)
KILLED = r"mortal ended by signal 9"


def mortal(fatal: int = 0, **options: Any) -> TwinPeer:
    """NumPy's backend in a process of its own."""

    def start() -> PeerProcess:
        return PeerProcess("mortal", [sys.executable], [source(FILE)], {"fatal": fatal, **options}, (20.0, 5.0))

    return TwinPeer(Peer("mortal", start), FILE.parent, FILE, None)


def parameters(head: str = "language_model") -> dict[str, Array]:
    return {name: RANDOM.standard_normal(shape, np.float32) for name, shape in parameter_shapes(CONFIG, head).items()}


def same(given: Any, found: Any) -> bool:
    """Whether two trees have the same dtypes, shapes and bits."""
    if isinstance(given, dict):
        return given.keys() == found.keys() and all(same(x, found[name]) for name, x in given.items())
    if isinstance(given, list | tuple):
        return type(given) is type(found) and len(given) == len(found) and all(map(same, given, found))
    given, found = np.asarray(given), np.asarray(found)
    return (given.dtype, given.shape, given.tobytes()) == (found.dtype, found.shape, found.tobytes())


def kill(backend: TwinPeer) -> None:
    """Kill the process from outside, as the system does for want of memory."""
    os.killpg(backend.peer.process.group, signal.SIGKILL)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_the_backend_that_runs_there(dtype: str) -> None:
    here, there = NumPyBackend(dtype=dtype), mortal(dtype=dtype)
    assert (there.device, there.dtype, there.mode) == ("CPU", dtype, "eager")
    assert there.version.endswith("mortal 1")
    assert there.accuracy == {}
    given = parameters()
    models = [backend.model(CONFIG, given) for backend in (here, there)]
    assert same(*(model.logits(IDS, MASK) for model in models))
    assert same(*(model.stages(IDS, None, None, {"h.0.ln_1": np.ones((2, 3, 4), np.float32)}) for model in models))
    other = parameters()
    for model in models:
        model.assign(other)
    assert same(*(model.logits(IDS) for model in models))
    classifiers = [backend.model(CONFIG, parameters("sequence_classifier")) for backend in (here, there)]
    assert same(*(model.classify(IDS, MASK).shape for model in classifiers))
    x = RANDOM.standard_normal((1, 2, 4)).astype(dtype if dtype == "float32" else np.float32)
    assert same(
        *(backend.call("ops.layer_norm", {"x": x, "weight": x[0, 0], "bias": x[0, 1]}) for backend in (here, there))
    )
    there.peer.end()


def decode(model: Any) -> list[Any]:
    """What a decoder says, step by step."""
    decoder, said = model.decoder(2, 8), []
    decoder.read(IDS, MASK, np.maximum(MASK.cumsum(1) - 1, 0))
    said += [decoder.logits(), decoder.greedy()]
    decoder.advance()
    decoder.reorder(np.array([1, 1]))
    said += [decoder.sample(np.array([0.1, 0.9]), 1.0, 5, 0.9, 0.01), decoder.logits()]
    return [*said, decoder.slots, decoder.cache_bytes]


def train(backend: Any) -> list[Any]:
    """What two trainers say, the second of which goes on from the first."""
    settings, batch, said = TrainingConfig(accumulate_step=2, learning_rate=0.1), Batch(IDS, IDS, MASK), []
    first = backend.trainer(CONFIG, parameters(), settings)
    said += [dataclasses.asdict(first.step(batch)) for _ in range(3)]
    second = backend.trainer(CONFIG, parameters(), settings)
    second.load_state(first.parameters(), first.state())
    said += [dataclasses.asdict(second.step(batch)), second.loss(batch), second.stages(batch), second.parameters()]
    return [*said, second.state()]


@pytest.mark.parametrize(
    "do", [lambda backend: decode(backend.model(CONFIG, parameters())), train], ids=["read", "train"]
)
def test_what_has_a_state_keeps_it_there(do: Callable[[Any], list[Any]]) -> None:
    global RANDOM
    there, said = mortal(), []
    for backend in (NumPyBackend(), there):
        RANDOM = np.random.default_rng(1)
        said.append(do(backend))
    assert same(*said)
    there.peer.end()


def test_after_a_death_a_model_is_made_again_and_what_had_a_state_is_lost() -> None:
    backend = mortal()
    model = backend.model(CONFIG, parameters())
    model.assign(parameters())
    trainer = backend.trainer(CONFIG, parameters(), TrainingConfig())
    decoder = model.decoder(2, 8)
    before = model.logits(IDS)
    kill(backend)
    with pytest.raises(PeerDiedError, match=KILLED):
        model.logits(IDS)
    assert same(before, model.logits(IDS))
    for ask in (trainer.parameters, decoder.greedy):
        with pytest.raises(PeerDiedError, match=KILLED):
            ask()
    decoder = model.decoder(2, 8)
    decoder.read(IDS, MASK, IDS)
    assert same(backend.call("ops.relu", {"x": np.ones((1, 1, 1))}), np.ones((1, 1, 1)))
    backend.peer.end()


def test_a_refusal_of_the_backend_is_one_here() -> None:
    backend = mortal(dtype="float16")
    with pytest.raises(ValueError, match="weights are trained in float32"):
        backend.trainer(CONFIG, parameters(), TrainingConfig())
    backend.peer.end()


def test_models_that_nobody_has_are_freed_there() -> None:
    backend = mortal()
    model = backend.model(CONFIG, parameters())
    process = backend.peer.process
    del model
    gc.collect()
    assert len(process.freed) == 1
    backend.call("ops.relu", {"x": np.ones((1, 1, 1))})
    assert process.freed == []
    backend.peer.end()


def test_the_judge_agrees_with_what_is_right() -> None:
    backend = mortal()
    result = check_rule(rules()["engine.logits"], backend, 3)
    assert result.agrees
    assert result.cases >= 3
    backend.peer.end()


def test_a_death_is_a_counterexample_with_its_smallest_case() -> None:
    """The search goes on in another process, and ends at the fewest tokens that kill it."""
    backend = mortal(fatal=3)
    first = backend.peer.process
    result = check_rule(rules()["activations.linear"], backend, 25)
    assert not result.agrees
    died = r"PeerDiedError: mortal ended by signal 11 \(Segmentation fault\) in call \(mortal.py:\d+\)"
    assert re.fullmatch(died, result.error)
    assert result.failing_case is not None
    assert {letter: result.failing_case.sizes[letter] for letter in "BTC"} == {"B": 1, "T": 3, "C": 1}
    last = backend.peer.process
    assert last is not first
    diagnose(rules()["activations.linear"], result, backend)
    assert backend.peer.process is last  # what kills is not run again for every fact
    backend.peer.end()


@pytest.mark.parametrize("dies", ["at once", "later"])
def test_a_command_says_in_one_line_that_its_peer_died(dies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = mortal()
    monkeypatch.setattr("gpt2.commands.options.get_backend", lambda *_: backend)
    monkeypatch.setattr("gpt2.commands.options.FOREIGN", foreign := list[Any]())
    monkeypatch.setattr("gpt2.commands.main.FOREIGN", foreign)
    monkeypatch.setattr(PeerProcess, "ask", lambda self, call, *_, **__: _fatal(self, call, dies))
    ran = run("logits", "tiny", "--ids", "1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.count("\n") == 1
    assert "PeerDiedError: mortal ended by signal 9" in ran.err


def _fatal(process: PeerProcess, call: str, dies: str) -> Any:
    if call == "model" and dies == "later":
        return Remote(process, 1)
    raise PeerDiedError("mortal ended by signal 9")
