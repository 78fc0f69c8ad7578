"""Runs from other models, on other data, in other precisions and through the other pipeline."""

import dataclasses
from pathlib import Path

import pytest

import gpt2
from gpt2.model.hf_folder import read_config
from gpt2.training.checkpoint import latest_checkpoint, read_checkpoint, write_checkpoint
from gpt2.training.run import CHECKPOINTS
from tests.gpt2.conftest import usable
from tests.gpt2.training.runs import (
    LEARNING,
    MODEL,
    STEPS,
    WEIGHTS,
    metrics,
    other_settings,
    same_run,
    samples_file,
    train,
    train_to,
)


def test_going_on_from_a_model_begins_where_it_ended(text: Path, tmp_path: Path) -> None:
    before = train(text, tmp_path / "model")
    still = {"training": {"learning_rate": 0.0}}
    after = train(text, tmp_path / "still", config=still, model=before.folder, steps=1)
    assert after.validation_loss == before.validation_loss
    assert (tmp_path / "still" / WEIGHTS).read_bytes() == (before.folder / WEIGHTS).read_bytes()
    learning = {"training": LEARNING, "resid_pdrop": 0.0}
    more = train(text, tmp_path / "more", config=learning, model=before.folder)
    assert (tmp_path / "more" / WEIGHTS).read_bytes() != (before.folder / WEIGHTS).read_bytes()
    assert read_config(more.folder) == dataclasses.replace(read_config(before.folder), resid_pdrop=0.0)


def test_a_run_from_a_model_goes_on_without_the_model(text: Path, tmp_path: Path, speaker: Path) -> None:
    """Its tokenizer, of vocab.json and merges.txt, becomes the run's own tokenizer.json."""
    options = {"model": speaker, "config": {"training": LEARNING}}
    train(text, tmp_path / "whole", **options)
    train(text, tmp_path / "run", **options, watch=train_to(3))
    gpt2.train(text, tmp_path / "run", resume=True, eval_every=2, backend="numpy")
    assert same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_run_goes_on_with_the_tokenizer_that_it_trained(tokenizer: str, text: Path, tmp_path: Path) -> None:
    config = {"model": MODEL | {"vocab_size": 260}, "training": LEARNING, "data": {"tokenizer": tokenizer}}
    train(text, tmp_path / "whole", config=config)
    train(text, tmp_path / "run", config=config, watch=train_to(3))
    train(text, tmp_path / "run", config=config, resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


def test_padded_samples_are_learnt(tmp_path: Path) -> None:
    data = samples_file(tmp_path)
    whole = train(data, tmp_path / "whole", steps=60, eval_every=10)
    first, *_, last = [line["validation_loss"] for line in metrics(tmp_path / "whole") if "validation_loss" in line]
    assert last < first
    assert whole.validation_loss == last
    train(data, tmp_path / "run", steps=60, eval_every=10, watch=train_to(7))
    train(data, tmp_path / "run", steps=60, eval_every=10, resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


def test_micro_batches_that_overflow_are_passed_over(text: Path, tmp_path: Path) -> None:
    scaled = {"level": "O2", "loss_scaler": "dynamic", "scale_value": 2.0**40, "schedule": "constant"}
    config = other_settings("training", **scaled)
    result = train(text, tmp_path / "whole", config=config)
    updates = [line for line in metrics(tmp_path / "whole") if "loss" in line]
    passed_over = updates[-1]["micro_batch"] - 2 * STEPS
    assert result.step == len(updates) == STEPS
    assert passed_over > 0
    assert updates[-1]["scale"] == 2.0 ** (40 - passed_over)
    train(text, tmp_path / "run", config=config, watch=train_to(1))
    train(text, tmp_path / "run", config=config, resume=True)
    assert same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_the_pipelines_make_the_same_weights(layout: str, text: Path, tmp_path: Path) -> None:
    """More than an epoch, and a run that begins with the one and goes on with the other."""
    usable("mindspore pynative")
    data = text if layout == "packed" else samples_file(tmp_path)
    options = {"steps": 12, "batch_size": 10}
    for pipeline in ("numpy", "mindspore"):
        train(data, tmp_path / pipeline, pipeline=pipeline, **options)
    assert same_run(tmp_path / "mindspore", tmp_path / "numpy")
    train(data, tmp_path / "both", pipeline="mindspore", watch=train_to(5), **options)
    train(data, tmp_path / "both", pipeline="numpy", resume=True, **options)
    assert same_run(tmp_path / "both", tmp_path / "numpy")


def test_a_run_of_an_earlier_version_goes_on_with_the_rows_that_it_had(tmp_path: Path) -> None:
    """Earlier versions had no `split`, and held out the last samples."""
    data = samples_file(tmp_path)
    last = other_settings("data", split="last")
    train(data, tmp_path / "whole", config=last)
    train(data, tmp_path / "run", config=last, watch=train_to(3))
    newest = latest_checkpoint(tmp_path / "run" / CHECKPOINTS)
    assert newest is not None
    checkpoint = read_checkpoint(newest)
    for settings in (checkpoint.facts["recipe"], checkpoint.facts["given"]["config"]):
        del settings["data"]["split"]
    write_checkpoint(newest.parent, checkpoint, 1)
    gpt2.train(data, tmp_path / "run", resume=True, eval_every=2, backend="numpy")
    assert same_run(tmp_path / "run", tmp_path / "whole")
    train(data, tmp_path / "drawn")
    assert not same_run(tmp_path / "drawn", tmp_path / "whole")
