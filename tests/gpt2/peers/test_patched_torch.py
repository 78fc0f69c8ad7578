"""A bug in a copy of transformers' GPT-2 is blamed at the stage that it is in."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.client import peer_python
from gpt2.peers.backend import Peer, TorchPeer
from gpt2.peers.process import PeerProcess, source
from gpt2.peers.subjects import FILES
from parity.diagnosis.blame import blame, first_wrong
from tests.gpt2.small import SMALL, parameters
from tests.peers.conftest import absent

pytestmark = pytest.mark.peer
IDS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
TRANSPOSED = """type("Conv1D", (Conv1D,), {
    "forward": lambda self, x: torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight.T).view(x.shape)
})(self.embed_dim, self.embed_dim)"""
# What is wrong, the text of transformers, what takes its place, and the first stage that is wrong.
BUGS = {
    "the mask lets a token see the next one": (
        "attn_weights = attn_weights + attention_mask",
        "attn_weights = attn_weights + attention_mask.triu(2)",
        "h.0.attn.merged",
    ),
    "gelu by erf": ("ACT2FN[config.activation_function]", 'ACT2FN["gelu"]', "h.0.mlp.gelu_new"),
    "scores are not scaled": ("key.transpose(-1, -2)) * scaling", "key.transpose(-1, -2))", "h.0.attn.merged"),
    "positions are shifted": ("self.wpe(position_ids)", "self.wpe(position_ids + 1)", "wpe"),
    "another epsilon": (
        "self.ln_2 = nn.LayerNorm(hidden_size, eps=config.layer_norm_epsilon)",
        "self.ln_2 = nn.LayerNorm(hidden_size, eps=1e-6)",
        "h.0.ln_2",
    ),
    "a weight is transposed": (
        "self.c_proj = Conv1D(self.embed_dim, self.embed_dim)",
        f"self.c_proj = {TRANSPOSED}",
        "h.0.attn.c_proj",
    ),
}


@pytest.fixture(scope="module")
def torch() -> Iterator[TorchPeer]:
    """One process for all bugs: it takes seconds to start."""
    if not peer_python().is_file():
        absent(f"no {peer_python()}: run `make peers` to compare with Hugging Face transformers")
    files = [*FILES["torch"], Path(__file__).with_name("patched_torch.py")]
    modules, command = [source(file) for file in files], [str(peer_python().absolute())]
    backend = TorchPeer(Peer("torch", lambda: PeerProcess("torch", command, modules, {})), files[-1])
    yield backend
    backend.peer.end()


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_blamed_at_its_stage(bug: str, torch: TorchPeer) -> None:
    old, new, stage = BUGS[bug]
    # Rows so near to zero that an epsilon counts.
    given = {name: x / 100 if re.match(r"wte|wpe|h\..*\.c_proj", name) else x for name, x in parameters().items()}
    torch.peer.process.ask("plant", old, old)
    assert first_wrong(blame(torch, SMALL, given, IDS)) is None
    torch.peer.process.ask("plant", old, new)
    wrong = first_wrong(blame(torch, SMALL, given, IDS))
    assert wrong is not None
    assert wrong.name == stage
