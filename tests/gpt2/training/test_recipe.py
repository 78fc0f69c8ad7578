"""The settings of a run: where each of them stands, and which are refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gpt2.data.settings import DataConfig
from gpt2.errors import GPT2Error
from gpt2.training import recipe
from gpt2.training.recipe import Recipe, read_sections
from reference.config import GPT2Config, TrainingConfig
from tests.gpt2.command import run
from tests.gpt2.small import ROOT

# Of openai-community/gpt2 on the Hugging Face hub.
HUGGING_FACE = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}


def written(path: Path, content: Any) -> Path:
    """A file with that content, as JSON if it is no text."""
    file = path / "settings.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_without_a_file_there_are_no_settings() -> None:
    assert read_sections(None) == {"model": {}, "training": {}, "data": {}}


def test_a_file_and_a_mapping_say_the_same(tmp_path: Path) -> None:
    given = {"model": {"n_layer": 2}, "data": {"held_out": 0.5}}
    assert read_sections(written(tmp_path, given)) == read_sections(given) == {"training": {}, **given}


def test_fields_outside_the_sections_find_their_own() -> None:
    flat = {"n_layer": 2, "learning_rate": 0.1, "block_size": 8, "data": {"field": "body"}, "id2label": {"0": "no"}}
    assert read_sections(flat) == {
        "model": {"n_layer": 2, "id2label": {"0": "no"}},
        "training": {"learning_rate": 0.1},
        "data": {"field": "body", "block_size": 8},
    }


@pytest.mark.parametrize("wrap", [lambda fields: fields, lambda fields: {"model": fields}], ids=["flat", "section"])
def test_hugging_faces_configuration_is_a_recipe_for_a_model(wrap: Any, tmp_path: Path) -> None:
    sections = read_sections(written(tmp_path, wrap(HUGGING_FACE)))
    assert sections == {"model": HUGGING_FACE, "training": {}, "data": {}}
    special = {"bos_token_id": 50256, "eos_token_id": 50256}
    assert recipe.model_settings(recipe.model_fields(sections)) == GPT2Config(**special)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"training": {"learning_rat": 1}}, "no setting 'learning_rat': expected one of accumulate_step, "),
        ({"data": {"blocksize": 8}}, "no setting 'blocksize': expected one of block_size, "),
        ({"model": {"n_layers": 2}}, "no setting 'n_layers': is 'n_layer' meant?"),
        ({"learning_rates": 1}, "no setting 'learning_rates': is 'learning_rate' meant?"),
        ({"n_head_": 1}, "no setting 'n_head_': is 'n_head' meant?"),
        ({"model": {"learning_rate": 1}}, "'learning_rate' is under 'model', but belongs under 'training'"),
        ({"model": {"held_out": 0}}, "'held_out' is under 'model', but belongs under 'data'"),
        ({"steps": 7}, "'steps' is not a setting but an option: --steps"),
        ({"model": {"batch_size": 7}}, "'batch_size' is not a setting but an option: --batch-size"),
        ({"model": 3}, "'model' must be an object, but is 3"),
        ({"training": [1]}, "'training' must be an object, but is [1]"),
        ([], "must be an object, but is []; expected an object with model, training and data"),
        ("{", "is not valid JSON: "),
    ],
    ids=str,
)
def test_what_is_no_setting_is_named(content: Any, complaint: str, tmp_path: Path) -> None:
    file = written(tmp_path, content)
    with pytest.raises(GPT2Error) as caught:
        read_sections(file)
    assert complaint in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mapping_must_be_what_a_checkpoint_can_hold() -> None:
    with pytest.raises(GPT2Error, match=r"config must hold what JSON can hold: .* set is not JSON"):
        read_sections({"model": {"n_layer": {1}}})


def test_nothing_said_makes_a_small_model_with_a_schedule_that_ends_with_the_run() -> None:
    sections = read_sections(None)
    assert recipe.model_settings(recipe.model_fields(sections)) == GPT2Config(**recipe.SMALL)
    long, short = recipe.training_settings(sections, 2000), recipe.training_settings(sections, 50)
    assert (long.schedule, long.warmup_steps, long.total_steps) == ("cosine", 100, 2000)
    assert (short.warmup_steps, short.total_steps) == (5, 50)


def test_a_model_that_is_described_is_no_small_one() -> None:
    sections = read_sections({"n_layer": 3})
    assert recipe.model_settings(recipe.model_fields(sections)) == GPT2Config(n_layer=3)


@pytest.mark.parametrize(
    ("given", "total"),
    [
        ({"schedule": "linear"}, 70),
        ({"schedule": "cosine", "total_steps": 90}, 90),
        ({"schedule": "constant"}, 0),
        ({"learning_rate": 1.0}, 0),
    ],
)
def test_a_schedule_ends_with_the_run_if_nothing_else_is_said(given: dict[str, Any], total: int) -> None:
    settings = recipe.training_settings(read_sections({"training": given}), 70)
    assert settings == TrainingConfig(**{**given, "total_steps": total})


def test_the_option_of_the_pipeline_goes_before_the_file() -> None:
    sections = read_sections({"data": {"pipeline": "mindspore", "held_out": 0}})
    assert recipe.data_settings(sections, None) == DataConfig(pipeline="mindspore", held_out=0)
    assert recipe.data_settings(sections, "numpy") == DataConfig(pipeline="numpy", held_out=0)


def test_of_a_model_that_is_there_dropout_alone_can_change() -> None:
    config = GPT2Config(n_layer=2)
    changed = recipe.with_dropout(config, read_sections({"resid_pdrop": 0.5}))
    assert changed == dataclasses.replace(config, resid_pdrop=0.5)
    with pytest.raises(GPT2Error, match=r"'n_layer' is for new models, .* only embd_pdrop, attn_pdrop, resid_p"):
        recipe.with_dropout(config, read_sections({"n_layer": 2}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: recipe.model_settings({"n_layer": 0}),
        lambda: recipe.training_settings(read_sections({"beta1": 1}), 10),
        lambda: recipe.data_settings(read_sections({"held_out": 1}), None),
        lambda: recipe.with_dropout(GPT2Config(), read_sections({"attn_pdrop": 1})),
    ],
)
def test_a_value_out_of_range_is_refused(make: Any) -> None:
    with pytest.raises(GPT2Error, match=r"field '\w+' must be .*, but is [01]$"):
        make()


def test_a_recipe_is_all_of_it_in_json() -> None:
    made = Recipe(GPT2Config(), TrainingConfig(), DataConfig(), steps=1, batch_size=2, seed=3)
    fields = json.loads(json.dumps(made.to_dict()))
    assert GPT2Config(**fields["model"]) == made.model
    assert TrainingConfig(**fields["training"]) == made.training
    assert DataConfig(**fields["data"]) == made.data
    assert [fields[name] for name in ("steps", "batch_size", "seed")] == [1, 2, 3]


def test_a_warm_up_as_long_as_the_run_is_shortened_with_a_note() -> None:
    sections = read_sections({"training": {"schedule": "cosine", "warmup_steps": 50}})
    settings = recipe.training_settings(sections, 30)
    assert (settings.warmup_steps, settings.total_steps) == (3, 30)
    made = Recipe(GPT2Config(), settings, DataConfig(), steps=30, batch_size=2, seed=3)
    for config, where in (("tiny", "the recipe tiny"), ("a.json", "a.json"), ({}, "config"), (None, "the recipe of")):
        assert f"warmup_steps of {where}" in recipe.shortened_warm_up(sections, made, config)
    assert "is 50, but the run has 30 steps: taken as 3" in recipe.shortened_warm_up(sections, made, None)
    assert recipe.shortened_warm_up(read_sections(None), made, None) == ""
    assert recipe.training_settings(sections, 51).warmup_steps == 50


def test_a_recipe_of_the_package_goes_by_its_name() -> None:
    assert read_sections("tiny") == read_sections(ROOT / "gpt2" / "tiny" / "recipe.json") != read_sections(None)


@pytest.mark.parametrize(
    ("name", "content", "applies"),
    [
        ("a.txt", "A line of verse.\n" * 9, False),
        ("a.jsonl", '{"text": "a"}\n', False),
        ("a.csv", "text,label\na,1\n", False),
        ("a.jsonl", '{"task": "copy", "input": "a", "output": "a"}\n', True),
        ("a.jsonl", '{"task": \n{"task": "copy", "input": "a", "output": "a"}\n', True),
        ("a.csv", "output,task,input\na,copy,a\n", True),
    ],
)
def test_a_recipe_of_the_package_has_data_settings_for_its_own_data(
    name: str, content: str, applies: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    own = read_sections("tiny")
    assert recipe.sections_for("tiny", tmp_path / name, None, None) == (own if applies else own | {"data": {}})
    file = ROOT / "gpt2" / "tiny" / "recipe.json"
    assert recipe.sections_for(file, tmp_path / name, None, None) == own


def test_the_recipe_tiny_learns_any_text_and_says_where_its_warm_up_is_from(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A line of verse, and another one.\n" * 60)
    words = ["train", "--data", tmp_path / "a.txt", "--output", tmp_path / "r", "--config", "tiny", "--steps", 3]
    assert "to train on, but a batch has 999" in run(*words, "--backend", "numpy", "--batch-size", 999).refusal
    ran = run(*words, "--backend", "numpy")
    note = "gpt2: note: warmup_steps of the recipe tiny is 50, but the run has 3 steps: taken as 0\n"
    assert (ran.code, ran.said) == (0, note)
    again = run(*words, "--backend", "numpy", "--resume")
    assert again.err == f"gpt2: note: {tmp_path / 'r'} was finished already, after 3 steps: none is left\n"
