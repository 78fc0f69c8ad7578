"""What comes of a run: a model that generates, metrics, checkpoints, the loss of what was held out."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import gpt2
from gpt2.data.corpus import Corpus, read_corpus
from gpt2.model.hf_folder import read_config, read_parameters
from gpt2.training import recipe
from gpt2.training import run as training_run
from parity.verdict.verdict import Reference
from reference.config import nest
from reference.model import language_model_loss
from tests.gpt2.command import run, run_outside
from tests.gpt2.training.runs import (
    BATCH_SIZE,
    CONFIG,
    LEARNING,
    MODEL,
    SEED,
    STEPS,
    WEIGHTS,
    checkpoints,
    command,
    metrics,
    other_settings,
    same_run,
    samples_file,
    train,
)

# What comes of a run.


def test_a_run_leaves_a_model_that_generates(text: Path, tmp_path: Path) -> None:
    result = train(text, tmp_path / "run", config=None, steps=2, save_every=None, eval_every=None)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoints",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        WEIGHTS,
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    model = gpt2.load(tmp_path / "run", backend="numpy")
    assert (model.config.n_layer, model.config.vocab_size) == (4, 9)
    ids = model.generate(model.encode("abc"), 5)
    assert len(model.decode(ids[0])) == 8
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert result.folder == tmp_path / "run"


def test_the_command_and_python_say_the_same(text: Path, tmp_path: Path) -> None:
    result = train(text, tmp_path / "python")
    words = command(text, tmp_path / "command")
    assert json.loads(run(*words, "--json").result) == {
        "folder": str(tmp_path / "command"),
        "step": STEPS,
        "loss": result.loss,
        "validation_loss": result.validation_loss,
        "perplexity": math.exp(result.validation_loss),
        "interrupted": False,
    }
    assert same_run(tmp_path / "command", tmp_path / "python")
    again = run(*words, "--resume")
    assert f"{result.validation_loss:.4f}" in again.out
    assert again.err == f"gpt2: note: {tmp_path / 'command'} was finished already, after {STEPS} steps: none is left\n"
    updates = [line for line in metrics(tmp_path / "python") if "loss" in line]
    assert [line["step"] for line in updates] == list(range(1, STEPS + 1))
    assert [line["micro_batch"] for line in updates] == list(range(2, 2 * STEPS + 1, 2))
    assert [line["lr"] for line in updates[:3]] == [
        0,
        float(np.float32(LEARNING["learning_rate"] / 2)),
        float(np.float32(LEARNING["learning_rate"])),
    ]
    assert {line["tokens"] for line in updates} == {2 * BATCH_SIZE * MODEL["n_positions"]}
    assert updates[-1]["loss"] == result.loss
    evaluations = [line for line in metrics(tmp_path / "python") if "validation_loss" in line]
    assert [line["step"] for line in evaluations] == [2, 4, 6]
    assert evaluations[-1]["validation_loss"] == result.validation_loss
    assert result.perplexity == evaluations[-1]["perplexity"]


def test_the_loss_of_an_update_is_the_mean_of_its_micro_batches(text: Path, tmp_path: Path) -> None:
    """Whether or not they make one update, as nothing is learnt."""
    still = {"learning_rate": 0.0, "schedule": "constant"}
    for name, accumulated in (("one", 1), ("two", 2)):
        config = CONFIG | {"training": still | {"accumulate_step": accumulated}}
        train(text, tmp_path / name, config=config, steps=4 // accumulated, eval_every=9)
    singles = [line["loss"] for line in metrics(tmp_path / "one") if "loss" in line]
    pairs = [line["loss"] for line in metrics(tmp_path / "two") if "loss" in line]
    assert pairs == [np.mean(singles[:2]), np.mean(singles[2:])]


def test_watch_hears_of_every_update(text: Path, tmp_path: Path) -> None:
    heard: list[training_run.TrainingProgress] = []
    train(text, tmp_path / "run", watch=heard.append)
    updates = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert [(each.step, each.loss, each.lr, each.scale) for each in heard] == [
        (line["step"], line["loss"], line["lr"], line["scale"]) for line in updates
    ]
    assert {each.steps for each in heard} == {STEPS}
    assert [math.isnan(each.validation_loss) for each in heard] == [True, True, *[False] * (STEPS - 2)]


def test_a_run_says_at_its_start_what_it_is(text: Path, tmp_path: Path) -> None:
    ran = run(*command(text, tmp_path / "run", steps=3, backend="numpy"))
    assert (ran.code, ran.said) == (0, "")
    parameters = sum(x.size for x in load_file(tmp_path / "run" / WEIGHTS).values())
    rows = read_corpus(text, recipe.data_settings(recipe.read_sections(CONFIG), None), MODEL["n_positions"])
    assert f" {parameters:,} parameters; 3 steps of {BATCH_SIZE * LEARNING['accumulate_step']} x " in ran.err
    assert f" times through {len(rows.training['ids'])} rows; {len(rows.held_out['ids'])} rows held out\n" in ran.err


@pytest.mark.parametrize("keep", [1, 2, 10])
def test_the_last_checkpoints_are_kept(keep: int, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "run", keep=keep, steps=5, save_every=2)
    assert checkpoints(tmp_path / "run") == [f"step-{n:08d}.safetensors" for n in (0, 2, 4, 5)[-keep:]]


def test_events_and_a_log_are_written_on_request(text: Path, tmp_path: Path) -> None:
    log = tmp_path / "run" / "train.log"
    train(text, tmp_path / "run", tensorboard=True, log=log)
    assert len(log.read_text().splitlines()) == len(metrics(tmp_path / "run"))
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_importing_the_door_does_not_import_what_draws() -> None:
    program = "import sys, gpt2\nprint(gpt2.train.__module__, 'matplotlib' in sys.modules)"
    assert run_outside(program=program).result == "gpt2.training.run False\n"


# Evaluation.


def rows_of(data: Path, config: dict[str, Any]) -> Corpus:
    """What a run reads from a file."""
    settings = recipe.data_settings(recipe.read_sections(config), None)
    return read_corpus(data, settings, MODEL["n_positions"], seed=SEED)


def mean_loss(folder: Path, rows: dict[str, Any], dtype: Any, together: int) -> float:
    """The loss of all tokens scored: of so many rows at once, each such loss counting for as many tokens as it has."""
    config = read_config(folder)
    params = nest({name: x.astype(dtype) for name, x in read_parameters(folder, config).items()})
    losses, counts = [], []
    for first in range(0, len(rows["ids"]), together):
        part = {name: x[first : first + together] for name, x in rows.items()}
        count = int((part["labels"][:, 1:] != -100).sum())
        if count:
            losses.append(language_model_loss(params, config=config, **part))
            counts.append(count)
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_validation_loss_is_that_of_every_token_whatever_the_batch(layout: str, text: Path, tmp_path: Path) -> None:
    data = text if layout == "packed" else samples_file(tmp_path)
    config = other_settings("data", held_out=0.3)
    model = train(data, tmp_path / "model", config=config).folder
    held_out = rows_of(data, config).held_out
    exact = mean_loss(model, held_out, np.float64, 1)
    members = [np.float32(mean_loss(model, held_out, np.float32, together)) for together in range(1, 9)]
    judge = Reference(np.float64(exact), [np.asarray(member) for member in members])
    still = {"training": {"learning_rate": 0.0}, "data": {"held_out": 0.3}}
    assert len(held_out["ids"]) % 4
    for batch_size in (1, 4, 7):
        result = train(data, tmp_path / f"by {batch_size}", config=still, model=model, steps=1, batch_size=batch_size)
        verdict = judge.judge(np.float32(result.validation_loss))
        assert verdict.agrees, verdict.explain()
        assert result.perplexity == math.exp(result.validation_loss)


def test_an_evaluation_has_the_batches_that_were_asked_for(text: Path, tmp_path: Path) -> None:
    config = other_settings("data", held_out=0.3)
    result = train(text, tmp_path / "run", config=config, eval_batches=2)
    held_out = {name: x[: 2 * BATCH_SIZE] for name, x in rows_of(text, config).held_out.items()}
    exact = mean_loss(result.folder, held_out, np.float64, 1)
    members = [np.asarray(np.float32(mean_loss(result.folder, held_out, np.float32, n))) for n in range(1, 7)]
    assert Reference(np.float64(exact), members).judge(np.float32(result.validation_loss)).agrees


def test_without_held_out_rows_there_is_no_evaluation(text: Path, tmp_path: Path) -> None:
    words = command(text, tmp_path / "run", "--json", config=other_settings("data", held_out=0))
    facts = json.loads(run(*words).result)
    assert (facts["validation_loss"], facts["perplexity"]) == (None, None)
    assert all("validation_loss" not in line for line in metrics(tmp_path / "run"))
