"""What torch.save wrote is read bit for bit, and nothing in it is ever executed."""

import collections
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2
from gpt2.backends import numpy_dtype
from gpt2.model import pytorch_bin
from gpt2.model.pytorch_bin import open_pickle
from gpt2.model.tensors import PICKLED, PICKLED_INDEX, WEIGHTS
from tests.gpt2.command import run
from tests.gpt2.conftest import examples
from tests.gpt2.model.test_hf_folder import bits, read
from tests.gpt2.model.torch_files import (
    KINDS,
    Parameter,
    Storage,
    Tensor,
    pickled,
    save,
    save_as_of_old,
    state,
    tensor,
    write_archive,
)
from tests.gpt2.small import folder_of, parameters

WAYS: dict[str, Callable[..., Path]] = {"now": save, "of old": save_as_of_old}
each_way = pytest.mark.parametrize("way", WAYS)


def pickled_folder(path: Path) -> Path:
    """A folder whose weights are still to be written."""
    folder = folder_of(path)
    (folder / WEIGHTS).unlink()
    return folder


@each_way
@pytest.mark.parametrize("name", [PICKLED, "model.pt", "weights.pth"])
def test_a_pickled_folder_is_the_same_model(way: str, name: str, tmp_path: Path) -> None:
    folder = pickled_folder(tmp_path / "folder")
    named = {f"transformer.{each}": x for each, x in parameters().items()}
    mask = {"transformer.h.0.attn.bias": np.ones((1, 1, 2, 2), np.uint8)}
    WAYS[way](folder / name, state(named | mask | {"lm_head.weight": named["transformer.wte.weight"]}))
    (folder / "training_args.bin").write_bytes(b"what transformers' Trainer writes")
    assert bits(read(folder)) == bits(parameters())


@each_way
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "bool", "uint8"])
def test_every_dtype_is_read_bit_for_bit(way: str, dtype: str, tmp_path: Path) -> None:
    kind = numpy_dtype(dtype) if "float" in dtype else np.dtype(dtype)
    x = np.arange(12).reshape(3, 4).astype(kind)
    found = open_pickle(WAYS[way](tmp_path / "x.pt", state({"x": x, "one": x[0, 0], "none": x[:0]})))
    assert bits({name: each() for name, each in found.items()}) == bits({"x": x, "one": x[0, 0], "none": x[:0]})
    assert dtype in KINDS


@each_way
def test_views_and_parameters_of_one_storage(way: str, tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    shared = Storage(x, "0")
    tree = {
        "turned": Tensor(shared, 0, (6, 4), (1, 6)),
        "part": Tensor(shared, 7, (2, 3), (6, 1)),
        "trained": Parameter(shared, 0, (4, 6), (6, 1)),
    }
    found = {name: each() for name, each in open_pickle(WAYS[way](tmp_path / "x.pt", tree)).items()}
    assert bits(found) == bits({"turned": np.ascontiguousarray(x.T), "part": x[1:3, 1:4].copy(), "trained": x})


@each_way
def test_a_view_keeps_its_own_numbers_alone(way: str, tmp_path: Path) -> None:
    shared = Storage(np.zeros(24, np.float32), "0")
    tree = {"rows": Tensor(shared, 6, (2, 6), (6, 1)), "all": Tensor(shared, 0, (24,), (1,))}
    for each in open_pickle(WAYS[way](tmp_path / "x.pt", tree)).values():
        x = each()
        assert x.base is None
        x[0] = 1.0  # may be written to


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("place", ["", "model", "state_dict", "model_state_dict", "module"])
def test_the_state_is_found_where_projects_keep_it(protocol: int, place: str, tmp_path: Path) -> None:
    inner = state({"wte.weight": np.ones((2, 3), np.float32)})
    more = {
        "iter_num": 5,
        "config": {"lr": 1e-3, "names": ["a", None, True]},
        "best_val_loss": tensor(np.ones(()), "9"),
    }
    found = open_pickle(save(tmp_path / "x.pt", {place: inner} | more if place else inner, protocol))
    assert list(found) == ["wte.weight"]


def test_shards_with_an_index(tmp_path: Path) -> None:
    folder, tensors = pickled_folder(tmp_path / "folder"), parameters()
    shards = {name: f"pytorch_model-0000{1 + i % 3}-of-00003.bin" for i, name in enumerate(tensors)}
    for file in set(shards.values()):
        save(folder / file, state({name: tensors[name] for name in tensors if shards[name] == file}))
    (folder / PICKLED_INDEX).write_text(json.dumps({"weight_map": shards}))
    assert bits(read(folder)) == bits(tensors)


def test_which_of_several_files_must_be_said(tmp_path: Path) -> None:
    folder = pickled_folder(tmp_path / "folder")
    for name in ("a.pt", "b.pth"):
        save(folder / name, state(parameters()))
    assert "holds 2 files that may be the weights (a.pt, b.pth)" in run("info", folder).refusal


class Attack:
    """An object whose pickle makes pickle.load call something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


MARKER = "GPT2_TEST_WAS_EXECUTED"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a command": (pickle.dumps(Attack(os.system, f"touch {MARKER}"), 2), "posix.system"),
    "eval": (pickle.dumps(Attack(eval, "1 + 1"), 4), "builtins.eval"),
    "getattr": (pickle.dumps(Attack(getattr, "", "join"), 2), "__builtin__.getattr"),
    "an import": (b"\x80\x02cantigravity\nfly\n.", "antigravity.fly"),
    "torch's own loader": (b"\x80\x02ctorch\nload\n.", "torch.load"),
    "a name with dots": (b"\x80\x04\x8c\x0ctorch._utils\x8c\x09os.system\x93.", "torch._utils.os.system"),
    "an instance": (b"\x80\x02(ios\nsystem\n.", "the instruction INST"),
    "an object": (b"\x80\x02(ccollections\nOrderedDict\no.", "the instruction OBJ"),
    "a new object": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the instruction NEWOBJ"),
    "an extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "a call of a class of numbers": (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of torch.FloatStorage"),
    "a set": (b"\x80\x04\x8f.", "the instruction EMPTY_SET"),
}


@pytest.mark.parametrize("layout", ["now", "of old"])
@pytest.mark.parametrize("attack", HOSTILE)
def test_what_plain_tensors_do_not_need_is_refused_by_name(
    attack: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, name = HOSTILE[attack]
    folder = pickled_folder(tmp_path / "folder")
    if layout == "now":
        write_archive(folder / PICKLED, {"data.pkl": program})
    else:
        begin = [pickle.dumps(number, 2) for number in pytorch_bin.LEGACY]
        (folder / PICKLED).write_bytes(b"".join([*begin, pickle.dumps({"little_endian": True}, 2), program]))
    refusal = run("info", folder).refusal
    assert f"asks for {name}, which plain tensors do not need" in refusal
    assert not (tmp_path / MARKER).exists()


def doubled() -> bytes:
    """Instructions for a tuple of two times the same tuple of two times ..., which has 2**60 numbers."""
    return b"K\x01" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))


def storage_program(numbers: bytes) -> bytes:
    """Instructions for a storage of so many numbers."""
    words = [b"X%c\x00\x00\x00" % len(word) + word for word in (b"storage", b"0", b"cpu")]
    return b"(" + words[0] + b"ctorch\nFloatStorage\n" + words[1] + words[2] + numbers + b"tQ"


def tensor_program(shape: bytes, strides: bytes = b"K\x01\x85") -> bytes:
    """Instructions for a tensor."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage_program(b"K\x04") + b"K\x00" + shape + strides + b"tR"


DAMAGED: dict[str, bytes] = {
    "nothing": b"",
    "an instruction too few": b"\x80\x02}",
    "no such instruction": b"\x80\x02\xff.",
    "an empty stack": b"\x80\x02a.",
    "an unknown memory": b"\x80\x02h\x05.",
    "a far memory": b"\x80\x02}r\xff\xff\xff\x7fj\xff\xff\xff\x7e.",
    "a text that does not end": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "an endless text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a deep key": b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.",
    "a list as a key": b"\x80\x02}]K\x01s.",
    "a marked nothing": b"\x80\x02u.",
    "a dict of numbers": b"\x80\x02K\x01K\x02K\x03s.",
    "attributes of a number": b"\x80\x02K\x01}b.",
    "two values": b"\x80\x02K\x01K\x02.",
    "a long number": b"\x80\x02I" + b"9" * 10_000 + b"\n.",
    "a long number as a key": b"\x80\x02}\x8b\xff\xff\x00\x00" + b"\x7f" * 65535 + b"K\x01s.",
    "a shape that fills the memory when it is printed": b"\x80\x02}X\x01\x00\x00\x00x"
    + tensor_program(doubled())
    + b"s.",
    "strides that fill the memory when they are printed": b"\x80\x02}X\x01\x00\x00\x00x"
    + tensor_program(b"K\x01\x85", doubled())
    + b"s.",
    "a size that fills the memory when it is printed": b"\x80\x02}X\x01\x00\x00\x00x"
    + storage_program(doubled())
    + b"s.",
    "copies of copies": b"\x80\x02]("
    + b"K\x01" * 10**5
    + b"eq\x00(ctorch\nSize\nq\x01"
    + b"h\x01h\x00\x85R" * 10**5
    + b"t.",
    "dicts of dicts": b"\x80\x02]("
    + b"K\x01K\x01\x86" * 10**4
    + b"eq\x00(ccollections\nOrderedDict\nq\x01"
    + b"h\x01h\x00\x85R" * 10**5
    + b"t.",
    "no tensors": b"\x80\x02}.",
    "a number": b"\x80\x02K\x01.",
}


@pytest.mark.parametrize("program", DAMAGED.values(), ids=DAMAGED)
def test_a_broken_program_is_one_line(program: bytes, tmp_path: Path) -> None:
    folder = pickled_folder(tmp_path / "folder")
    write_archive(folder / PICKLED, {"data.pkl": program})
    assert str(folder / PICKLED) in run("info", folder).refusal


X = np.ones((2, 3), np.float32)
BROKEN: dict[str, Callable[[Path], Any]] = {
    "a tensor beyond its numbers": lambda path: save(path, {"x": Tensor(Storage(X, "0"), 1, (2, 3), (3, 1))}),
    "far strides": lambda path: save(path, {"x": Tensor(Storage(X, "0"), 0, (2, 3), (2**40, 1))}),
    "a tensor from nearly nothing": lambda path: save(path, {"x": Tensor(Storage(X, "0"), 0, (2**40,), (0,))}),
    "a negative offset": lambda path: save(path, {"x": Tensor(Storage(X, "0"), -1, (2, 3), (3, 1))}),
    "strides of another rank": lambda path: save(path, {"x": Tensor(Storage(X, "0"), 0, (2, 3), (1,))}),
    "too few numbers": lambda path: save(path, state({"x": X}), **{"data/0": b"1234"}),
    "big-endian": lambda path: save(path, state({"x": X}), byteorder=b"big"),
    "compressed": lambda path: write_archive(path, {"data.pkl": pickled(state({"x": X}))[0]}, zipfile.ZIP_DEFLATED),
    "no numbers": lambda path: write_archive(path, {"data.pkl": pickled(state({"x": X}))[0]}),
    "no pickle": lambda path: write_archive(path, {"other": b""}),
    "an outer name": lambda path: save(path, {"x": Tensor(Storage(X, "../../../etc/passwd"), 0, (2, 3), (3, 1))}),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_tensors_that_do_not_fit_their_numbers_are_refused(wrong: str, tmp_path: Path) -> None:
    BROKEN[wrong](tmp_path / "x.pt")
    if wrong == "an outer name":  # zip archives have names, not places: this one is there
        assert open_pickle(tmp_path / "x.pt")["x"]().shape == (2, 3)
        return
    with pytest.raises(gpt2.GPT2Error, match=r"x\.pt") as refused:
        open_pickle(tmp_path / "x.pt")["x"]()
    assert "\n" not in str(refused.value)


def attempt(path: Path) -> str:
    """Why a file cannot be read, or nothing."""
    try:
        for each in open_pickle(path).values():
            each()
    except gpt2.GPT2Error as error:
        return str(error)
    return ""


@each_way
def test_a_file_with_wrong_bytes_is_refused_or_read(way: str, tmp_path: Path) -> None:
    whole = WAYS[way](tmp_path / "x.pt", state({"a": X, "b": X[0], "c": np.ones((), np.float16)})).read_bytes()
    flips = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=3)

    @examples(1)
    @given(flips, st.none() | st.integers(0, len(whole)))
    def holds(wrong: list[tuple[int, int]], length: int | None) -> None:
        raw = bytearray(whole)
        for place, byte in wrong:
            raw[place] = byte
        (tmp_path / "y.pt").write_bytes(raw[:length])
        assert "\n" not in attempt(tmp_path / "y.pt")

    holds()


def test_compressed_numbers_are_not_unpacked(tmp_path: Path) -> None:
    """A small file could fill the memory."""
    path = save(tmp_path / "x.pt", state({"x": X}))
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "y.pt", "w") as packed:
        for name in plain.namelist():
            kind = zipfile.ZIP_DEFLATED if "/data/" in name else zipfile.ZIP_STORED
            packed.writestr(name, plain.read(name), kind)
    with pytest.raises(gpt2.GPT2Error, match="data/0 is compressed"):
        open_pickle(tmp_path / "y.pt")


def test_numbers_on_another_machine(tmp_path: Path) -> None:
    path = save_as_of_old(tmp_path / "x.pt", state({"x": X}))
    raw = path.read_bytes()
    assert raw.count(pickle.dumps({"little_endian": True}, 2)[5:18]) == 1
    path.write_bytes(raw.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"))
    with pytest.raises(gpt2.GPT2Error, match="big-endian"):
        open_pickle(path)


def test_a_storage_that_says_another_length_of_old(tmp_path: Path) -> None:
    path = save_as_of_old(tmp_path / "x.pt", state({"x": X}))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<q", 6), struct.pack("<q", 5)))
    with pytest.raises(gpt2.GPT2Error, match="storage 0 has 5 numbers, not 6"):
        open_pickle(path)


@pytest.mark.parametrize("name", ["a tuple of tuples", "a number"])
def test_a_name_of_old_that_is_no_text(name: str, tmp_path: Path) -> None:
    folder = pickled_folder(tmp_path / "folder")
    begin = [*(pickle.dumps(number, 2) for number in pytorch_bin.LEGACY), pickle.dumps({"little_endian": True}, 2)]
    key = doubled() if name == "a tuple of tuples" else b"K\x01"
    tree, keys = b"\x80\x02}X\x01\x00\x00\x00x" + tensor_program(b"K\x04\x85") + b"s.", b"\x80\x02]" + key + b"a."
    (folder / PICKLED).write_bytes(b"".join([*begin, tree, keys, bytes(24)]))
    assert "its pickle is damaged" in run("info", folder).refusal


def test_a_name_with_line_ends_is_escaped(tmp_path: Path) -> None:
    folder = pickled_folder(tmp_path / "folder")
    write_archive(folder / PICKLED, {"data.pkl": b"\x80\x04\x8c\x06os\n\x1b[m\x8c\x06system\x93."})
    assert "asks for os\\n\\x1b[m.system" in run("info", folder).refusal


def test_an_ordered_dict_of_pairs(tmp_path: Path) -> None:
    """As Python 2 pickled it."""
    pairs = [["a", tensor(X, "0")]]
    program = Attack(collections.OrderedDict, pairs)
    assert list(open_pickle(save(tmp_path / "x.pt", program))) == ["a"]


@pytest.mark.parametrize("offered", ["safetensors", "pickle"])
def test_a_model_of_the_hub_is_fetched_as_safetensors_if_it_can(
    offered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many old models on the hub have pytorch_model.bin alone."""
    folder = folder_of(tmp_path / "snapshot")
    if offered == "pickle":
        (folder / WEIGHTS).unlink()
        save(folder / PICKLED, state(parameters()))
    asked: list[list[str]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert bits(gpt2.load("somebody/something", "numpy").parameters) == bits(parameters())
    assert [PICKLED in patterns for patterns in asked] == [False, True][: 1 + (offered == "pickle")]
    assert all("generation_config.json" in patterns for patterns in asked)
