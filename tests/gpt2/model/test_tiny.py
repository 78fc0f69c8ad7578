"""The tiny model inside the package: what it is trained on, what it weighs, and what it can do."""

import itertools
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import gpt2
from benchmarks import tiny_model
from gpt2 import strings
from gpt2.backends import Backend
from gpt2.data.corpus import read_corpus
from gpt2.errors import GPT2Error
from gpt2.model.hf_folder import CONFIG, PACKAGED, find_folder, read_config, read_parameters
from gpt2.model.tensors import WEIGHTS
from gpt2.training.recipe import data_settings, model_fields, read_sections
from tests.gpt2.command import run

ANSWERS = {
    "copy": "b2az",
    "reverse": "za2b",
    "sort": "2abz",
    "upper": "B2AZ",
    "count": "4",
    "first": "b",
    "last": "z",
}
TEXTS = list(itertools.islice(strings.inputs(1, held_out=True), 100))


@pytest.fixture(scope="module")
def recipe() -> dict[str, dict[str, Any]]:
    """The settings that the packaged model was trained by, in their sections."""
    return read_sections(strings.RECIPE)


@pytest.mark.parametrize("task", strings.TASKS)
def test_an_answer_is_what_the_task_says(task: str) -> None:
    assert strings.TASKS[task]("b2az") == ANSWERS[task]


def test_samples_follow_from_the_seed() -> None:
    assert strings.samples(5, 50) == strings.samples(5, 50)
    assert strings.samples(5, 50) != strings.samples(6, 50)
    assert strings.samples(5, 50) == strings.samples(5, 80)[:50]


@pytest.mark.parametrize("held_out", [False, True])
def test_samples_take_turns_over_tasks_and_have_every_length(held_out: bool) -> None:
    found = strings.samples(3, 700, held_out)
    assert [sample["task"] for sample in found] == [*strings.TASKS] * 100
    assert {len(sample["input"]) for sample in found} == set(range(1, strings.LONGEST + 1))
    assert all(sample["output"] == strings.TASKS[sample["task"]](sample["input"]) for sample in found)
    assert {strings.is_held_out(sample["input"]) for sample in found} == {held_out}


def test_what_is_held_out_never_changes() -> None:
    """The packaged model was trained by it."""
    held_out = [character for character in strings.CHARACTERS if strings.is_held_out(character)]
    assert "".join(held_out) == "djpsu9"


def test_nothing_that_is_learnt_from_is_held_out(tmp_path: Path, recipe: dict[str, dict[str, Any]]) -> None:
    data = tmp_path / "strings.jsonl"
    strings.write_samples(data, 4, 700)
    lines = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    corpus = read_corpus(data, data_settings(recipe, None), model_fields(recipe)["n_positions"])
    judged = len(corpus.held_out["ids"])
    assert [strings.is_held_out(line["input"]) for line in lines] == [False] * (len(lines) - judged) + [True] * judged
    assert corpus.facts["cut_samples"] == 0


def test_the_block_is_as_long_as_the_longest_sample(tmp_path: Path, recipe: dict[str, dict[str, Any]]) -> None:
    data = tmp_path / "strings.jsonl"
    strings.write_samples(data, 4, 7000)
    corpus = read_corpus(data, data_settings(recipe, None), model_fields(recipe)["n_positions"])
    assert corpus.training["attention_mask"].sum(axis=1).max() == corpus.facts["block_size"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match="cannot write"):
        strings.write_samples(tmp_path, 0, 10)


def test_the_command_writes_the_training_file_and_says_what_to_do_with_it(tmp_path: Path) -> None:
    by_command, by_function = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    ran = CliRunner().invoke(strings.main, [str(by_command), "--seed", "8", "--count", "100"])
    strings.write_samples(by_function, 8, 100)
    assert by_command.read_bytes() == by_function.read_bytes()
    assert ran.output.startswith(f"gpt2 train --data {by_command} --config {strings.RECIPE} ")


def test_it_is_small_and_whole() -> None:
    folder = find_folder("tiny")
    assert (folder / WEIGHTS).stat().st_size < 2_000_000
    parameters = read_parameters(folder, read_config(folder))
    assert {x.dtype for x in parameters.values()} == {np.dtype(np.float32)}


def test_it_has_the_shape_of_its_recipe(recipe: dict[str, dict[str, Any]]) -> None:
    fields = read_config(find_folder("tiny")).to_dict()
    assert fields | recipe["model"] == fields


def test_a_folder_of_its_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert find_folder("tiny") == PACKAGED["tiny"]
    shutil.copy(PACKAGED["tiny"] / CONFIG, "tiny")
    assert find_folder("tiny") == Path("tiny")
    assert find_folder("./tiny") == Path("tiny")


def test_it_reverses() -> None:
    assert run("generate", "tiny", "reverse: gpt2\n").result == "reverse: gpt2\n2tpg\n"


def test_every_task_is_done_with_the_same_ids_on_every_engine(every_engine: Backend) -> None:
    ours, theirs = gpt2.load("tiny", every_engine), gpt2.load("tiny", "numpy")
    for name, solve in strings.TASKS.items():
        ids = tiny_model.write(ours, name, TEXTS)
        assert np.array_equal(ids, tiny_model.write(theirs, name, TEXTS)), name
        assert tiny_model.share(tiny_model.read(ours, ids), list(map(solve, TEXTS))) >= 0.99, name


def test_the_most_frequent_answer_is_that_of_most_tasks() -> None:
    """To "a" five of seven tasks answer "a"; to "ab" copy and sort answer "ab"."""
    found = tiny_model.without_task(gpt2.load("tiny", "numpy"), ["a", "ab"])
    assert found["most_frequent"] == statistics.fmean([5 / 7, 2 / 7])


def test_without_the_task_it_cannot_tell() -> None:
    model = gpt2.load("tiny", "numpy")
    written = tiny_model.read(model, tiny_model.write(model, "", TEXTS))
    by_task = [tiny_model.share(written, list(map(solve, TEXTS))) for solve in strings.TASKS.values()]
    found = tiny_model.without_task(model, TEXTS)
    hits = round(found["exact"] * len(TEXTS) * len(by_task))
    assert hits == round(sum(by_task) * len(TEXTS))
    assert found["exact"] <= found["most_frequent"]
