"""What a run refuses, in one line and with nothing changed: other settings, other data, folders, bad gradients."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2.backends import NumPyBackend
from gpt2.errors import GPT2Error
from gpt2.model.hf_folder import read_config, read_parameters
from gpt2.training import run as training_run
from gpt2.training.checkpoint import latest_checkpoint, read_checkpoint, write_checkpoint
from tests.gpt2.command import run, run_outside
from tests.gpt2.small import folder_of
from tests.gpt2.training.runs import (
    BATCH_SIZE,
    CONFIG,
    CONSTANT,
    LEARNING,
    MODEL,
    SEED,
    STEPS,
    checkpoints,
    command,
    contents,
    other_settings,
    same_run,
    train,
    train_to,
)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"config": other_settings("training", learning_rate=0.5)}, "learning_rate is 0.5 now, but was 0.01 when"),
        ({"config": other_settings("model", n_embd=8)}, "n_embd is 8 now, but was 16 when the run was begun"),
        ({"config": other_settings("model", attn_pdrop=0.2)}, "attn_pdrop is 0.2 now, but was 0.1 when"),
        ({"config": other_settings("data", held_out=0.2)}, "held_out is 0.2 now, but was 0.1 when"),
        ({"steps": STEPS + 1}, "total_steps is 7 now, but was 6 when the run was begun (with 6 steps): leave out"),
        ({"batch-size": BATCH_SIZE + 1}, "batch_size is 4 now, but was 3 when the run was begun"),
        ({"seed": SEED + 1}, "seed is 6 now, but was 5 when the run was begun"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:20],
)
def test_what_decides_the_weights_cannot_change(
    options: dict[str, Any], complaint: str, begun: Path, text: Path
) -> None:
    before = contents(begun)
    refusal = run(*command(text, begun, "--resume", **options)).refusal
    assert complaint in refusal
    assert contents(begun) == before


def test_a_run_of_a_version_without_a_setting_goes_on(begun: Path, text: Path) -> None:
    checkpoint = read_checkpoint(latest_checkpoint(begun / training_run.CHECKPOINTS))
    del checkpoint.facts["recipe"]["data"]["label"]
    write_checkpoint(begun / training_run.CHECKPOINTS, checkpoint, keep=1)
    assert run(*command(text, begun, "--resume")).result
    assert latest_checkpoint(begun / training_run.CHECKPOINTS).name == f"step-{STEPS:08d}.safetensors"


def test_the_model_that_a_run_began_from_cannot_change(text: Path, tmp_path: Path) -> None:
    one, other = (train(text, tmp_path / name, seed=seed).folder for seed, name in enumerate(("one", "other")))
    options = {"model": one, "config": {"training": LEARNING}}
    train(text, tmp_path / "run", **options, watch=train_to(3))
    before = contents(tmp_path / "run")
    refusal = run(*command(text, tmp_path / "run", "--resume", **{**options, "model": other})).refusal
    assert refusal == f"model is {other} now, but was {one} when the run was begun: leave it out"
    assert contents(tmp_path / "run") == before


def test_changed_data_and_a_changed_tokenizer_are_refused(begun: Path, text: Path) -> None:
    before, whole = contents(begun), text.read_text()
    text.write_text(whole[:-1] + "a")
    assert "the data file has changed since the checkpoint" in run(*command(text, begun, "--resume")).refusal
    text.write_text(whole)
    assert contents(begun) == before
    file = begun / "tokenizer.json"
    file.write_text(file.read_text().replace('"a": 2', '"a": 3').replace('"b": 3', '"b": 2'))
    assert file.read_bytes() != before["tokenizer.json"]
    assert "the tokenizer has changed since the checkpoint" in run(*command(text, begun, "--resume")).refusal
    file.write_bytes(before["tokenizer.json"])
    assert run(*command(text, begun, "--resume")).result


def test_a_run_without_a_schedule_can_be_made_longer(text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "short", config=CONSTANT)
    train(text, tmp_path / "short", config=CONSTANT, steps=2 * STEPS, resume=True)
    train(text, tmp_path / "long", config=CONSTANT, steps=2 * STEPS)
    assert same_run(tmp_path / "short", tmp_path / "long")
    refusal = run(*command(text, tmp_path / "short", "--resume", config=CONSTANT)).refusal
    assert refusal == "the run has made 12 steps, more than 6: give more, or none"


def test_what_is_not_said_is_as_it_was(begun: Path, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "whole")
    assert run("train", "--data", text, "--output", begun, "--resume", "--eval-every", 2).result
    assert same_run(begun, tmp_path / "whole")


def test_a_folder_with_a_run_is_gone_on_with_by_request_only(begun: Path, text: Path) -> None:
    before = contents(begun)
    assert "holds a training run: give --resume to resume it" in run(*command(text, begun)).refusal
    assert contents(begun) == before


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/epoch-1.bin", "checkpoints/.step-0.safetensors.part.txt"])
@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["anew", "resume"])
def test_a_folder_that_holds_something_else_is_left_alone(
    name: str, more: list[str], text: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    refusal = run(*command(text, tmp_path / "mine", *more)).refusal
    assert "mine exists and is not a folder of a training run: name another one" in refusal
    assert contents(tmp_path / "mine") == {name: b"mine"}


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ("text.txt", "exists and is not a folder of a training run"),
        ("text.txt/run", "cannot write "),
        ("n" * 300, "File name too long"),
    ],
    ids=["a file", "below a file", "a long name"],
)
def test_a_folder_that_cannot_be_is_refused(folder: str, complaint: str, text: Path, tmp_path: Path) -> None:
    assert complaint in run(*command(text, tmp_path / folder)).refusal
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json", "text.txt"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"config": '{"training": {"learning_rat": 1}}'}, "no setting 'learning_rat': expected one of"),
        ({"config": other_settings("model", n_layers=2)}, "no setting 'n_layers': is 'n_layer' meant?"),
        ({"config": "{"}, "settings.json is not valid JSON"),
        ({"config": other_settings("model", n_head=3)}, "config field 'n_head' must be a divisor of n_embd = 16"),
        ({"config": other_settings("model", vocab_size="many")}, "'vocab_size' must be an integer of at least 1"),
        ({"config": other_settings("model", n_positions=None)}, "'n_positions' must be an integer of at least 1"),
        ({"config": other_settings("model", vocab_size=4)}, "the tokenizer (characters) has 9 ids, but the model's"),
        ({"config": other_settings("data", block_size=9)}, "block_size 9 exceeds the model's context: expected at m"),
        ({"config": other_settings("training", beta1=1)}, "training field 'beta1' must be a number from 0 to below 1"),
        ({"batch-size": 1000}, " rows to train on, but a batch has 1000: give more text, or a smaller batch size"),
        ({"model": "nowhere/at/all"}, "no model folder 'nowhere/at/all'"),
        ({"backend": "nothing"}, "unknown backend 'nothing'"),
        ({"steps": 0}, "0 is not in the range x>=1"),
        ({"seed": -1}, "-1 is not in the range"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    options: dict[str, Any], complaint: str, text: Path, tmp_path: Path
) -> None:
    assert complaint in run(*command(text, tmp_path / "run", **options)).refusal
    assert not (tmp_path / "run").exists()


def test_a_single_row_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefgh" * 2)
    one = run(*command(tmp_path / "a.txt", tmp_path / "run", config=other_settings("data", held_out=0.5)))
    assert "a.txt gives 1 row to train on, but a batch has 3" in one.refusal


@pytest.mark.parametrize("name", ["steps", "batch_size", "save_every", "keep", "eval_every", "eval_batches"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_numbers_are_checked_in_python_too(name: str, value: Any, text: Path, tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=f"^{name} must be an integer of at least 1, but is {value}$"):
        train(text, tmp_path / "run", **{name: value})


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5])
def test_a_seed_is_a_number_of_64_bits(seed: Any, text: Path, tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"^seed must be an integer from 0 to 2\*\*64 - 1, but is"):
        train(text, tmp_path / "run", seed=seed)


class Silent(NumPyBackend):
    """A backend that does not learn, as examples/einsum_backend says it."""

    name = "silent"
    trainer = None  # type: ignore[assignment]


def test_a_backend_that_cannot_train_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(GPT2Error, match=r"^backend 'silent' does not train: choose another one"):
        train(text, tmp_path / "run", backend=Silent())
    with pytest.raises(GPT2Error, match=r"^weights are trained in float32, not in float16: "):
        train(text, tmp_path / "run", dtype="float16")
    assert not (tmp_path / "run").exists()


def test_missing_data_is_refused(tmp_path: Path) -> None:
    refusal = run("train", "--data", tmp_path / "none.txt", "--output", tmp_path / "run").refusal
    assert refusal == f"cannot read the data {tmp_path / 'none.txt'}: No such file or directory"
    assert not (tmp_path / "run").exists()


def test_a_model_goes_on_as_it_is(text: Path, tmp_path: Path) -> None:
    model = train(text, tmp_path / "model").folder
    refusal = run(*command(text, tmp_path / "run", model=model)).refusal
    assert "config field 'n_layer' is for new models, but training starts from an existing one" in refusal
    assert not (tmp_path / "run").exists()


def test_a_classifier_is_not_trained_as_a_language_model(text: Path, tmp_path: Path) -> None:
    model = train(text, tmp_path / "model").folder
    parameters = read_parameters(model, config := read_config(model))
    parameters["score.weight"] = np.ones((2, config.n_embd), np.float32)
    classifier = folder_of(tmp_path / "classifier", config, parameters)
    assert "holds a classifier" in run(*command(text, tmp_path / "run", model=classifier, config=None)).refusal


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_serves(begun: Path, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "whole")
    damaged = begun / "checkpoints" / "step-00000003.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    before = contents(begun)
    refusal = run(*command(text, begun, "--resume")).refusal
    assert f"{damaged} is damaged" in refusal
    assert refusal.endswith("remove it to resume from " + str(damaged).replace("3.safe", "2.safe"))
    assert contents(begun) == before
    damaged.unlink()
    assert run(*command(text, begun, "--resume")).result
    assert same_run(begun, tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_disk_that_is_full_in_the_middle_costs_nothing(begun: Path, text: Path, tmp_path: Path) -> None:
    train(text, tmp_path / "whole")
    before = checkpoints(begun)
    size = (begun / "checkpoints" / before[-1]).stat().st_size
    program = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))\n"
    words = command(text, begun, "--resume")
    refusal = run_outside(*words, program=program + "from gpt2.commands.main import main\nmain()").refusal
    assert "step-00000004.safetensors" in refusal
    assert "File too large" in refusal
    assert checkpoints(begun) == before
    assert run(*words).result
    assert same_run(begun, tmp_path / "whole")


@pytest.mark.parametrize(
    "changes",
    [
        {"training": LEARNING | {"learning_rate": 1e10, "max_grad_norm": None}},
        {"training": LEARNING | {"level": "O2"}, "model": MODEL | {"initializer_range": 1e4}},
    ],
    ids=["too fast", "float16"],
)
def test_gradients_that_are_not_finite_end_the_run(changes: dict[str, Any], text: Path, tmp_path: Path) -> None:
    ran = run(*command(text, tmp_path / "run", config=CONFIG | changes, steps=100, **{"save-every": 100}))
    assert ran.refusal.startswith("the gradients of micro-batch ")
    assert "are not finite, at loss scale 1: lower learning_rate" in ran.refusal
    assert checkpoints(tmp_path / "run") == ["step-00000000.safetensors"]


def test_a_scale_that_never_shrinks_ends_the_run(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "MOST_SKIPPED", 20)
    scaled = {"level": "O2", "loss_scaler": "static", "scale_value": 2.0**40}
    refusal = run(*command(text, tmp_path / "run", config=other_settings("training", **scaled))).refusal
    assert "micro-batch 19 (step 1) are not finite, at loss scale 1.09951e+12" in refusal
