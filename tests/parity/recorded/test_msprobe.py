"""Dumps of msprobe are read as they are; damaged and hostile ones end in one line, and nothing in them is executed."""

import json
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpt2.errors import GPT2Error
from parity.recorded.read import read_recording
from parity.recorded.recording import RecordedTensor, Recording, tensors
from tests.parity.recorded.written import Dump, linear_dump, numbers

DUMPS = Path(__file__).parents[4] / "shared" / "dumps"
FRAMEWORKS = ("mindspore", "pytorch")
MATMUL = "Functional.matmul.0.forward"
in_both = pytest.mark.parametrize("framework", FRAMEWORKS)


def all_tensors(recording: Recording) -> list[RecordedTensor]:
    """Every tensor of a recording."""
    found: list[RecordedTensor] = []
    for run in recording.runs:
        for call in run.calls:
            found += tensors([call.arguments, call.keywords, call.results, call.parameters])
        found += [*run.parameter_gradients.values(), *run.stages.values()]
    return found


def refusal(path: Path) -> str:
    """What is said of a dump that cannot be read, or not all of its tensors."""
    with pytest.raises(GPT2Error) as caught:
        [tensor.numbers() for tensor in all_tensors(read_recording(path))]
    said = str(caught.value)
    assert said.isprintable()  # one line
    return said


@pytest.mark.skipif(not DUMPS.exists(), reason="the real dumps are not part of the repository")
@pytest.mark.parametrize(("name", "count"), [("pt_mix_tensor", 498), ("ms_mix_tensor", 482)])
def test_a_real_dump_is_read_to_its_last_tensor(name: str, count: int) -> None:
    recording = read_recording(DUMPS / name)
    (run,) = recording.runs
    assert (recording.kind, recording.notes, run.level, run.task, run.place) == ("msprobe", (), "mix", "tensor", "")
    found = all_tensors(recording)
    for tensor in found:
        x = tensor.numbers()
        assert (x.shape, x.dtype.name) == (tensor.shape, tensor.dtype)
        if tensor.statistics.max is not None:
            assert x.max() == np.asarray(tensor.statistics.max, x.dtype)
    assert len(found) == count
    with np.load(next((DUMPS / name).glob("gradients.npz"), DUMPS / "pt_mix_tensor" / "weights.npz")) as held:
        gradients = {key: held[key] for key in held.files if key in run.parameter_gradients}
    if name == "ms_mix_tensor":
        assert all(np.array_equal(run.parameter_gradients[key].numbers(), x) for key, x in gradients.items())
        assert len(gradients) > 20
    calls = {call.name: call for call in run.calls}
    assert all(call.parent in calls for call in calls.values() if call.parent)
    assert any(call.stack for call in calls.values())


@in_both
def test_what_was_dumped_is_read(framework: str, tmp_path: Path) -> None:
    linear_dump(tmp_path / "step0" / "rank0", framework)
    (run,) = read_recording(tmp_path).runs
    operator, module = run.calls
    assert (run.framework, operator.operator, operator.path, operator.parent) == (framework, "matmul", "", module.name)
    assert (module.operator, module.path, module.is_module, module.parent) == ("Conv1D", "h.0.c_fc", True, "")
    assert operator.arguments[1] == 1
    assert module.stack[0] == "File /home/me/run.py, line 7, in forward, y = self.c_fc(x)"
    assert np.array_equal(module.parameters["weight"].numbers(), numbers(3, 4))
    assert module.parameters["weight"].source.startswith("step0/rank0/dump_tensor_data/")


@pytest.mark.parametrize("inner", ["", "step1", "step1/rank0", "step1/rank0/dump_tensor_data", "step1/rank0/dump.json"])
def test_any_folder_of_it_may_be_given(inner: str, tmp_path: Path) -> None:
    linear_dump(tmp_path / "step1" / "rank0")
    (run,) = read_recording(tmp_path / inner).runs
    assert (run.step, run.rank, len(run.calls)) == (1, 0, 2)
    assert run.calls[0].results[0].numbers().shape == (2, 4)


def test_steps_and_ranks_are_runs_of_one_recording(tmp_path: Path) -> None:
    for place in ("step10/rank0", "step2/rank1", "step2/rank0", "pynative/step3/proc77", "pynative/step3/proc9"):
        linear_dump(tmp_path / place)
    runs = read_recording(tmp_path).runs
    assert sorted((run.step, run.rank) for run in runs) == [(2, 0), (2, 1), (3, 0), (3, 1), (10, 0)]
    assert [run.place for run in runs if run.step != 3] == ["step 2, rank 0", "step 2, rank 1", "step 10, rank 0"]
    assert len({run.place for run in runs}) == 5


def test_what_requires_a_gradient_is_read(tmp_path: Path) -> None:
    dump = Dump(tmp_path, "pytorch")
    dump.call(MATMUL, numbers(2, 3), numbers(2, 3), weight=numbers(3, 3), bias=numbers(3))
    for name, said in (("weight", True), ("bias", False)):
        dump.data[MATMUL]["parameters"][name]["requires_grad"] = said
    (call,) = read_recording(dump.write()).runs[0].calls
    assert [call.parameters[name].requires_grad for name in ("weight", "bias")] == [True, False]
    assert call.parameters["weight"].has_numbers


def test_values_that_are_no_tensors(tmp_path: Path) -> None:
    dump = Dump(tmp_path)
    plain: dict[str, tuple[Any, Any]] = {
        "none": (None, None),
        "slice": ({"type": "slice", "value": [0, None, 2]}, slice(0, None, 2)),
        "ellipsis": ({"type": "ellipsis", "value": "..."}, ...),
        "float": ({"type": "float", "value": float("-inf")}, float("-inf")),
        "of numpy": ({"type": "float32", "value": 0.5}, 0.5),
        "text": ({"type": "str", "value": "tanh"}, "tanh"),
        "dtype": ({"type": "torch.dtype", "value": "torch.float16"}, "float16"),
        "of mindspore": ({"type": "mindspore.dtype", "value": "Int32"}, "int32"),
        "size": ({"type": "torch.Size", "value": [2, 3]}, (2, 3)),
        "list": ([{"type": "int", "value": 1}, [None]], [1, [None]]),
        "dict": ({"first": {"type": "bool", "value": True}}, {"first": True}),
        "device": ({"type": "torch.device", "value": "npu:0"}, "npu:0"),
    }
    written = {name: given for name, (given, _) in plain.items()}
    dump.data[MATMUL] = {"input_args": list(written.values()), "input_kwargs": written, "output": []}
    (call,) = read_recording(dump.write()).runs[0].calls
    assert call.keywords == {name: expected for name, (_, expected) in plain.items()}
    assert list(call.arguments) == list(call.keywords.values())


def test_backward_calls_and_gradients_of_parameters(tmp_path: Path) -> None:
    dump = Dump(tmp_path)
    x = numbers(2, 3)
    dump.data["Cell.ln_f.Norm.backward.1"] = {"input": [dump.tensor(x, "a")], "output": [dump.tensor(x, "b"), None]}
    dump.data["Cell.ln_f.Norm.parameters_grad.0"] = {"weight": [dump.tensor(x, "c")], "bias": None}
    (run,) = read_recording(dump.write()).runs
    (call,) = run.calls
    assert (call.is_backward, call.number, call.results[1]) == (True, 1, None)
    assert list(run.parameter_gradients) == ["ln_f.weight"]


def test_bfloat16_that_msprobe_widened_is_narrow_again(tmp_path: Path) -> None:
    dump = Dump(tmp_path)
    x = numbers(3, 4).astype(ml_dtypes.bfloat16)
    x[0, 0], x[1, 1] = np.nan, np.inf
    dump.call(MATMUL, x, x)
    found = read_recording(dump.write()).runs[0].calls[0].results[0].numbers()
    assert found.dtype == x.dtype
    assert np.array_equal(found.astype(np.float32), x.astype(np.float32), equal_nan=True)
    np.save(dump.file(f"{MATMUL}.output.0.npy"), numbers(3, 4))
    assert "should hold bfloat16 of shape [3, 4]" in refusal(tmp_path)


def test_statistics_alone_and_checksums(tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    shutil.rmtree(tmp_path / "dump_tensor_data")
    dump.data[MATMUL]["input_args"][0] |= {"Max": "NaN", "Min": "-inf", "Mean": None, "Norm": float("nan")}
    dump.data[MATMUL]["output"][0] = {"type": "torch.Tensor", "dtype": "torch.int8", "shape": [4], "md5": "0badcafe"}
    dump.write()
    recording = read_recording(tmp_path)
    x, y = (
        tensor.statistics
        for tensor in tensors([recording.runs[0].calls[0].arguments, recording.runs[0].calls[0].results])
    )
    assert [repr(x.max), repr(x.norm)] == ["nan", "nan"]
    assert (x.min, x.mean, y.md5) == (-np.inf, None, "0badcafe")
    assert not any(tensor.has_numbers for tensor in all_tensors(recording))
    assert recording.notes == ("there is no dump_tensor_data: statistics are all that can be judged",)


@pytest.mark.parametrize("name", ["construct.json", "stack.json"])
def test_without_a_side_file_there_is_a_note(name: str, tmp_path: Path) -> None:
    linear_dump(tmp_path)
    (tmp_path / name).unlink()
    (note,) = read_recording(tmp_path).notes
    assert note.startswith(f"there is no {name}: ")


def test_what_is_no_call_is_noted(tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    dump.data |= {"Functional.softmax": {}, "\x1b[2Jforward.0.forward": {}}
    dump.data[MATMUL]["output"][0]["dtype"] = "Float8E4M3FN"
    recording = read_recording(dump.write())
    assert len(recording.runs[0].calls) == 2
    assert recording.notes == (
        "2 of its names are no calls, and were left out: 'Functional.softmax', '\\x1b[2Jforward.0.forward'",
        "1 value of dtype 'Float8E4M3FN', not read here",
    )


@in_both
def test_nan_everywhere_is_data(framework: str, tmp_path: Path) -> None:
    dump = Dump(tmp_path, framework)
    x = np.full((2, 3), np.nan, np.float32)
    dump.call(MATMUL, x, x)
    assert np.isnan(read_recording(dump.write()).runs[0].calls[0].results[0].numbers()).all()


@in_both
def test_a_missing_file(framework: str, tmp_path: Path) -> None:
    dump = linear_dump(tmp_path, framework)
    dump.file(dump.data[MATMUL]["output"][0]["data_name"]).unlink()
    assert "is missing, though the recording names it" in refusal(tmp_path)


@in_both
@pytest.mark.parametrize("cut", [0, 5, 60, -1])
def test_a_file_that_is_cut_off(framework: str, cut: int, tmp_path: Path) -> None:
    dump = linear_dump(tmp_path, framework)
    file = dump.file(dump.data[MATMUL]["output"][0]["data_name"])
    file.write_bytes(file.read_bytes()[:cut])
    assert file.name in refusal(tmp_path)


@in_both
@pytest.mark.parametrize("change", [{"shape": [4, 2]}, {"shape": [2, 4, 1]}, {"dtype": "Float64"}, {"dtype": "Int32"}])
def test_a_tensor_that_is_not_what_was_promised(framework: str, change: dict[str, Any], tmp_path: Path) -> None:
    dump = linear_dump(tmp_path, framework)
    dump.data[MATMUL]["output"][0] |= change
    dump.write()
    assert "as the recording says, but holds float32 of shape [2, 4]" in refusal(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-1]},
        {"shape": "2, 4"},
        {"shape": [2.5]},
        {"dtype": 3},
        {"Max": "high"},
        {"Min": []},
        {"data_name": 7},
    ],
)
def test_a_tensor_that_is_none(change: dict[str, Any], tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    dump.data[MATMUL]["output"][0] |= change
    dump.write()
    assert MATMUL in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../x.npy", "..", "/etc/passwd", "a/b.npy", "a\\b.npy", "C:x", "x\x00", "x\ny", ""])
def test_a_name_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    dump.data[MATMUL]["output"][0]["data_name"] = name
    dump.write()
    assert "which is no plain name; nothing was opened" in refusal(tmp_path)


@pytest.mark.parametrize("what", ["file", "folder", "dump.json", "stack.json"])
def test_a_link_that_leads_elsewhere(what: str, tmp_path: Path) -> None:
    dump = linear_dump(tmp_path / "dump")
    inside = {
        "file": dump.file(f"{MATMUL}.output.0.npy"),
        "folder": dump.folder / "dump_tensor_data",
    }.get(what, dump.folder / what)
    outside = tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    assert "leads out of the recorded folder" in refusal(dump.folder)


def test_a_link_to_itself_a_folder_and_a_pipe(tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    file = dump.file(f"{MATMUL}.output.0.npy")
    file.unlink()
    file.symlink_to(file)
    assert file.name in refusal(tmp_path)
    file.unlink()
    file.mkdir()
    assert "is no file" in refusal(tmp_path)
    file.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(file)
        assert "is no file" in refusal(tmp_path)


class Runs:
    """What would run code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("echo it ran > ran",)


@in_both
def test_a_pickle_is_not_obeyed(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dump = linear_dump(tmp_path / "dump", framework)
    file = dump.file(dump.data[MATMUL]["output"][0]["data_name"])
    if framework == "pytorch":
        file.write_bytes(pickle.dumps(Runs()))
        said = "system"
    else:
        np.save(file, np.array([Runs()], object), allow_pickle=True)
        said = "holds Python objects, a pickle that could run code; nothing was run"
    assert said in refusal(tmp_path / "dump")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (
            b'{"task": "tensor", "level": "L1", "data": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_001,
            "is not valid JSON",
        ),
        (b'{"task": 1, "task": 2}', "'task' is there twice"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[]", "must be an object"),
        (b'{"task": "tensor", "level": "L1"}', "has no field 'data'"),
        (b'{"task": "tensor", "level": "L1", "data": []}', "'data' must be an object"),
        (b'{"task": "", "level": "", "data": {"Torch.a.0.forward": {"input_args": 3}}}', "'input_args' must be a list"),
        (
            b'{"task": "", "level": "", "data": {"Torch.a.0.forward": {"output": ' + b"[" * 99 + b"]" * 99 + b"}}}",
            "lists within lists",
        ),
    ],
)
def test_a_damaged_dump_json(text: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "dump.json").write_bytes(text)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize("field", ["input_kwargs", "parameters"])
def test_keywords_that_look_like_a_value(field: str, tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    dump.data[MATMUL][field] = {"type": "slice", "value": [0, 1, 2]}
    (call, _) = read_recording(dump.write()).runs[0].calls
    assert call.keywords == (dump.data[MATMUL][field] if field == "input_kwargs" else {})


@pytest.mark.parametrize("content", [{}, {"0": 3}, {"0": [[3], [4]]}, {"0": [[], 4]}, {"a": [None]}, {"0": [[[]], {}]}])
def test_odd_side_files_say_nothing(content: dict[str, Any], tmp_path: Path) -> None:
    linear_dump(tmp_path)
    for name in ("construct.json", "stack.json"):
        (tmp_path / name).write_text(json.dumps(content))
    assert all(not call.parent and not call.stack for call in read_recording(tmp_path).runs[0].calls)


def test_what_is_no_recording(tmp_path: Path) -> None:
    assert "is no recorded run" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "absent")
    (tmp_path / "step0").symlink_to(tmp_path)
    assert "is no recorded run" in refusal(tmp_path)


def test_many_calls_take_seconds(tmp_path: Path) -> None:
    dump = linear_dump(tmp_path)
    one = json.dumps(dump.data[MATMUL])
    calls = ", ".join(f'"Functional.matmul.{i}.forward": {one}' for i in range(20_000))
    (tmp_path / "dump.json").write_text(f'{{"task": "tensor", "level": "L1", "data": {{{calls}}}}}')
    start = time.process_time()
    assert len(read_recording(tmp_path).runs[0].calls) == 20_000
    assert time.process_time() - start < 20  # two here; it grows as their number does
