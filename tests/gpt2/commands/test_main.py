"""What the command prints: for people and, with --json, the same facts for machines."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

import gpt2
from gpt2.backends import NumPyBackend
from parity.verdict.verdict import judge
from reference.ops import softmax
from tests.gpt2.command import run, run_outside
from tests.gpt2.conftest import usable
from tests.gpt2.small import ROOT, SMALL, folder_of

PROMPT = "né"  # three bytes


def facts(*arguments: Any) -> Any:
    """What a command says with --json."""
    return json.loads(run(*arguments, "--json").result)


def test_the_environment_chooses_the_backend(small: Path) -> None:
    usable("mindspore pynative")
    ran = run("info", small, environment={"GPT2_BACKEND": "mindspore"})
    assert ran == run("info", small)
    options = ("generate", small, "--ids", "1", "--max-new-tokens", "1", "--mode", "pynative", "--json")
    said = json.loads(run(*options, environment={"GPT2_BACKEND": "mindspore"}).result)
    assert (said["backend"], said["mode"]) == ("mindspore", "pynative")


def test_an_option_outranks_the_environment(small: Path) -> None:
    options = ("generate", small, "--ids", "1", "--backend", "numpy", "--json")
    assert json.loads(run(*options, environment={"GPT2_BACKEND": "mindspore"}).result)["backend"] == "numpy"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["info", "tiny"]])
def test_output_on_a_full_disk_is_one_line(arguments: list[str]) -> None:
    command = ["-m", "gpt2", *arguments]
    program = "import subprocess, sys\nwith open('/dev/full', 'w') as full:\n"
    program += f"    sys.exit(subprocess.run([sys.executable, *{command}], stdout=full).returncode)"
    ran = run_outside(program=program)
    assert (ran.code, ran.err) == (2, "gpt2: error: cannot write the output: No space left on device\n")


# logits


def test_logits_says_the_likeliest_tokens_to_machines(speaker: Path) -> None:
    said = facts("logits", speaker, PROMPT, "--top", "7")
    model = gpt2.load(speaker, "numpy")
    scores = model.logits(model.encode(PROMPT))
    best = np.argsort(-scores[0, -1], kind="stable")[:7]
    assert said["shape"] == list(scores.shape)
    assert [row["id"] for row in said["next"]] == best.tolist()
    assert [row["token"] for row in said["next"]] == [model.decode([i]) for i in best]
    assert [row["logit"] for row in said["next"]] == scores[0, -1, best].astype(float).tolist()
    chances = np.array([row["probability"] for row in said["next"]])
    expected = softmax(scores[0, -1].astype(np.float64))[best]
    assert judge(chances, expected, [expected]).agrees


def test_logits_shows_the_likeliest_tokens_to_people(speaker: Path) -> None:
    table = run("logits", speaker, PROMPT, "--top", "2").result
    for row in facts("logits", speaker, PROMPT, "--top", "2")["next"]:
        assert f"{row['logit']:.4f}" in table
        assert f"{row['probability']:.4f}" in table


def test_logits_writes_every_score(small: Path, tmp_path: Path) -> None:
    run("logits", small, "--ids", "1 2 3", "--output", tmp_path / "scores.npy")
    assert (np.load(tmp_path / "scores.npy") == gpt2.load(small, "numpy").logits([1, 2, 3])).all()


def test_a_token_that_looks_like_markup_is_shown_as_it_is(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpt2.Model, "decode", lambda self, ids: "[/red]")
    monkeypatch.setattr("gpt2.model.model.load_tokenizer", lambda folder: True)
    assert "'[/red]'" in run("logits", small, "--ids", "1").result


# info


def test_info_says_what_a_model_is_to_machines(small: Path, speaker: Path) -> None:
    said = facts("info", small)
    model = gpt2.load(small, "numpy")
    assert said["config"] == SMALL.to_dict()
    assert said["parameters"] == sum(x.size for x in model.parameters.values())
    assert said["tensors"] == len(model.parameters)
    assert (said["head"], said["dtype"], said["tokenizer"]) == ("language model", "float32", None)
    assert facts("info", speaker)["tokenizer"] == "256 tokens"


def test_info_says_the_same_to_people(small: Path) -> None:
    table = run("info", small).result
    said = facts("info", small)
    assert f"{said['parameters']:,}" in table
    for name in said["config"].keys() - {"id2label", "label2id"}:
        assert name in table


def test_a_folder_whose_name_looks_like_markup_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "[").mkdir()
    folder = folder_of(tmp_path / "[" / "red]")
    monkeypatch.setattr("gpt2.commands.model.console", Console(width=100 + len(str(folder))))
    assert "[/red]" in run("info", folder).result


# check

SCHEMA = json.loads((ROOT / "parity" / "check.schema.json").read_text(encoding="utf-8"))


def test_check_says_what_it_found_to_machines() -> None:
    usable("mindspore pynative")
    said = facts("check", "ops.relu", "--examples", "3")
    jsonschema.validate(said, SCHEMA)
    assert (said["backend"], said["mode"]) == ("mindspore", "pynative")
    assert [(result["function"], result["agrees"]) for result in said["results"]] == [("ops.relu", True)]


def test_check_leaves_nothing_where_it_is_run(tmp_path: Path) -> None:
    """Hypothesis caches what it computes: in the user's cache, not in the folder where the user is."""
    here, cache = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    words = ["check", "ops.gelu", "--backend", "numpy", "--examples", "2"]
    kept = {name: value for name, value in os.environ.items() if name != "HYPOTHESIS_STORAGE_DIRECTORY"}
    environment = kept | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    subprocess.run([sys.executable, "-m", "gpt2", *words], cwd=here, env=environment, check=True, capture_output=True)
    assert list(here.iterdir()) == []
    assert (cache / "gpt2-parity" / "hypothesis").is_dir()


def test_check_finds_the_same_with_the_same_seed() -> None:
    command = ("check", "ops.softmax", "--examples", "5", "--backend", "numpy", "--dtype", "float16", "--seed")
    assert facts(*command, 4)["results"] == facts(*command, 4)["results"]
    assert facts(*command, 4)["results"] != facts(*command, 5)["results"]


def test_check_fails_for_a_backend_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumPyBackend, "call", lambda self, function, arguments: arguments["x"] + 1)
    ran = run("check", "ops.relu", "--examples", "3", "--backend", "numpy", "--json")
    assert ran.code == 1
    assert [result["agrees"] for result in json.loads(ran.out)["results"]] == [False]
    for_people = run("check", "ops.relu", "--examples", "3", "--backend", "numpy")
    assert for_people.code == 1
    assert "DIFFERS" in for_people.out


# The command itself.


def test_the_command_alone_shows_its_help() -> None:
    assert run().result == run("--help").result
    assert "generate" in run().result


def test_the_module_runs_as_the_command_does(small: Path) -> None:
    assert run_outside("info", small, "--json") == run("info", small, "--json")


def test_a_warning_is_one_quiet_line(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*arguments: Any, **engine: Any) -> Any:
        warnings.warn("a small thing", stacklevel=1)
        return gpt2.Model(SMALL, gpt2.load(small, "numpy").parameters, gpt2.get_backend("numpy"))

    monkeypatch.setattr("gpt2.commands.generate.load_model", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        ran = run("generate", small, "--ids", "1")
    assert (ran.code, ran.err) == (0, "gpt2: note: a small thing\n")


def test_a_copy_of_the_folder_is_the_same_model(small: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(small, tmp_path / "copy")
    assert run("generate", copied, "--ids", "1") == run("generate", small, "--ids", "1")
