"""GPT-2 of transformers on PyTorch as a backend by its name: it runs, and the judge agrees."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.client import peer_python
from gpt2.backends import Backend, NumPyBackend, get_backend
from gpt2.peers.backend import TorchPeer
from parity.check import check_rule, rules, select
from parity.diagnosis.blame import blame, first_wrong
from tests.gpt2.command import run
from tests.gpt2.small import SMALL, parameters
from tests.peers.conftest import absent

pytestmark = pytest.mark.peer
IDS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
# Of every kind of rule that it offers, a few.
CHECKED = (
    "ops.layer_norm_vjp",
    "activations.mish",
    "model.block",
    "model.language_model",
    "model.language_model_loss_vjp",
    "model.sequence_classifier",
    "engine.logits",
    "engine.cached",
    "engine.classify",
    "laws.a_decoder_is_the_plain_model_after_any_calls",
)


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The backend, one process for all tests: it takes seconds to start.

    A command starts it in an empty folder, as ssh would on another machine: what it runs comes through the pipe.
    """
    if not peer_python().is_file():
        absent(f"no {peer_python()}: run `make peers` to compare with Hugging Face transformers")
    folder = shlex.quote(str(tmp_path_factory.mktemp("there")))
    one = "OMP_NUM_THREADS=1"  # for models of a few channels more threads are slower
    backend = get_backend(f"torch:env -i -C {folder} {one} {shlex.quote(str(peer_python().absolute()))}")
    assert isinstance(backend, TorchPeer)
    yield backend
    backend.peer.end()


def test_it_says_what_it_is(torch: Backend) -> None:
    assert (torch.device, torch.dtype, torch.mode) == ("CPU", "float32", "eager")
    assert torch.name.startswith("torch:env -i ")
    assert "PyTorch" in torch.version  # type: ignore[attr-defined]
    assert set(torch.accuracy) == {"exp", "sigmoid", "tanh", "erf", "log"}


@pytest.mark.parametrize("name", CHECKED)
def test_the_judge_agrees(name: str, torch: Backend) -> None:
    result = check_rule(rules()[name], torch, 3)
    assert result.agrees, result.to_dict()
    assert result.cases


def test_only_what_it_offers_is_judged(torch: Backend) -> None:
    chosen = select((), torch)
    assert set(CHECKED) <= set(chosen)
    assert not any(rule.trains or rule.group for rule in chosen.values())
    assert "optim.adamw" not in chosen


def test_its_stages_are_seen_and_replaced(torch: Backend) -> None:
    """From the embeddings to the scores, in the order of the pass, each wrong where it was given wrong."""
    given = parameters()
    stages = blame(torch, SMALL, given, IDS)
    assert first_wrong(stages) is None
    assert [stage.name for stage in stages][:4] == ["wte", "wpe", "embeddings", "h.0.ln_1"]
    assert {"h.1.attn.qkv", "h.1.mlp.gelu_new", "h.1.attn_residual", "ln_f", "logits"} <= {s.name for s in stages}
    model, zero = torch.model(SMALL, given), np.zeros((2, 4, 16), np.float32)
    right = model.stages(IDS)
    changed = model.stages(IDS, None, None, {"h.1.ln_1": zero})
    assert np.array_equal(right["h.1.ln_1"], changed["h.1.ln_1"])
    assert not np.array_equal(right["h.1.attn.qkv"], changed["h.1.attn.qkv"])
    assert np.array_equal(changed["h.1.attn.qkv"], np.broadcast_to(given["h.1.attn.c_attn.bias"], (2, 4, 48)))


def test_it_writes_what_numpy_writes(torch: Backend) -> None:
    import gpt2

    models = [gpt2.load("tiny", backend=backend) for backend in (NumPyBackend(), torch)]
    prompt = models[0].encode("reverse: spore\n")
    for options in ({}, {"num_beams": 3}, {"temperature": 1.0, "seed": 4, "num_return_sequences": 3}):
        first, second = (model.generate(prompt, max_new_tokens=8, **options) for model in models)
        assert np.array_equal(first, second)


def test_it_does_not_train(torch: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt2.training import run as training

    monkeypatch.setattr(training, "get_backend", lambda *_, **__: torch)
    (tmp_path / "text.txt").write_text("what is not read\n" * 100)
    settings = {"data": tmp_path / "text.txt", "output": tmp_path / "run", "steps": "1"}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert "does not train: choose another one" in run("train", *options, "--backend", "torch").refusal
