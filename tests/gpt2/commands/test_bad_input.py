"""What is wrong is said in one line: what was expected, what came, what to do. As a user of the command sees it."""

import json
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
from gpt2.backends import Backend
from gpt2.model.hf_folder import CONFIG, INDEX, WEIGHTS
from tests.gpt2.command import run, run_outside
from tests.gpt2.conftest import examples, usable
from tests.gpt2.small import SMALL, Parameters, folder_of, json_state, model, parameters, zeros

ONE = ("--ids", "1")
V, C, L, INNER = SMALL.vocab_size, SMALL.n_embd, SMALL.n_positions, SMALL.inner_size
FULL = " ".join(["1"] * L)


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    """A model folder of one's own, to damage."""
    return Path(shutil.copytree(small, tmp_path / "folder"))


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


def safetensors(header: bytes | dict[str, Any], length: int | None = None, data: bytes = bytes(64)) -> bytes:
    """The bytes of a file with that header, which says it is `length` long."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


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
    (folder / WEIGHTS).write_bytes(safetensors({"wte.weight": floats(0, 64, [64], "F8_E4M3")}))
    refusal = run("info", folder).refusal
    assert "wte.weight holds F8_E4M3, expected F32" in refusal


@pytest.mark.parametrize("name", ["../x.safetensors", "..", ".", "", "/etc/passwd", "a/../../x", "sub/x.safetensors"])
def test_an_index_that_points_outside_its_folder_is_refused(name: str, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    assert f"points outside its folder: {name!r}" in run("info", folder).refusal


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "null"])
def test_an_index_without_file_names_is_refused(index: str, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(index)
    assert f"{folder / INDEX} has no weight_map" in run("info", folder).refusal


def test_a_shard_that_is_not_there_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(json.dumps({"weight_map": {"wte.weight": "gone.safetensors"}}))
    assert f"{folder / 'gone.safetensors'} is missing" in run("info", folder).refusal


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_a_pickle_is_not_opened(name: str, folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / name)
    refusal = run("info", folder).refusal
    assert f"{folder / name} is a pickle" in refusal
    assert WEIGHTS in refusal


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
        ("[]", "holds a list, expected an object"),
        ("3", "holds a int, expected an object"),
        ("null", "holds a NoneType, expected an object"),
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


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": {"type": "BPE"}}', "[" * 10_000])
def test_a_broken_tokenizer_is_named(text: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text)
    assert f"cannot read the tokenizer in {folder}" in run("generate", folder, *ONE).refusal


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


# Options and prompts.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], ["PROMPT", "--ids"]),
        (["text", *ONE], ["PROMPT", "--ids"]),
        (["text"], ["no tokenizer", "tokenizer.json", "ids"]),
        (["--ids", ""], ["empty", "at least one token"]),
        (["--ids", f"1 {V}"], [f"{V} is outside the vocabulary", f"0 to {V - 1}"]),
        (["--ids", "-1"], ["-1 is outside the vocabulary", f"0 to {V - 1}"]),
        (["--ids", "1.5"], ["--ids", "'1.5'"]),
        (["--ids", "1 two"], ["--ids", "'two'"]),
        (["--ids", "9" * 30], ["--ids", "9" * 30]),
        (["--ids", f"{FULL} 1"], [f"{L + 1} tokens", f"context of {L}"]),
        (["--ids", FULL, "--max-new-tokens", "2"], [f"{L} tokens and 2 new", f"context of {L}", "at most 1"]),
        ([*ONE, "--max-new-tokens", str(L + 1)], [f"context of {L}", f"at most {L}"]),
        ([*ONE, "--max-new-tokens", "-1"], ["max_new_tokens", "-1"]),
        ([*ONE, "--top-p", "0"], ["top_p", "0.0"]),
        ([*ONE, "--top-p", "1.1"], ["top_p", "1.1"]),
        ([*ONE, "--top-p", "nan"], ["top_p", "nan"]),
        ([*ONE, "--top-k", "-1"], ["top_k", "-1"]),
        ([*ONE, "--temperature", "-0.5"], ["temperature", "-0.5"]),
        ([*ONE, "--temperature", "nan"], ["temperature", "nan"]),
        ([*ONE, "--temperature", "inf"], ["temperature", "inf"]),
        ([*ONE, "--temperature", "1e-300"], ["temperature", "1e-300"]),
        ([*ONE, "--temperature", "warm"], ["--temperature", "'warm'"]),
        ([*ONE, "--seed", "-1"], ["seed", "-1"]),
        ([*ONE, "--seed", str(2**64)], ["seed", str(2**64)]),
        ([*ONE, "--backend", "jax"], ["backend", "'jax'", "numpy", "mindspore"]),
        ([*ONE, "--dtype", "int8"], ["--dtype", "'int8'", "float16"]),
        ([*ONE, "--mode", "lazy"], ["--mode", "'lazy'", "graph"]),
        ([*ONE, "--mode", "graph"], ["'numpy'", "'graph'", "--backend mindspore"]),
        ([*ONE, "--device", "GPU"], ["'numpy'", "'GPU'", "--backend mindspore"]),
        ([*ONE, "--device", "cpu"], ["'numpy'", "'cpu'", "'CPU'"]),
        ([*ONE, "--no-such-option"], ["--no-such-option", "gpt2 generate --help"]),
    ],
    ids=repr,
)
def test_a_bad_option_is_named(options: list[str], said: list[str], small: Path) -> None:
    refusal = run("generate", small, *options).refusal
    assert all(words in refusal for words in said), refusal


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ids", f"1 {V}"], [f"{V} is outside the vocabulary"]),
        (["--ids", "-1"], ["-1 is outside the vocabulary"]),
        ([*ONE, "--dtype", "float64"], ["'mindspore'", "'float64'", "float32"]),
        ([*ONE, "--device", "TPU"], ["'mindspore'", "'TPU'", "Ascend"]),
    ],
    ids=repr,
)
def test_a_bad_option_is_named_on_mindspore(options: list[str], said: list[str], small: Path) -> None:
    usable("mindspore pynative")
    refusal = run("generate", small, *options, "--backend", "mindspore").refusal
    assert all(words in refusal for words in said), refusal


@pytest.mark.parametrize("device", ["Ascend", "GPU"])
def test_an_absent_device_is_named(device: str, small: Path) -> None:
    usable("mindspore pynative")
    ran = run_outside("generate", small, *ONE, "--backend", "mindspore", "--device", device)
    if ran.code == 0:
        pytest.skip(f"this machine has the device {device}: nothing is absent")
    assert repr(device) in ran.refusal
    assert "--device CPU" in ran.refusal


def test_an_unknown_backend_in_the_environment_is_named_with_its_variable(small: Path) -> None:
    refusal = run("generate", small, *ONE, environment={"GPT2_BACKEND": "jax"}).refusal
    assert "'jax'" in refusal
    assert "GPT2_BACKEND" in refusal


@pytest.mark.parametrize(("arguments", "said"), [(["shout"], "'shout'"), (["info"], "MODEL"), (["--loud"], "--loud")])
def test_a_command_that_is_not_there_is_named(arguments: list[str], said: str) -> None:
    assert said in run(*arguments).refusal


def test_a_function_that_is_not_there_is_named() -> None:
    assert "'no_such'" in run("check", "no_such", "--backend", "numpy").refusal


@pytest.mark.parametrize("text", ["", "-"])
def test_an_empty_prompt_is_refused(text: str, speaker: Path) -> None:
    assert "the prompt is empty" in run("generate", speaker, text, stdin="").refusal


def test_bytes_that_are_no_text_are_refused_as_argument(speaker: Path) -> None:
    assert "must be valid Unicode text" in run("generate", speaker, "a\udcff").refusal


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_text_are_refused_on_standard_input(errors: str, speaker: Path) -> None:
    environment = {"PYTHONIOENCODING": f"utf-8:{errors}"}
    refusal = run_outside("generate", speaker, "-", stdin=b"a\xff", environment=environment).refusal
    assert re.search("not valid text|must be valid Unicode text", refusal)


@pytest.mark.parametrize("arguments", [("generate", "--ids", "99"), ("generate", "--top-p", "0", *ONE), ("logits",)])
def test_a_process_of_its_own_ends_as_quietly(arguments: tuple[str, ...], small: Path) -> None:
    command, *options = arguments
    assert run_outside(command, small, *options) == run(command, small, *options)
    assert run(command, small, *options).refusal


# What cannot be written or converted.


def test_scores_that_cannot_be_written_are_refused(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "no" / "scores.npy"
    assert f"cannot write {output}" in run("logits", small, *ONE, "--output", output).refusal


@pytest.mark.parametrize("place", ["taken", "taken/folder", "taken/deep/folder"])
def test_a_folder_that_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    source = json_state(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert str(tmp_path / place) in run("convert", source, tmp_path / place).refusal
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "taken"]


def test_a_state_in_json_converts(tmp_path: Path) -> None:
    assert "1 layers, 1 heads, 2 channels" in run("convert", json_state(tmp_path), tmp_path / "folder").result


WTE = "transformer.wte.weight"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {}}, ["--n-head"]),
        ({"config": []}, ["--n-head"]),
        ({"config": {"n_head": 3}}, ["n_head", "3"]),
        ({"config": {"n_head": 1, "dropout": 2}}, ["resid_pdrop", "2"]),
        ({WTE: zeros([3, 2], dtype="torch.int64")}, [WTE, "torch.int64", "torch.float32"]),
        ({WTE: zeros([3, 2], data="?")}, [WTE, "base64"]),
        ({WTE: zeros([3, 2], data="AAAA")}, [WTE]),
        ({WTE: zeros([3, 2], shape=[3, 3])}, [WTE]),
        ({WTE: zeros([3, 2], shape=[float("inf")])}, [WTE]),
        ({WTE: zeros([3, 2], shape=6)}, [WTE]),
        ({WTE: 3}, [WTE]),
        ({WTE: zeros([6])}, ["wte.weight", "minGPT"]),
        ({"transformer.ln_f.weight": zeros([3])}, ["ln_f.weight", "(3,)", "(2,)"]),
        ({"extra": zeros([3])}, ["extra"]),
        ({"transformer.h.0.attn.c_attn.weight": zeros([2, 6])}, ["c_attn", "Hugging Face"]),
    ],
    ids=repr,
)
def test_a_state_that_does_not_convert_is_told_why(changes: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    refusal = run("convert", json_state(tmp_path, **changes), tmp_path / "folder").refusal
    assert all(words in refusal for words in said), refusal
    assert not (tmp_path / "folder").exists()


def test_a_config_beside_a_state_that_is_no_object_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(safetensors({}, data=b""))
    (tmp_path / CONFIG).write_text("[]")
    assert "--n-head" in run("convert", tmp_path / "state.safetensors", tmp_path / "folder").refusal


def test_a_state_of_another_kind_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"a pickle")
    assert "save the state as safetensors" in run("convert", tmp_path / "state.pt", tmp_path / "folder").refusal


@pytest.mark.parametrize(("source", "said"), [("gone.json", "no file"), (".", "holds 0 states")])
def test_a_state_that_is_not_there_is_missed(source: str, said: str, tmp_path: Path) -> None:
    refusal = run("convert", tmp_path / source, tmp_path / "folder").refusal
    assert said in refusal
    assert str(tmp_path / source) in refusal


# Arrays, from Python.

TWO = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([[1, 2], [3]], "ids must be a rectangle"),
        ([1.0, 2.0], "ids must be integers .* float64"),
        (["1"], "ids must be integers"),
        (None, "ids must be integers"),
        ([2**70], "ids must be integers"),
        (np.array([2**64 - 1], np.uint64), f"ids .* {2**64 - 1}"),
        ([[[1]]], r"ids must have the shape \(batch, tokens\).*\(1, 1, 1\)"),
        ([], "ids are empty"),
        ([[], []], "ids are empty"),
        ([1, -1], "ids: -1 is outside the vocabulary"),
        ([1, V], f"ids: {V} is outside the vocabulary"),
    ],
)
@pytest.mark.parametrize("call", ["logits", "stages", "generate"])
def test_ids_that_are_none_are_refused(call: str, ids: Any, said: str, engine: Backend) -> None:
    with pytest.raises(gpt2.GPT2Error, match=said):
        getattr(model(engine), call)(ids)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([1, 1, 1], r"attention_mask has shape \(1, 3\), but the ids have \(2, 2\)"),
        ([1, 1], r"attention_mask has shape \(1, 2\), but the ids have \(2, 2\)"),
        ([[1], [1]], r"attention_mask has shape \(2, 1\)"),
        ([[1, 1, 1, 1]], r"attention_mask has shape \(1, 4\)"),
        ([1, 1, 1, 1], r"attention_mask has shape \(1, 4\)"),
        ([[1, 2], [1, 1]], "attention_mask: 2 is outside"),
        ([[1, -1], [1, 1]], "attention_mask: -1 is outside"),
        ([[1.0, 1.0], [1.0, 1.0]], "attention_mask must be integers"),
    ],
)
def test_a_mask_that_does_not_fit_the_ids_is_refused(mask: Any, said: str) -> None:
    with pytest.raises(gpt2.GPT2Error, match=said):
        model().logits(TWO, mask)


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ([0, 1, 2], r"position_ids has shape \(3,\), but the ids have \(2, 2\)"),
        ([[0, 1]] * 3, r"position_ids has shape \(3, 2\)"),
        ([0, L], f"position_ids: {L} is outside the context"),
        ([0, -1], "position_ids: -1 is outside the context"),
        ([0.0, 1.0], "position_ids must be integers"),
    ],
)
def test_positions_that_do_not_fit_the_ids_are_refused(positions: Any, said: str) -> None:
    with pytest.raises(gpt2.GPT2Error, match=said):
        model().logits(TWO, None, positions)


@pytest.mark.parametrize("mask", [[[1, 0], [1, 1]], [[0, 0], [1, 1]]])
def test_generate_refuses_pads_on_the_right(mask: list[list[int]]) -> None:
    with pytest.raises(gpt2.GPT2Error, match=r"pads .* on the left"):
        model().generate(TWO, 1, attention_mask=mask)


def test_generate_refuses_pads_between_tokens() -> None:
    with pytest.raises(gpt2.GPT2Error, match=r"pads .* on the left"):
        model().generate([1, 2, 3], 1, attention_mask=[1, 0, 1])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", "hot"),
        ("temperature", None),
        ("top_k", 1.5),
        ("top_k", True),
        ("top_p", "all"),
        ("seed", 0.5),
        ("max_new_tokens", 2.0),
        ("stop_ids", ["a"]),
        ("stop_ids", [0.5]),
    ],
)
def test_generate_names_the_option_that_is_no_number(option: str, value: Any) -> None:
    with pytest.raises(gpt2.GPT2Error, match=f"^{option} must be"):
        model().generate([1], **{option: value})


@pytest.mark.parametrize("ids", [[[1, 2]], 1, [-1], [2**40], [0.5]])
def test_decode_refuses_what_is_no_row_of_ids(ids: Any, speaker: Path) -> None:
    with pytest.raises(gpt2.GPT2Error, match="ids"):
        gpt2.load(speaker, "numpy").decode(ids)


def test_a_language_model_does_not_classify() -> None:
    with pytest.raises(gpt2.GPT2Error, match=r"score\.weight"):
        model().classify([1])


def test_a_batch_to_classify_needs_to_know_its_pads() -> None:
    classifier = gpt2.Model(SMALL, parameters(SMALL, "sequence_classifier"), gpt2.get_backend("numpy"))
    with pytest.raises(gpt2.GPT2Error, match="attention_mask"):
        classifier.classify(TWO)
