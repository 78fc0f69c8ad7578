"""gpt2.record writes what a model of somebody's is given and returns, and nothing if it cannot be whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2
from gpt2.errors import GPT2Error
from parity.recorded.read import read_recording
from parity.recorded.recording import RecordedRun, tensors


def torch_model() -> Any:
    """A linear layer and a norm, in bfloat16, with a keyword and a dict among the results."""
    torch = pytest.importorskip("torch", reason="PyTorch is in another environment")

    class Block(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.c_fc, self.ln = torch.nn.Linear(4, 4), torch.nn.LayerNorm(4)

        def forward(self, x: Any, *, scale: float = 1.0) -> Any:
            return self.ln(self.c_fc(x)) * scale, {"x": x, "past": None}

    return Block().to(torch.bfloat16), torch.arange(24).reshape(2, 3, 4).to(torch.bfloat16)


def mindspore_model() -> Any:
    """The same in MindSpore, in float32."""
    ms = pytest.importorskip("mindspore")
    ms.set_context(mode=ms.PYNATIVE_MODE)

    class Block(ms.nn.Cell):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.c_fc, self.ln = ms.nn.Dense(4, 4), ms.nn.LayerNorm((4,))

        def construct(self, x: Any, scale: float = 1.0) -> Any:
            return self.ln(self.c_fc(x)) * scale, {"x": x, "past": None}

    return Block(), ms.Tensor(np.arange(24, dtype=np.float32).reshape(2, 3, 4))


@pytest.fixture(params=[torch_model, mindspore_model], ids=["pytorch", "mindspore"])
def model_and_input(request: pytest.FixtureRequest) -> Any:
    return request.param()


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
