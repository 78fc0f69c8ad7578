"""What troubleshooter wrote, arrays named by stage, and what gpt2.record wrote are read into the same form."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from parity.recorded.read import read_recording
from parity.recorded.recording import Recording
from parity.recorded.stage_files import is_stage
from parity.verdict.stages import stage_axes
from reference.config import nest
from reference.model import language_model
from reference.stages import keep_in, observing
from tests.gpt2.small import SMALL, parameters
from tests.parity.recorded.test_msprobe import all_tensors, refusal
from tests.parity.recorded.written import numbers


def read(path: Path) -> Recording:
    """The recording, of which every tensor with numbers can be read."""
    recording = read_recording(path)
    for tensor in all_tensors(recording):
        if tensor.has_numbers:
            tensor.numbers()
    return recording


def stage_folder(folder: Path, prefix: str = "") -> Path:
    folder.mkdir()
    np.save(folder / f"{prefix}h.0.attn.q.npy", numbers(1, 2, 3, 4))
    np.save(folder / f"{prefix}input_ids.npy", np.arange(3)[None])
    return folder


def test_a_folder_of_stages(tmp_path: Path) -> None:
    folder = stage_folder(tmp_path / "stages")
    np.save(folder / "h.1.atn.k.npy", numbers(2))
    np.save(folder / "wte.npy", numbers(2, 2).astype(ml_dtypes.bfloat16))
    recording = read(folder)
    (run,) = recording.runs
    assert {name: (x.dtype, x.shape) for name, x in run.stages.items()} == {
        "h.0.attn.q": ("float32", (1, 2, 3, 4)),
        "ids": ("int64", (1, 3)),
        "wte": ("bfloat16", (2, 2)),
    }
    assert recording.notes == ("'h.1.atn.k' is no stage: is 'h.1.attn.k' meant?",)


def test_an_archive_of_stages(tmp_path: Path) -> None:
    path = tmp_path / "stages.npz"
    np.savez(path, **{"h.0.attn.q": numbers(1, 2, 3, 4).transpose(0, 2, 1, 3)})
    (run,) = read(path).runs
    assert run.stages["h.0.attn.q"].numbers().tolist() == numbers(1, 2, 3, 4).transpose(0, 2, 1, 3).tolist()
    np.savez(path, q=numbers(2))
    assert "'q' is no stage" in refusal(path)
    path.write_bytes(path.read_bytes()[:100])
    assert "is not a readable .npz" in refusal(path)
    np.savez(path, **{"h.0.attn.q": np.array([print], object)})
    assert "nothing was run" in refusal(path)


@pytest.mark.parametrize("name", ["attn.q", "h.x.attn.q", "h.0.wte", "h.0", "mlp.gelu", "H.0.attn.q"])
def test_names_of_no_stage(name: str) -> None:
    assert not is_stage(name)


@pytest.mark.parametrize("name", ["logits", "h.11.mlp.gelu_new", "h.0.attn.masked_scores", "h.0.attn_residual"])
def test_names_of_stages(name: str) -> None:
    assert is_stage(name)
    assert stage_axes(name)


def test_what_ts_save_wrote(tmp_path: Path) -> None:
    folder = stage_folder(tmp_path / "saved", "0_")
    np.save(folder / "10_h.0.attn.q.npy", numbers(1, 2, 3, 4, seed=1))
    recording = read(folder)
    assert (recording.kind, [run.place for run in recording.runs]) == ("troubleshooter", ["step 0", "step 1"])
    assert [sorted(run.stages) for run in recording.runs] == [["h.0.attn.q", "ids"], ["h.0.attn.q"]]
    assert recording.runs[1].stages["h.0.attn.q"].numbers()[0, 0, 0, 0] == numbers(1, seed=1)[0]


def api_dump(folder: Path) -> Path:
    """What api_dump writes of ops.matmul(x, y), whose gradient was taken, and of a call with a list."""
    data = folder / "rank0" / "mindspore_api_dump"
    data.mkdir(parents=True)
    lines = []
    for name in ("input.0", "input.1", "output"):
        lines.append((f"Functional_matmul_0_forward_{name}", numbers(2, 2)))
    lines.append(("Tensor___add___1_forward_input.1.0", numbers(2)))
    lines.append(("Functional_matmul_0_backward_input", numbers(2, 2)))
    with (folder / "rank0" / "mindspore_api_dump_info.pkl").open("w") as file:
        for name, x in lines:
            np.save(data / f"{name}.npy", x)
            file.write(json.dumps([name, 1, [], "Float32", x.shape, [float(x.max()), float(x.min()), []]]) + "\n")
    stack = {"Functional_matmul_0_forward": ["File /home/me/run.py, line 3, in construct, \n ops.matmul(x, y)"]}
    (folder / "rank0" / "mindspore_api_dump_stack.json").write_text(json.dumps(stack))
    return folder


@pytest.mark.parametrize("inner", ["", "rank0", "rank0/mindspore_api_dump"])
def test_what_api_dump_wrote(inner: str, tmp_path: Path) -> None:
    api_dump(tmp_path)
    recording = read(tmp_path / inner)
    (run,) = recording.runs
    assert (recording.kind, run.framework) == ("troubleshooter", "mindspore")
    matmul, add, gradient = run.calls
    assert (matmul.operator, matmul.number, matmul.is_complete, len(matmul.arguments)) == ("matmul", 0, False, 2)
    assert matmul.stack == ("File /home/me/run.py, line 3, in construct, ops.matmul(x, y)",)
    assert (add.operator, add.number, add.arguments[0]) == ("__add__", 1, None)
    assert gradient.is_backward
    assert matmul.results[0].statistics.max == numbers(2, 2).max()
    assert "is not known" in recording.notes[0]


def test_damaged_api_dumps(tmp_path: Path) -> None:
    folder = api_dump(tmp_path)
    info = folder / "rank0" / "mindspore_api_dump_info.pkl"
    good = info.read_bytes()
    for bad in (b"\x80\x04.", b"[1, 2]\n", b'["a", 1, [], "Float32", [-2], []]\n', b"[" * 9999):
        info.write_bytes(bad)
        assert "info.pkl, line 1" in refusal(folder)
    info.write_bytes(good.replace(b"[2, 2]", b"[2, 3]"))
    assert "as the recording says" in refusal(folder)
    info.write_bytes(good.replace(b"input.0", b"input.9999"))
    assert "more than 1,000 arguments" in refusal(folder)


def test_what_the_reference_observes_is_named_by_stages() -> None:
    seen: dict[str, np.ndarray] = {}
    with observing(keep_in(seen)):
        language_model(nest(parameters()), np.array([[1, 2]]), SMALL)
    assert seen
    assert all(map(is_stage, seen))


def test_a_recorder_s_index_is_not_trusted(tmp_path: Path) -> None:
    call = {"name": "n", "path": "", "class": "c", "number": 0, "parent": "", "keywords": {}, "parameters": {}}
    index = {"format": "gpt2.record", "version": 1, "framework": "pytorch"}

    def said(argument: object, **other: object) -> str:
        entry = call | {"arguments": [argument], "results": []}
        (tmp_path / "calls.json").write_text(json.dumps(index | {"calls": [entry]} | other))
        return refusal(tmp_path)

    tensor = {"file": "0.npy", "dtype": "float32", "shape": [2]}
    assert "is missing" in said(tensor)
    assert "no plain name" in said(tensor | {"file": "../0.npy"})
    assert "'float4'" in said(tensor | {"dtype": "float4"})
    assert "version 1, is what can be read" in said(tensor, version=2)
    assert "has no field 'file'" in said({"x": 1})
    np.save(tmp_path / "0.npy", numbers(3))
    assert "as the recording says" in said(tensor)
    nested: list[object] = []
    for _ in range(99):
        nested = [nested]
    assert "lists within lists" in said(nested)
