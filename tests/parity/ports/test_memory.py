"""Ports that remember: what is kept from one call to the next is seen and said, and who keeps rightly agrees."""

from pathlib import Path

import pytest

from parity.check import check_rule, rules
from parity.diagnosis.blame import RANDOM
from parity.diagnosis.diagnose import diagnose
from parity.ports.port import get_port

FILE = """
import numpy as np
from reference import model
from reference.config import nest

masks, triangles = {}, {}


def by_shape(scores, visible):
    kept = masks.setdefault(scores.shape, visible)
    return np.where(kept, scores, np.finfo(np.float32).min)


def counting(x, seen=[]):
    seen.append(x)
    return np.maximum(x, 0) * np.float32(len(seen))


def drawing(x):
    return np.maximum(x, 0) * (np.random.default_rng().random(x.shape) > 0.5).astype(np.float32)


def plainly_wrong(x):
    return np.maximum(x, 1)


def triangle(query_length, key_length):
    ours = query_length, key_length
    if ours not in triangles:
        triangles[ours] = np.tri(*ours, key_length - query_length, dtype=bool)
    return triangles[ours]


class Model:
    def __init__(self, config, parameters):
        self.config, self.params, self.mask = config, nest(parameters), None

    def __call__(self, ids, attention_mask=None):
        if self.mask is None or self.mask.shape != ids.shape:
            self.mask = np.ones_like(ids) if attention_mask is None else attention_mask
        return model.language_model(self.params, ids, self.config, self.mask)[0]


def build(config, parameters):
    return Model(config, parameters)
"""
FUNCTIONS = [
    ("attention.mask_scores", "by_shape", "alone, in kept.py imported anew, this case agrees"),
    ("ops.relu", "counting", "a default argument that is changed"),
    ("ops.relu", "drawing", RANDOM),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "kept.py").write_text(FILE, encoding="utf-8")
    return tmp_path / "kept.py"


@pytest.mark.parametrize(("function", "name", "said"), FUNCTIONS)
def test_what_a_function_keeps_is_said(function: str, name: str, said: str, file: Path) -> None:
    backend = get_port(f"{function}={file}:{name}")
    result = check_rule(rules()[function], backend, 8)
    assert not result.agrees
    diagnose(rules()[function], result, backend, 2)
    assert said in result.blame
    assert not result.script  # it would call the function once


def test_who_keeps_rightly_or_is_wrong_each_time_is_not_suspected(file: Path) -> None:
    triangle = get_port(f"attention.causal_bias={file}:triangle")
    assert check_rule(rules()["attention.causal_bias"], triangle, 20).agrees
    wrong = get_port(f"ops.relu={file}:plainly_wrong")
    result = check_rule(rules()["ops.relu"], wrong, 4)
    diagnose(rules()["ops.relu"], result, wrong, 2)
    assert ": return np.maximum(x, 1)" in result.blame
    assert result.script


def test_a_mask_that_a_model_keeps_breaks_a_law(file: Path) -> None:
    """Each case of a comparison has a new model, which is right."""
    backend = get_port(f"{file}:build;as=inference")
    assert check_rule(rules()["engine.logits"], backend, 6).agrees
    assert not check_rule(rules()["laws.earlier_texts_change_no_score"], backend, 6).agrees
