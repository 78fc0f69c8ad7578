"""Model folders that are damaged, hostile, of another kind or not there: one line says what was expected, what came."""

import errno
import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2
from gpt2.model.hf_folder import CONFIG
from gpt2.model.tensors import INDEX, WEIGHTS, read_tensors
from tests.gpt2.command import run, run_outside
from tests.gpt2.commands.bad_input import INNER, ONE, C, L, V, safetensors
from tests.gpt2.conftest import examples
from tests.gpt2.small import SMALL, Parameters, folder_of, parameters

# Tensors that do not fit the config.


def without(tensors: Parameters) -> None:
    del tensors["h.1.ln_2.bias"]


def with_another(tensors: Parameters) -> None:
    tensors["h.2.ln_1.weight"] = tensors["h.1.ln_1.weight"]


def turned(tensors: Parameters) -> None:
    tensors["h.0.mlp.c_fc.weight"] = tensors["h.0.mlp.c_fc.weight"].T


def of_integers(tensors: Parameters) -> None:
    tensors["ln_f.weight"] = tensors["ln_f.weight"].astype(np.int32)


def of_complex_numbers(tensors: Parameters) -> None:
    tensors["ln_f.weight"] = tensors["ln_f.weight"].astype(np.complex64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without, ["missing h.1.ln_2.bias", "28 tensors"]),
        (with_another, ["unexpected h.2.ln_1.weight"]),
        (turned, ["h.0.mlp.c_fc.weight", str((INNER, C)), str((C, INNER))]),
        (of_integers, ["ln_f.weight", "int32", "floating-point"]),
        (of_complex_numbers, ["ln_f.weight", "complex64", "floating-point"]),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    change: Callable[[Parameters], None], said: list[str], tmp_path: Path
) -> None:
    tensors = parameters()
    change(tensors)
    refusal = run("info", folder_of(tmp_path / "folder", SMALL, tensors)).refusal
    assert all(words in refusal for words in [str(tmp_path), *said]), refusal


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("vocab_size", V + 1, ["wte.weight", str((V, C)), str((V + 1, C))]),
        ("n_positions", L - 1, ["wpe.weight", str((L, C)), str((L - 1, C))]),
        ("n_embd", C + 2, [str((V, C)), str((V, C + 2))]),
        ("n_layer", 1, ["h.1.", "no place"]),
        ("n_layer", 3, ["h.2.", "missing"]),
        ("n_layer", 10**9, ["n_layer", str(10**9)]),
        ("n_inner", 9, ["c_fc", str((C, 9)), str((C, INNER))]),
        ("tie_word_embeddings", False, ["lm_head.weight"]),
        ("n_head", 3, ["n_head", "divisor", "3"]),
        ("model_type", "llama", ["model_type", "llama", "gpt2"]),
    ],
)
def test_a_config_that_contradicts_the_weights_is_told_how(
    field: str, value: Any, said: list[str], folder: Path
) -> None:
    (folder / CONFIG).write_text(json.dumps(SMALL.to_dict() | {field: value}))
    refusal = run("info", folder).refusal
    assert all(words in refusal for words in said), refusal


# Files that are damaged, hostile or of another kind.


def test_a_file_cut_off_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    whole = (small / WEIGHTS).read_bytes()
    damaged = shutil.copytree(small, tmp_path / "folder")

    anywhere, near_its_end = st.integers(0, len(whole) - 1), st.integers(len(whole) - 9, len(whole) - 1)

    @examples(2)
    @given(anywhere | st.integers(0, 99) | near_its_end)
    def holds(length: int) -> None:
        (damaged / WEIGHTS).write_bytes(whole[:length])
        with pytest.raises(gpt2.GPT2Error, match=re.escape(str(damaged / WEIGHTS))) as refused:
            gpt2.load(damaged, "numpy")
        assert "\n" not in str(refused.value)

    holds()


def test_a_header_with_wrong_bytes_is_refused_or_means_the_same(small: Path, tmp_path: Path) -> None:
    whole = (small / WEIGHTS).read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    expected = {name: x.tobytes() for name, x in gpt2.load(small, "numpy").parameters.items()}
    damaged = shutil.copytree(small, tmp_path / "folder")
    flips = st.tuples(st.integers(0, header - 1), st.integers(0, 255) | st.sampled_from(list(b'0123456789{}[]",:IBU')))

    @examples(5)
    @given(st.lists(flips, min_size=1, max_size=3))
    def holds(wrong: list[tuple[int, int]]) -> None:
        raw = bytearray(whole)
        for place, byte in wrong:
            raw[place] = byte
        (damaged / WEIGHTS).write_bytes(raw)
        found, refusal = attempt(damaged)
        assert "\n" not in refusal
        assert refusal or {name: x.tobytes() for name, x in found.items()} == expected

    holds()


def attempt(folder: Path) -> tuple[Parameters, str]:
    """The parameters that a folder gives, or the reason why it gives none."""
    try:
        return gpt2.load(folder, "numpy").parameters, ""
    except gpt2.GPT2Error as error:
        return {}, str(error)


def floats(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    """What a header says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"PK\x03\x04 a zip",
        safetensors(b""),
        safetensors({}, length=2**63),
        safetensors({}, length=2**40),
        safetensors(b"[" * 100_000),
        safetensors(b"\xff\xfe"),
        safetensors({"a": floats(0, 64, [2**62, 4])}),
        safetensors({"a": floats(0, 2**40, [2**38])}),
        safetensors({"a": floats(0, 64, [16]), "b": floats(32, 96, [16])}),
        safetensors({"a": floats(64, 0, [16])}),
        safetensors({"a": floats(-64, 0, [16])}),
        safetensors({"a": floats(0, 64, [-16])}),
        safetensors({"a": floats(0, 64, [16], "F31")}),
        safetensors({"a": 1}),
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_a_hostile_file_is_refused(raw: bytes, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(raw)
    refusal = run("info", folder).refusal
    assert "is not a readable safetensors file" in refusal
    assert str(folder / WEIGHTS) in refusal


def test_numbers_that_numpy_does_not_have_are_named(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(safetensors({name: floats(0, 0, [0], "F8_E4M3") for name in parameters()}, data=b""))
    refusal = run("info", folder).refusal
    assert "wte.weight holds F8_E4M3, expected F32" in refusal


@pytest.mark.parametrize("name", ["../x.safetensors", "..", ".", "", "/etc/passwd", "a/../../x", "sub/x.safetensors"])
def test_an_index_that_points_outside_its_folder_is_refused(name: str, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    assert f"points outside its folder: {name!r}" in run("info", folder).refusal


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("[]", " must be an object, but is []"),
        ("{}", " has no field 'weight_map': it has none"),
        ('{"weight_map": {}}', ": 'weight_map' names no tensors, expected the file of each"),
        ('{"weight_map": []}', ": 'weight_map' must be an object, but is []"),
        ('{"weight_map": {"a": 1}}', ": 'weight_map[...]' must be a string, but is an integer"),
        ("null", " must be an object, but is None"),
    ],
)
def test_an_index_without_file_names_is_refused(index: str, said: str, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(index)
    assert f"{folder / INDEX}{said}" in run("info", folder).refusal


def test_a_shard_that_is_not_there_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": "gone.safetensors"}}))
    assert f"{folder / 'gone.safetensors'} is missing" in run("info", folder).refusal


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_what_only_has_the_name_of_a_pickle_is_refused(name: str, folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / name)
    refusal = run("info", folder).refusal
    assert f"{folder / name} is not a readable file of torch.save" in refusal


def test_weights_that_are_a_folder_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert f"{folder / WEIGHTS} is not a file: expected the weights there" in run("info", folder).refusal


def test_weights_without_permission_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(gpt2.GPT2Error, match=f"^cannot read {re.escape(str(folder / WEIGHTS))}: Permission denied$"):
        dict(read_tensors(folder / WEIGHTS))


def test_a_folder_without_weights_is_told_what_to_hold(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert f"no {WEIGHTS} in {folder}" in run("info", folder).refusal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ('{"n_layer": 2,}', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("\x00", "is not valid JSON"),
        ('{"n_layer": 1, "n_layer": 2}', "is not valid JSON: 'n_layer' is there twice in one object"),
        ('{"id2label": {"0": "\\ud800"}}', "holds half a character"),
        ("[]", "must be an object, but is []"),
        ("3", "must be an object, but is 3"),
        ("null", "must be an object, but is None"),
    ],
    ids=lambda text: text[:20],
)
def test_a_broken_config_is_named(text: str, said: str, folder: Path) -> None:
    (folder / CONFIG).write_text(text)
    assert f"{folder / CONFIG} {said}" in run("info", folder).refusal


def test_a_config_that_is_no_text_is_named(folder: Path) -> None:
    (folder / CONFIG).write_bytes(b"\xff\xfe{")
    assert f"{folder / CONFIG} is not valid JSON" in run("info", folder).refusal


def test_a_folder_without_config_is_told_how_to_get_one(folder: Path) -> None:
    (folder / CONFIG).unlink()
    refusal = run("info", folder).refusal
    assert f"no {CONFIG} in {folder}" in refusal
    assert "gpt2 convert" in refusal


@pytest.mark.parametrize("text", ["{}", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_is_named(text: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text)
    assert f"cannot read the tokenizer in {folder}" in run("generate", folder, *ONE).refusal


@pytest.mark.parametrize(
    ("text", "said"), [("", "is not valid JSON"), ("[" * 10_000, "is not valid JSON"), ("[]", "must be an object")]
)
def test_a_tokenizer_that_is_no_object_is_named(text: str, said: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text)
    assert f"{folder / 'tokenizer.json'} {said}" in run("generate", folder, *ONE).refusal


# Names that lead nowhere.


@pytest.mark.parametrize("name", ["/no/such/folder", "../no-such", "./no-such", "a b", "", "a//b", "x" * 5000])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    refusal = run("info", name).refusal
    assert repr(name) in refusal


def test_a_file_is_no_folder(small: Path) -> None:
    assert repr(str(small / WEIGHTS)) in run("info", small / WEIGHTS).refusal


@pytest.mark.parametrize("name", ["no-such-model-anywhere", "nobody/nothing"])
def test_a_name_that_the_hub_cannot_give_ends_soon(name: str) -> None:
    refusal = run_outside("info", name).refusal
    assert repr(name) in refusal
    assert "check the name and the network" in refusal


def test_a_folder_that_is_no_model_does_not_hide_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "no config.json in 'gpt2' here, and the Hugging Face hub" in run("info", "gpt2").refusal
