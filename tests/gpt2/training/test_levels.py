"""Mixed precision: what each level runs in float16, as the command shows it, alike on both sides."""

import json

import pytest
from click.testing import CliRunner

from gpt2.backends import Backend, get_backend
from gpt2.commands.main import cli
from gpt2.training.levels import dtypes_by_level


def test_each_level_takes_more_in_float16_than_the_one_before(engine: Backend) -> None:
    found = dtypes_by_level(engine)
    low = {level: {name for name, dtype in stages.items() if dtype == "float16"} for level, stages in found.items()}
    assert low["O0"] == set()
    assert {"h.0.attn.qkv", "h.0.mlp.c_fc", "h.0.mlp.c_proj"} < low["O1"]
    assert {"h.0.ln_1", "h.0.attn_residual", "ln_f", "logits", "wte"}.isdisjoint(low["O1"])
    assert low["O1"] < low["O2"] == low["O3"]
    assert {"loss", "weights", "moments"}.isdisjoint(low["O3"])


def test_both_sides_run_the_same_stages_in_the_same_dtype(engine: Backend) -> None:
    assert dtypes_by_level(engine) == dtypes_by_level(get_backend("numpy"))


def test_the_command_shows_a_table_or_json() -> None:
    assert "float16" in CliRunner().invoke(cli, ["levels"], catch_exceptions=False).output
    assert json.loads(CliRunner().invoke(cli, ["levels", "--json"]).output)["O1"]["h.0.attn.qkv"] == "float16"


def test_weights_of_16_bits_are_not_trained() -> None:
    with pytest.raises(ValueError, match="trained in float32, not in float16"):
        dtypes_by_level(get_backend("numpy", dtype="float16"))
