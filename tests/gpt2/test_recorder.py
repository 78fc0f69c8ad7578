"""gpt2.record writes what a model of somebody's is given and returns, and nothing if it cannot be whole."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2
from benchmarks.peers.client import peer_python
from gpt2.errors import GPT2Error
from parity.recorded.read import read_recording
from parity.recorded.recording import RecordedRun, tensors
from tests.peers.conftest import absent


def mindspore_model() -> Any:
    """A linear layer and a norm, with an option and a dict among the results."""
    ms = pytest.importorskip("mindspore")
    ms.set_context(mode=ms.PYNATIVE_MODE)

    class Block(ms.nn.Cell):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.c_fc, self.ln = ms.nn.Dense(4, 4), ms.nn.LayerNorm((4,))

        def construct(self, x: Any, scale: float = 1.0) -> Any:
            return self.ln(self.c_fc(x)) * scale, {"x": x, "past": None}

    return Block(), ms.Tensor(np.arange(24, dtype=np.float32).reshape(2, 3, 4))


@pytest.fixture
def model_and_input() -> Any:
    return mindspore_model()


def wide(x: Any) -> Any:
    """A tensor's numbers in float32."""
    return x.detach().float().numpy() if hasattr(x, "detach") else x.asnumpy()


def run_in(folder: Path) -> RecordedRun:
    (run,) = read_recording(folder).runs
    return run


def test_every_submodule_is_recorded(model_and_input: Any, tmp_path: Path) -> None:
    model, x = model_and_input
    with gpt2.record(model, tmp_path / "recorded"):
        expected = model(x, scale=2.0)
    run = run_in(tmp_path / "recorded")
    c_fc, ln, whole = run.calls
    assert [call.path for call in run.calls] == ["c_fc", "ln", ""]
    assert c_fc.parent == ln.parent == whole.name
    assert whole.keywords == {"scale": 2.0} or whole.arguments[1] == 2.0
    assert np.array_equal(whole.results[0].numbers().astype(np.float32), wide(expected[0]))
    assert whole.results[1]["past"] is None
    assert np.array_equal(c_fc.parameters["weight"].numbers().astype(np.float32), wide(model.c_fc.weight))
    assert all(
        each.numbers().shape == each.shape for call in run.calls for each in tensors([call.arguments, call.results])
    )
    model(x)  # the hooks are gone
    assert len(run_in(tmp_path / "recorded").calls) == 3


def test_a_block_that_raises_leaves_nothing(model_and_input: Any, tmp_path: Path) -> None:
    model, x = model_and_input

    def fail() -> None:
        with gpt2.record(model, tmp_path / "recorded"):
            model(x)
            raise FileNotFoundError("of mine")

    with pytest.raises(FileNotFoundError, match="of mine"):
        fail()
    assert not list(tmp_path.iterdir())


def test_without_a_forward_pass(model_and_input: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(GPT2Error, match="no forward pass was recorded"),
        gpt2.record(model_and_input[0], tmp_path / "new"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused(model_and_input: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(GPT2Error, match="not an empty folder"), gpt2.record(model_and_input[0], folder):
            pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"a torch\.nn\.Module or a mindspore.*not a dict"), gpt2.record({}, tmp_path):
        pass


IN_PYTORCH = """
import sys
from pathlib import Path
import numpy as np
import torch
import gpt2
from parity.recorded.read import read_recording

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc, self.ln = torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)

    def forward(self, x, *, scale=1.0):
        return self.ln(self.c_fc(x)) * scale, {"x": x, "past": None}

model = Block().to(torch.bfloat16)
x = torch.arange(24).reshape(2, 3, 4).to(torch.bfloat16)
with gpt2.record(model, sys.argv[1]):
    expected, _ = model(x, scale=2.0)
(run,) = read_recording(Path(sys.argv[1])).runs
c_fc, ln, whole = run.calls
found = whole.results[0].numbers()
assert np.array_equal(found.astype(np.float32), expected.detach().float().numpy())
print([call.path for call in run.calls], whole.keywords, found.dtype, ln.parent == whole.name)
"""


def test_a_pytorch_module_is_recorded_to_the_bit(tmp_path: Path) -> None:
    if not peer_python().is_file():
        absent(f"no {peer_python()}: run `make peers` to record a PyTorch module")
    command = [str(peer_python()), "-c", IN_PYTORCH, str(tmp_path / "recorded")]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert ran.stdout == "['c_fc', 'ln', ''] {'scale': 2.0} bfloat16 True\n", ran.stderr
