"""`gpt2 explain` of one result: what it says in both languages, as JSON, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference import attention, ops
from tests.gpt2.command import run

RANDOM = np.random.default_rng(0)
X, WEIGHT, BIAS = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((2, 3, 8), (8,), (8,)))


def written(folder: Path, output: Any, **inputs: Any) -> tuple[Path, Path]:
    """The files of a call's arguments and of its result."""
    np.savez(folder / "in.npz", **inputs)
    np.save(folder / "out.npy", output)
    return folder / "in.npz", folder / "out.npy"


def layer_norm(folder: Path, eps: float) -> tuple[Path, Path]:
    small = X * np.float32(0.01)
    return written(folder, ops.layer_norm(small, WEIGHT, BIAS, eps), x=small, weight=WEIGHT, bias=BIAS)


def test_a_number_is_named_and_the_lines_to_change(tmp_path: Path) -> None:
    ran = run("explain", *layer_norm(tmp_path, 3e-4), "--function", "ops.layer_norm", "--set", "eps=1e-5")
    assert (ran.code, ran.err) == (1, "")
    assert "LayerNorm with another epsilon: 0.0003" in ran.out
    assert "+ np.sqrt(variance + 0.0003)" in ran.out


def test_a_right_result_needs_no_explanation(tmp_path: Path) -> None:
    ran = run("explain", *layer_norm(tmp_path, 3e-4), "--function", "ops.layer_norm", "--set", "eps=3e-4")
    assert ran.code == 0
    assert "agrees" in ran.out
    assert "explain" not in ran.out


def test_an_npy_file_is_the_first_argument_and_the_words_are_chinese(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", ops.silu(X))
    files = tmp_path / "x.npy", tmp_path / "y.npy"
    ran = run("explain", *files, "--function", "ops.gelu_new", "--language", "zh")
    assert ran.code == 1
    assert "可由一个已知的错误解释：silu for gelu" in ran.out


def test_json_has_the_same_facts(tmp_path: Path) -> None:
    files = written(tmp_path, X.reshape(2, 4, 3, 2), x=X)
    ran = run("explain", *files, "--function", "attention.split_heads", "--set", "n_head=4", "--json")
    facts = json.loads(ran.out)
    assert not facts["agrees"]
    (found,) = facts["explanation"]["mistakes"]
    assert "heads cut but not moved" in (found["name"], *found["equally"])
    assert attention.split_heads(X, 4).shape == (2, 4, 3, 2)  # as what was handed in: no shape tells


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--function", "layer_norm"), "did you mean ops.layer_norm?"),
        (("--function", "ops.softmax"), "ops.softmax has no argument"),
        (("--function", "ops.layer_norm", "--set", "eps"), "--set is NAME=VALUE, like eps=1e-5, but is 'eps'"),
        (("--function", "ops.layer_norm", "--set", "axis=1"), "ops.layer_norm has no argument 'axis'"),
        (("--function", "ops.conv1d"), "weight must have the axes (C, N), but has the shape (8,)"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    ran = run("explain", *layer_norm(tmp_path, 1e-5), *options)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_file_that_is_no_array_is_one_line(tmp_path: Path) -> None:
    text = tmp_path / "text.npy"
    text.write_text("no array", encoding="utf-8")
    ran = run("explain", text, text, "--function", "ops.relu")
    assert (ran.code, ran.out) == (2, "")
    assert "cannot read" in ran.err
