"""Options, prompts and states that cannot be are refused in one line, as is what cannot be written."""

import re
from pathlib import Path
from typing import Any

import pytest

from gpt2.model.hf_folder import CONFIG
from tests.gpt2.command import run, run_outside
from tests.gpt2.commands.bad_input import FULL, ONE, L, V, safetensors
from tests.gpt2.conftest import usable
from tests.gpt2.small import json_state, zeros

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
        ([*ONE, "--mode", "lazy"], ["no mode 'lazy'", "eager, plain"]),
        ([*ONE, "--mode", "graph"], ["'numpy'", "'graph'", "--backend mindspore"]),
        ([*ONE, "--device", "GPU"], ["'numpy'", "'GPU'", "--backend mindspore"]),
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
    (tmp_path / "taken").write_text("a file")
    output = tmp_path / "taken" / "scores.npy"
    assert f"cannot write {output}" in run("logits", small, *ONE, "--output", output).refusal


@pytest.mark.parametrize("place", ["taken", "taken/folder", "taken/deep/folder"])
def test_a_folder_that_cannot_be_written_is_refused(place: str, tmp_path: Path) -> None:
    source = json_state(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert str(tmp_path / place) in run("convert", source, tmp_path / place).refusal
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "taken"]


def test_a_state_in_json_converts(tmp_path: Path) -> None:
    assert "1 layer, 1 head, 2 channels" in run("convert", json_state(tmp_path), tmp_path / "folder").result


WTE = "transformer.wte.weight"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {}}, ["--n-head"]),
        ({"config": []}, ["'config' must be an object, but is []"]),
        ({"config": {"n_head": 3}}, ["n_head", "3"]),
        ({"config": {"n_head": 1, "dropout": 2}}, ["resid_pdrop", "2"]),
        ({WTE: zeros([3, 2], dtype="torch.int64")}, [WTE, "torch.int64", "torch.float32"]),
        ({WTE: zeros([3, 2], data="?")}, [WTE, "base64"]),
        ({WTE: zeros([3, 2], data="AAAA")}, [WTE]),
        ({WTE: zeros([3, 2], shape=[3, 3])}, [WTE]),
        ({WTE: zeros([3, 2], shape=[float("inf")])}, [WTE]),
        ({WTE: zeros([3, 2], shape=6)}, [WTE]),
        ({WTE: zeros([3, 2], shape=[-1, 2])}, [WTE, "[-1, 2]"]),
        ({WTE: 3}, [WTE]),
        ({WTE: zeros([6])}, ["wte.weight", "minGPT"]),
        ({"transformer.ln_f.weight": zeros([3])}, ["ln_f.weight", "(3,)", "(2,)"]),
        ({"transformer.h.0.extra": zeros([3])}, ["h.0.extra"]),
        ({"transformer.h.0.attn.c_attn.weight": zeros([2, 6])}, ["c_fc", "(8, 2)", "(2, 2)"]),
    ],
    ids=repr,
)
def test_a_state_that_does_not_convert_is_told_why(changes: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    refusal = run("convert", json_state(tmp_path, **changes), tmp_path / "folder").refusal
    assert all(words in refusal for words in said), refusal
    assert not (tmp_path / "folder").exists()


def test_a_config_beside_a_state_must_be_an_object(tmp_path: Path) -> None:
    (tmp_path / "state.safetensors").write_bytes(safetensors({}, data=b""))
    (tmp_path / CONFIG).write_text("[]")
    refusal = run("convert", tmp_path / "state.safetensors", tmp_path / "folder").refusal
    assert f"{tmp_path / CONFIG} must be an object, but is []" in refusal


def test_a_state_of_another_kind_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "state.h5").write_bytes(b"an archive")
    assert "is none of .safetensors, .pt" in run("convert", tmp_path / "state.h5", tmp_path / "folder").refusal


@pytest.mark.parametrize(("source", "said"), [("gone.json", "no file"), (".", "holds 0 states")])
def test_a_state_that_is_not_there_is_missed(source: str, said: str, tmp_path: Path) -> None:
    refusal = run("convert", tmp_path / source, tmp_path / "folder").refusal
    assert said in refusal
    assert str(tmp_path / source) in refusal
