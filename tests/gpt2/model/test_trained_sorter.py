"""Trained weights: a GPT-2 that has learned to sort six digits, and what PyTorch computed with it stage by stage."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import gpt2
from gpt2.backends import Backend
from gpt2.model.convert import convert, decode_tensor
from gpt2.model.model import Model
from parity.verdict.stages import stage_references
from parity.verdict.verdict import Reference
from reference.attention import causal_bias, mask_value
from reference.ops import softmax
from tests.gpt2.command import run

Array = NDArray[Any]
INPUTS = np.array(list(itertools.product(range(3), repeat=6)))
FLOAT32 = np.dtype(np.float32)

# The stored tensors' names, and ours. "att" and "probs" stand apart: -inf in place of the mask value; a softmax more.
STAGES = {
    "tok_emb": "wte",
    "pos_emb": "wpe",
    "x": "embeddings",
    "ln1": "h.0.ln_1",
    "qkv": "h.0.attn.qkv",
    "q": "h.0.attn.q",
    "k": "h.0.attn.k",
    "v": "h.0.attn.v",
    "attSm": "h.0.attn.attn_weights",
    "y": "h.0.attn.merged",
    "yProj": "h.0.attn.c_proj",
    "attnResid": "h.0.attn_residual",
    "ln2": "h.0.ln_2",
    "fc": "h.0.mlp.c_fc",
    "gelu": "h.0.mlp.gelu_new",
    "mlp": "h.0.mlp.c_proj",
    "mlpResid": "h.0.mlp_residual",
    "block0": "h.0.mlp_residual",
    "block1": "h.1.mlp_residual",
    "block2": "h.2.mlp_residual",
    "ln_f": "ln_f",
    "lm_head": "logits",
}
APART = {"idx", "att", "probs"}


@pytest.fixture(scope="module")
def state(data: Path) -> Path:
    """The state as its author published it."""
    return data / "gpt_nano_sort" / "gpt-nano-sort-model.json"


@pytest.fixture(scope="module")
def sorter(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it becomes."""
    folder = tmp_path_factory.mktemp("sorter") / "folder"
    convert(state, folder)
    return folder


@pytest.fixture(scope="module")
def stored(data: Path) -> dict[str, Array]:
    """What PyTorch computed: every intermediate tensor of one forward pass, by its author's name."""
    file = data / "gpt_nano_sort" / "gpt-nano-sort-t0-partials.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    return {name: decode_tensor(name, entry) for name, entry in entries.items() if name != "config"}


@pytest.fixture(scope="module")
def ids(stored: dict[str, Array]) -> Array:
    """The ids that it was computed for, (B, T)."""
    return stored["idx"].astype(np.int64)


@pytest.fixture(scope="module")
def references(sorter: Path, ids: Array) -> dict[str, Reference]:
    """What the stored tensors are judged by."""
    return references_of(gpt2.load(sorter, "numpy"), ids)


def references_of(model: Model, ids: Array) -> dict[str, Reference]:
    return stage_references(model.config, model.parameters, ids, None, None, FLOAT32, model.backend.accuracy)


def test_it_sorts_every_input(sorter: Path, every_engine: Backend) -> None:
    written = gpt2.load(sorter, every_engine).generate(INPUTS, 6)
    assert (written == np.hstack((INPUTS, np.sort(INPUTS)))).all()


def test_every_stored_tensor_has_a_stage(stored: dict[str, Array]) -> None:
    assert stored.keys() == STAGES.keys() | APART


@pytest.mark.parametrize("name", STAGES)
def test_pytorch_meets_the_reference(name: str, stored: dict[str, Array], references: dict[str, Reference]) -> None:
    verdict = references[STAGES[name]].judge(stored[name])
    assert verdict.agrees, verdict.explain()


def test_pytorch_meets_the_reference_in_every_visible_score(
    stored: dict[str, Array], references: dict[str, Reference]
) -> None:
    visible = causal_bias(*stored["att"].shape[-2:])
    verdict = references["h.0.attn.masked_scores"].only(visible).judge(stored["att"])
    assert verdict.agrees, verdict.explain()


def test_hidden_scores_are_minus_infinity_there_and_the_mask_value_here(
    sorter: Path, every_engine: Backend, stored: dict[str, Array], ids: Array
) -> None:
    hidden = np.broadcast_to(~causal_bias(*stored["att"].shape[-2:]), stored["att"].shape)
    ours = gpt2.load(sorter, every_engine).stages(ids)["h.0.attn.masked_scores"]
    assert (stored["att"] == -np.inf).tolist() == hidden.tolist()
    assert (ours == mask_value(ours.dtype)).tolist() == hidden.tolist()


def test_pytorch_meets_the_reference_in_its_probabilities(
    stored: dict[str, Array], references: dict[str, Reference]
) -> None:
    verdict = references["logits"].then(softmax).judge(stored["probs"])
    assert verdict.agrees, verdict.explain()


def test_every_stage_of_every_engine_meets_the_reference(sorter: Path, engine: Backend, ids: Array) -> None:
    model = gpt2.load(sorter, engine)
    own, judges = model.stages(ids), references_of(model, ids)
    assert list(own) == list(judges)
    verdicts = {name: judges[name].judge(own[name]) for name in own}
    assert not {name: verdict.explain() for name, verdict in verdicts.items() if not verdict.agrees}


def test_the_first_stage_that_a_wrong_weight_touches_is_found(
    sorter: Path, ids: Array, references: dict[str, Reference]
) -> None:
    model = gpt2.load(sorter, "numpy")
    model.parameters["h.1.mlp.c_fc.bias"] = model.parameters["h.1.mlp.c_fc.bias"] * np.float32(1.001)
    wrong = Model(model.config, model.parameters, model.backend).stages(ids)
    assert next(name for name in wrong if not references[name].judge(wrong[name]).agrees) == "h.1.mlp.c_fc"


def test_the_command_converts_as_the_function_does(state: Path, sorter: Path, tmp_path: Path) -> None:
    said = run("convert", state, tmp_path / "folder").result
    config, parameters = gpt2.load(sorter).config, gpt2.load(sorter).parameters
    assert f"{config.n_layer} layers" in said
    assert f"{len(parameters)} tensors" in said
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "folder" / file).read_bytes() == (sorter / file).read_bytes()


def test_a_folder_with_one_state_converts_like_the_state(state: Path, sorter: Path, tmp_path: Path) -> None:
    convert(state.parent, tmp_path / "folder")
    assert (tmp_path / "folder" / "model.safetensors").read_bytes() == (sorter / "model.safetensors").read_bytes()
