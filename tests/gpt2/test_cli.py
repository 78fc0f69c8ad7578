"""What the command prints: for people and, with --json, the same facts for machines."""

import io
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2
from gpt2 import cli
from gpt2.backends import NumPyBackend
from parity.verdict import judge
from reference.ops import softmax
from tests.gpt2.command import run, run_outside
from tests.gpt2.conftest import usable
from tests.gpt2.small import ROOT, SMALL, folder_of

PROMPT = "né"  # three bytes
SAMPLED = ("--temperature", "1.5", "--top-k", "40", "--top-p", "0.9")


def facts(*arguments: Any) -> Any:
    """What a command says with --json."""
    return json.loads(run(*arguments, "--json").result)


# generate


def test_generate_prints_ids_where_there_is_no_tokenizer(small: Path) -> None:
    ids = gpt2.load(small, "numpy").generate([1, 2, 3], 5)[0]
    printed = run("generate", small, "--ids", "1, 2 3", "--max-new-tokens", "5").result
    assert printed == " ".join(map(str, ids)) + "\n"


def test_generate_prints_text_where_there_is_a_tokenizer(speaker: Path) -> None:
    model = gpt2.load(speaker, "numpy")
    expected = model.decode(model.generate(model.encode(PROMPT), 9)[0])
    assert run("generate", speaker, PROMPT, "--max-new-tokens", "9").result == expected + "\n"


def test_generate_says_all_to_machines(speaker: Path) -> None:
    said = facts("generate", speaker, PROMPT, "--max-new-tokens", "9")
    model = gpt2.load(speaker, "numpy")
    ids = model.generate(model.encode(PROMPT), 9)[0].tolist()
    assert said == {
        "prompt_ids": ids[:3],
        "new_ids": ids[3:],
        "text": model.decode(ids),
        "backend": "numpy",
        "device": "CPU",
        "dtype": "float32",
        "mode": "eager",
    }


def test_generate_has_no_text_for_machines_where_there_is_no_tokenizer(small: Path) -> None:
    assert facts("generate", small, "--ids", "1")["text"] is None


@pytest.mark.parametrize("seed", range(5))
def test_pieces_as_they_come_join_to_the_text_for_machines(seed: int, speaker: Path) -> None:
    options = ("generate", speaker, PROMPT, "--max-new-tokens", "20", *SAMPLED, "--seed", seed)
    assert run(*options).result == facts(*options)["text"] + "\n"


@pytest.mark.parametrize("count", [0, 1])
def test_the_prompt_is_printed_before_few_tokens_too(count: int, small: Path) -> None:
    printed = run("generate", small, "--ids", "4 5", "--max-new-tokens", count).result
    assert re.fullmatch(r"4 5" + r" \d+" * count + "\n", printed)


def test_the_prompt_may_come_from_standard_input(speaker: Path) -> None:
    assert run("generate", speaker, "-", stdin=PROMPT) == run("generate", speaker, PROMPT)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(speaker: Path) -> None:
    def text(seed: int) -> str:
        return run("generate", speaker, PROMPT, *SAMPLED, "--seed", seed).result

    assert text(1) == text(1) != text(2)


@pytest.mark.parametrize(("option", "value"), [("top_k", 2), ("top_p", 0.25), ("seed", 1), ("temperature", 0.25)])
def test_an_option_does_what_its_argument_does(option: str, value: float, speaker: Path) -> None:
    usual: dict[str, Any] = {"temperature": 4.0, "top_k": 0, "top_p": 1.0, "seed": 0}

    def options(chosen: dict[str, Any]) -> list[str]:
        return [f"--{name.replace('_', '-')}={number}" for name, number in chosen.items()]

    said, without = (
        facts("generate", speaker, PROMPT, *options(chosen)) for chosen in (usual | {option: value}, usual)
    )
    model = gpt2.load(speaker, "numpy")
    ids = model.generate(model.encode(PROMPT), **(usual | {option: value}))[0]
    assert said["prompt_ids"] + said["new_ids"] == ids.tolist()
    assert said["new_ids"] != without["new_ids"]


@pytest.mark.parametrize("options", [(), SAMPLED])
@pytest.mark.parametrize("mode", ["pynative", "graph"])
def test_mindspore_writes_the_same_text(mode: str, options: tuple[str, ...], speaker: Path) -> None:
    usable(f"mindspore {mode}")
    command = ("generate", speaker, PROMPT, *options)
    assert run(*command, "--backend", "mindspore", "--mode", mode).result == run(*command).result


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


# The stream of pieces.


class Bytes:
    """Stands for a model with a tokenizer whose tokens are bytes."""

    tokenizer = True

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")


def pieces(ids: bytes, prompt_length: int) -> list[str]:
    """What a stream has printed after each of the tokens that follow the prompt, and at the end."""
    out, printed = io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        stream = cli.Stream(Bytes(), np.array(list(ids[:prompt_length]), np.int64), quiet=False)
        for token in ids[prompt_length:]:
            stream(np.array([token]))
            printed.append(out.getvalue())
        stream.end()
    return [*printed, out.getvalue()]


@given(st.binary(min_size=1), st.data())
def test_pieces_of_any_bytes_join_to_their_text(raw: bytes, data: st.DataObject) -> None:
    assert pieces(raw, data.draw(st.integers(0, len(raw))))[-1] == Bytes().decode(list(raw)) + "\n"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\N{REPLACEMENT CHARACTER}"), min_size=1))
def test_no_piece_ends_inside_a_character(text: str) -> None:
    assert all(text.startswith(piece.removesuffix("\n")) or piece == text + "\n" for piece in pieces(text.encode(), 1))


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
    monkeypatch.setattr("gpt2.model.load_tokenizer", lambda folder: True)
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


def test_a_folder_whose_name_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "[").mkdir()
    folder = folder_of(tmp_path / "[" / "red]")
    assert "[/red]" in run("info", folder).result


# check

SCHEMA = json.loads((ROOT / "parity" / "check.schema.json").read_text(encoding="utf-8"))


def test_check_says_what_it_found_to_machines() -> None:
    usable("mindspore pynative")
    said = facts("check", "ops.relu", "--examples", "3")
    jsonschema.validate(said, SCHEMA)
    assert (said["backend"], said["mode"]) == ("mindspore", "pynative")
    assert [(result["function"], result["agrees"]) for result in said["results"]] == [("ops.relu", True)]


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

    monkeypatch.setattr(cli, "_load", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        ran = run("generate", small, "--ids", "1")
    assert (ran.code, ran.err) == (0, "gpt2: note: a small thing\n")


def test_a_copy_of_the_folder_is_the_same_model(small: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(small, tmp_path / "copy")
    assert run("generate", copied, "--ids", "1") == run("generate", small, "--ids", "1")
