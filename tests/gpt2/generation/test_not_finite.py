"""Weights that hold NaN, and scores that turn NaN or infinite: one line that says where, never a text."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import gpt2
from gpt2.arguments import is_finite
from gpt2.backends import Backend, get_backend
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import continue_batch
from gpt2.model.model import Model
from tests.gpt2.command import run
from tests.gpt2.small import SMALL, Parameters, folder_of, parameters

IDS = ("--ids", "1 2 3")
BACKENDS = {"numpy": ("--backend", "numpy"), "mindspore": ("--backend", "mindspore", "--mode", "pynative")}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options that name a backend that runs here."""
    if request.param == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    return BACKENDS[request.param]


def broken(value: float, name: str = "h.1.mlp.c_proj.weight") -> Parameters:
    tensors = parameters()
    tensors[name][1, 2] = value
    return tensors


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named_at_load(value: float, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", SMALL, broken(value))
    for command in ("generate", "logits"):
        refusal = run(command, folder, *IDS).refusal
        assert "h.1.mlp.c_proj.weight holds NaN or infinity in 1 of its 1024 numbers" in refusal
        assert refusal.endswith("train it again, or load it all the same: --allow-nan")
    for command in (("convert", folder, tmp_path / "new"), ("lesson", "--model", folder, "--backend", "numpy")):
        assert run(*command).refusal.endswith("fetch or train it again")  # these have no such option
    assert "h.1.mlp.c_proj.weight" in run("info", folder).result
    with pytest.raises(gpt2.GPT2Error, match=r"load it all the same: allow_nan=True$"):
        gpt2.load(folder, "numpy")
    loaded = gpt2.load(folder, "numpy", allow_nan=True)
    assert not np.isfinite(loaded.parameters["h.1.mlp.c_proj.weight"]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_every_dtype_is_searched(dtype: Any) -> None:
    x = np.ones((3, 4), dtype)
    assert is_finite(x)
    assert is_finite(x[:0])
    for value in (np.nan, np.inf, -np.inf):
        x[1, 2] = value
        assert not is_finite(x)


@pytest.mark.parametrize(
    "options", [(), ("--temperature", 1), ("--num-beams", 2), ("--repetition-penalty", 2), ("--json",)]
)
def test_what_is_loaded_all_the_same_ends_with_the_stage(options: tuple[Any, ...], tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", SMALL, broken(np.nan))
    refusal = run("generate", folder, *IDS, "--allow-nan", *options).refusal
    assert "the scores of new token 1 are NaN or infinite: it began in stage h.1.mlp.c_proj;" in refusal


def test_float16_that_overflows_names_the_step_and_the_stage(backend: tuple[str, ...], tmp_path: Path) -> None:
    tensors = parameters()
    tensors["h.0.mlp.c_proj.weight"] *= 1e4
    folder = folder_of(tmp_path / "folder", SMALL, tensors)
    refusal = run("generate", folder, *IDS, "--dtype", "float16", *backend).refusal
    assert "new token 1 are NaN or infinite: it began in stage h.0.mlp.c_proj; float16" in refusal
    assert "float32" in refusal
    assert run("generate", folder, *IDS, *backend).result


def test_the_step_is_that_of_the_text(backend: tuple[str, ...], tmp_path: Path) -> None:
    """Position 5 is poisoned: the third new token is the first that reads it."""
    tensors = parameters()
    tensors["wpe.weight"][5] = np.nan
    folder = folder_of(tmp_path / "folder", SMALL, tensors)
    ran = run("generate", folder, *IDS, "--allow-nan", *backend)
    whole = run("generate", folder, *IDS, "--allow-nan", *backend, "--max-new-tokens", 3)
    assert (ran.code, ran.out) == (2, whole.result)
    assert "gpt2: error: the scores of new token 4 are NaN or infinite: it began in stage wpe;" in ran.err


def test_a_sequence_that_has_ended_may_become_anything(engine: Backend) -> None:
    """It goes on reading what ended it, beside sequences that have not ended; here that id is poison to read."""
    config = dataclasses.replace(SMALL, tie_word_embeddings=False)
    prompts = [[1, 2, 3], [4, 5, 6]]
    one, other = (row[3:] for row in Model(config, parameters(config), engine).generate(prompts, 6).tolist())
    stop = next(i for i in one if i not in other)
    tensors = parameters(config)
    tensors["wte.weight"][stop] = np.nan
    found = Model(config, tensors, engine).generate_all(prompts, 6, stop_ids=[stop]).new_ids
    assert found == [one[: one.index(stop) + 1], other]


def test_a_backend_without_stages_says_the_step(tmp_path: Path) -> None:
    class Bare:
        """A model without stages."""

        def __init__(self) -> None:
            self.decoder = Model(SMALL, broken(np.nan), get_backend("numpy")).engine.decoder

        def stages(self, *inputs: Any) -> Any:
            raise NotImplementedError

    ids = np.array([[1, 2, 3]])
    with np.errstate(invalid="ignore"), pytest.raises(gpt2.GPT2Error, match="new token 1 are NaN or infinite"):
        continue_batch(Bare(), ids, np.ones_like(ids), GenerationConfig(), 24, 0)  # type: ignore[arg-type]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "folder", SMALL, broken(np.nan))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    ran = run("logits", folder, *IDS, "--allow-nan", "--json")
    assert json.loads(ran.out, parse_constant=refuse)["next"][0]["logit"] is None
    assert ran.err == "gpt2: note: some of the scores are NaN or infinite\n"
    banned = [option for i in range(SMALL.vocab_size) for option in ("--bad-ids", i)]
    ran = run("generate", folder_of(tmp_path / "good"), *IDS, "--json", *banned)
    assert json.loads(ran.out, parse_constant=refuse)["finish_reason"] == "banned"
