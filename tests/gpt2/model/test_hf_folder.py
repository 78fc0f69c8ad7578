"""Folders: what is saved comes back bit for bit, in whatever form others write it, and never half written."""

import dataclasses
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import gpt2
from gpt2.backends import DTYPES, get_backend, numpy_dtype
from gpt2.model import hf_folder
from gpt2.model.convert import convert
from gpt2.model.model import Model
from gpt2.model.tensors import INDEX, WEIGHTS, read_tensors
from reference.config import ACTIVATION_ALIASES, ACTIVATIONS, FIELD_ALIASES, UNSUPPORTED, ConfigError, GPT2Config
from tests.gpt2.small import ROOT, SMALL, Parameters, byte_folder, folder_of, json_state, parameters

UNTIED = dataclasses.replace(SMALL, tie_word_embeddings=False)
THREE_LABELS = dataclasses.replace(SMALL, num_labels=3)
MODELS = {
    "tied": (SMALL, "language_model"),
    "untied": (UNTIED, "language_model"),
    "classifier": (THREE_LABELS, "sequence_classifier"),
    "untied classifier": (dataclasses.replace(UNTIED, num_labels=3), "sequence_classifier"),
}


def bits(tensors: Parameters) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """All there is to know of every tensor."""
    return {name: (x.dtype.name, x.shape, x.tobytes()) for name, x in tensors.items()}


def read(folder: Path) -> Parameters:
    """The parameters in a folder, checked against its config."""
    return hf_folder.read_parameters(folder, hf_folder.read_config(folder))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_is_loaded_bit_for_bit(kind: str, dtype: str, tmp_path: Path) -> None:
    config, head = MODELS[kind]
    saved = Model(config, parameters(config, head, numpy_dtype(dtype)), get_backend("numpy"))
    saved.save(tmp_path / "folder")
    loaded = gpt2.load(tmp_path / "folder", "numpy")
    assert loaded.config == config
    assert bits(loaded.parameters) == bits(saved.parameters)


def test_a_saved_folder_names_what_transformers_looks_for(tmp_path: Path) -> None:
    hf_folder.write_folder(tmp_path / "folder", THREE_LABELS, parameters(*MODELS["classifier"]), [])
    fields = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert fields["architectures"] == ["GPT2ForSequenceClassification"]
    assert fields["dtype"] == "float32"
    assert len(fields["id2label"]) == THREE_LABELS.num_labels
    tensors = dict(read_tensors(tmp_path / "folder" / "model.safetensors"))
    assert {name for name in tensors if not name.startswith("transformer.")} == {"score.weight"}


def test_the_tokenizer_is_saved_along(tmp_path: Path) -> None:
    model = gpt2.load(byte_folder(tmp_path / "first"), "numpy")
    model.save(tmp_path / "second")
    assert (gpt2.load(tmp_path / "second", "numpy").encode("né") == model.encode("né")).all()


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_names_may_carry_the_prefix_of_transformers(prefix: str, tmp_path: Path) -> None:
    named = {f"{prefix}{name}": x for name, x in parameters().items()}
    assert bits(read(folder_of(tmp_path / "folder", SMALL, named))) == bits(parameters())


def test_a_name_with_and_without_the_prefix_is_refused(tmp_path: Path) -> None:
    twice = parameters() | {"transformer.wte.weight": parameters()["wte.weight"]}
    with pytest.raises(gpt2.GPT2Error, match=r"wte\.weight is there twice"):
        read(folder_of(tmp_path / "folder", SMALL, twice))


def test_shards_with_an_index_are_one_checkpoint(tmp_path: Path) -> None:
    folder, tensors = folder_of(tmp_path / "folder"), parameters()
    (folder / WEIGHTS).unlink()
    shards = {name: f"model-0000{1 + i % 3}-of-00003.safetensors" for i, name in enumerate(tensors)}
    for file in set(shards.values()):
        save_file({name: tensors[name] for name in tensors if shards[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    assert bits(read(folder)) == bits(tensors)


def test_buffers_of_old_checkpoints_are_dropped(tmp_path: Path) -> None:
    context = SMALL.n_positions
    mask = np.tril(np.ones((1, 1, context, context), np.uint8))
    buffers: Parameters = {f"h.{i}.attn.bias": mask for i in range(SMALL.n_layer)}
    buffers |= {f"transformer.h.{i}.attn.masked_bias": np.array([-1e4], np.float32) for i in range(SMALL.n_layer)}
    assert bits(read(folder_of(tmp_path / "folder", SMALL, parameters() | buffers))) == bits(parameters())


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder")
    (folder / hf_folder.CONFIG).write_text(json.dumps(SMALL.to_dict()), encoding="utf-8-sig")
    assert hf_folder.read_config(folder) == SMALL


def test_a_tied_model_may_carry_a_copy_of_its_embeddings_as_head(tmp_path: Path) -> None:
    copied = parameters() | {"lm_head.weight": parameters()["wte.weight"]}
    assert bits(read(folder_of(tmp_path / "folder", SMALL, copied))) == bits(parameters())


def test_a_table_of_its_own_unties_a_head_that_the_config_ties(tmp_path: Path) -> None:
    two = parameters() | {"lm_head.weight": -parameters()["wte.weight"]}
    folder = folder_of(tmp_path / "folder", SMALL, two)
    with pytest.warns(UserWarning, match=r"lm_head\.weight differs from wte\.weight, so the two are not tied"):
        config = hf_folder.read_config(folder)
    assert config == UNTIED
    assert bits(hf_folder.read_parameters(folder, config)) == bits(two)


def test_nan_is_like_nan_in_a_copy_of_the_embeddings(tmp_path: Path) -> None:
    tensors = parameters()
    tensors["wte.weight"][1, 2] = np.nan
    folder = folder_of(tmp_path / "folder", SMALL, tensors | {"lm_head.weight": tensors["wte.weight"]})
    assert hf_folder.read_config(folder) == SMALL


@pytest.mark.parametrize("kind", ["classifier", "untied classifier"])
def test_a_classifier_leaves_the_head_of_a_language_model_out(kind: str, tmp_path: Path) -> None:
    config, head = MODELS[kind]
    tensors = parameters(config, head)
    folder = folder_of(tmp_path / "folder", config, tensors | {"lm_head.weight": -tensors["wte.weight"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hf_folder.read_config(folder) == config
        assert bits(read(folder)) == bits(tensors)


@pytest.mark.parametrize("said", [True, False])
def test_the_only_table_serves_as_both(said: bool, tmp_path: Path) -> None:
    tensors = parameters()
    tensors["lm_head.weight"] = tensors.pop("wte.weight")
    folder = folder_of(tmp_path / "folder", dataclasses.replace(SMALL, tie_word_embeddings=said), tensors)
    with warnings.catch_warnings(record=True) as notes:
        config = hf_folder.read_config(folder)
    assert [str(note.message) for note in notes] == [] if said else "no wte.weight" in str(notes[0].message)
    assert config == SMALL
    assert bits(hf_folder.read_parameters(folder, config)) == bits(parameters())


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Parameters, path: Path, metadata: Any = None) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hf_folder, "save_file", full)
    with pytest.raises(gpt2.GPT2Error, match="No space left on device"):
        hf_folder.write_folder(tmp_path / "folder", SMALL, parameters(), [])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_behind_but_one_line(small: Path, tmp_path: Path) -> None:
    program = f"""
import resource, gpt2
model = gpt2.load({str(small)!r}, "numpy")
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    model.save({str(tmp_path / "folder")!r})
except gpt2.GPT2Error as error:
    print(error)
"""
    if sys.platform == "win32":
        pytest.skip("Windows has no limit on the size of files to stand for a full disk")
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"cannot write {tmp_path / 'folder'}: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(gpt2.GPT2Error, match="is not an empty folder"):
        hf_folder.write_folder(tmp_path, SMALL, parameters(), [])
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    hf_folder.write_folder(tmp_path, SMALL, parameters(), [])
    assert bits(read(tmp_path)) == bits(parameters())


def test_a_saved_folder_can_be_read_by_others(tmp_path: Path) -> None:
    hf_folder.write_folder(tmp_path / "folder", SMALL, parameters(), [])
    assert os.stat(tmp_path / "folder").st_mode & 0o755 == 0o755
    assert os.stat(tmp_path / "folder" / "model.safetensors").st_mode & 0o644 == 0o644


# States of other projects.


def test_a_state_of_nanogpt_converts_to_the_same_numbers(tmp_path: Path) -> None:
    ours = {name: x if name.endswith("weight") else np.zeros_like(x) for name, x in parameters().items()}
    theirs = {name: x for name, x in ours.items() if name.endswith("weight")}  # nanoGPT can do without biases
    theirs["lm_head.weight"] = theirs["wte.weight"]
    state = tmp_path / "state.safetensors"
    turned = {name: np.ascontiguousarray(x.T if ".c_" in name else x) for name, x in theirs.items()}
    save_file({f"_orig_mod.transformer.{name}": x for name, x in turned.items()}, state)
    made = convert(state, tmp_path / "folder", SMALL.n_head)
    assert made.config == dataclasses.replace(SMALL, n_inner=SMALL.inner_size, activation_function="gelu")
    assert made.tensors == len(ours)
    assert bits(read(tmp_path / "folder")) == bits(ours)


@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_converted_state_brings_its_tokenizer_along(whole_folder: bool, tmp_path: Path) -> None:
    source = byte_folder(tmp_path / "source")
    (source / WEIGHTS).unlink()
    state = json_state(source)
    convert(source if whole_folder else state, tmp_path / "folder")
    assert gpt2.load(tmp_path / "folder", "numpy").tokenizer is not None


# The configuration.

SIZES = st.integers(1, 10**6)
RATES = st.floats(0, 1, exclude_max=True)
IDS = st.none() | st.integers(-1, 10**6)
CONFIGS = st.builds(
    lambda n_head, head_size, **fields: GPT2Config(n_head=n_head, n_embd=n_head * head_size, **fields),
    n_head=st.integers(1, 100),
    head_size=st.integers(1, 300),
    vocab_size=SIZES,
    n_positions=SIZES,
    n_layer=SIZES,
    n_inner=st.none() | SIZES,
    activation_function=st.sampled_from([*ACTIVATIONS, *ACTIVATION_ALIASES]),
    layer_norm_epsilon=RATES,
    scale_attn_weights=st.booleans(),
    scale_attn_by_inverse_layer_idx=st.booleans(),
    reorder_and_upcast_attn=st.booleans(),
    tie_word_embeddings=st.booleans(),
    resid_pdrop=RATES,
    embd_pdrop=RATES,
    attn_pdrop=RATES,
    initializer_range=st.floats(0, 10),
    bos_token_id=IDS,
    eos_token_id=IDS | st.lists(st.integers(0, 10**6), min_size=1).map(tuple),
    pad_token_id=IDS,
    num_labels=st.integers(1, 20),
)
FIELDS = {field.name for field in dataclasses.fields(GPT2Config)}

NOT_A_NUMBER: list[Any] = [None, "1", [1], {}, True]
SIZE = [*NOT_A_NUMBER, 0, -1, 1.5, 2.0, float("nan")]
RATE = [*NOT_A_NUMBER, -0.1, 1, float("nan"), float("inf")]
SWITCH: list[Any] = [None, 0, 1, "true", [], {}]
TOKEN = ["1", [1], {}, True, 1.5]
ENDS = ["1", [], ["1"], [None], [True], {}, True, 1.5]
BAD: dict[str, list[Any]] = {
    "vocab_size": SIZE,
    "n_positions": SIZE,
    "n_embd": SIZE,
    "n_layer": SIZE,
    "n_head": [*SIZE, SMALL.n_embd + 1],
    "n_inner": [value for value in SIZE if value is not None],
    "activation_function": [None, "", "gelu_10", "GELU", "gelu, relu", 1, [], {}],
    "layer_norm_epsilon": RATE,
    "scale_attn_weights": SWITCH,
    "scale_attn_by_inverse_layer_idx": SWITCH,
    "reorder_and_upcast_attn": SWITCH,
    "tie_word_embeddings": SWITCH,
    "resid_pdrop": RATE,
    "embd_pdrop": RATE,
    "attn_pdrop": RATE,
    "initializer_range": [*NOT_A_NUMBER, -0.1, float("nan"), float("inf")],
    "bos_token_id": TOKEN,
    "eos_token_id": ENDS,
    "pad_token_id": TOKEN,
    "num_labels": [*SIZE, 10**9],
}
# Fields that GPT-2 proper does not have, with values that would make it something else.
FOREIGN: dict[str, list[Any]] = {"model_type": ["gpt_neo", "", None, 2]}
FOREIGN["id2label"] = [5, ["a"], "ab"]
FOREIGN |= {field: [True, {"0": [1]}] for field in UNSUPPORTED}


@given(CONFIGS)
def test_a_configuration_survives_its_file(config: GPT2Config) -> None:
    assert GPT2Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_general_names_of_fields_are_understood() -> None:
    fields = SMALL.to_dict()
    for general, own in FIELD_ALIASES.items():
        fields[general] = fields.pop(own)
    assert GPT2Config.from_dict(fields) == SMALL


def test_a_configuration_writes_every_field() -> None:
    assert SMALL.to_dict().keys() >= FIELDS - {"num_labels"} | {"id2label"}


def test_every_field_has_bad_values() -> None:
    assert BAD.keys() == FIELDS


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in (BAD | FOREIGN).items() for value in values], ids=repr
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"config field '{field}'"):
        GPT2Config.from_dict(SMALL.to_dict() | {field: value})


def test_bfloat16_is_that_of_ml_dtypes_after_mindspore_too(tmp_path: Path) -> None:
    """MindSpore registers a NumPy type of the same name, which is another."""
    pytest.importorskip("mindspore", reason="MindSpore is not installed: NumPy has one type of the name bfloat16")
    written = np.array([1, -2], ml_dtypes.bfloat16)
    hf_folder.save_weights({"ln_f.weight": written}, tmp_path / "w.safetensors")
    (_, read) = next(iter(read_tensors(tmp_path / "w.safetensors")))
    assert read.dtype == written.dtype
    assert (read == written).all()
