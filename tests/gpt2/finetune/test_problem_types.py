"""What the scores of a classifier mean: labels that exclude each other, labels that do not, one label, a regression."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpt2
from gpt2.model.hf_folder import CONFIG, MULTI_LABEL, REGRESSION, SINGLE_LABEL, read_problem, save_weights
from gpt2.model.tensors import WEIGHTS
from reference.config import GPT2Config
from reference.elementary import sigmoid
from reference.ops import softmax
from tests.gpt2.command import run
from tests.gpt2.small import BYTES, byte_folder, parameters

TEXT = "hello world"


def classifier(path: Path, labels: int, problem: str | None) -> Path:
    """A classifier of bytes."""
    config = dataclasses.replace(BYTES, num_labels=labels)
    folder = byte_folder(path)
    (folder / CONFIG).write_text(json.dumps(config.to_dict() | {"problem_type": problem}))
    save_weights(parameters(config, "sequence_classifier"), folder / WEIGHTS)
    return folder


CASES: list[tuple[int, str | None, Any]] = [
    (1, None, sigmoid),
    (1, SINGLE_LABEL, sigmoid),
    (1, MULTI_LABEL, sigmoid),
    (1, REGRESSION, np.array),
    (3, None, softmax),
    (3, SINGLE_LABEL, softmax),
    (3, MULTI_LABEL, sigmoid),
    (3, REGRESSION, np.array),
]


@pytest.mark.parametrize("backend", ["numpy", "mindspore"])
@pytest.mark.parametrize(("labels", "problem", "meaning"), CASES)
def test_scores_mean_what_the_problem_says(
    labels: int, problem: str | None, meaning: Any, backend: str, tmp_path: Path
) -> None:
    if backend == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    folder = classifier(tmp_path / "folder", labels, problem)
    model = gpt2.load(folder, backend, mode="pynative" if backend == "mindspore" else None)
    ids = model.encode(TEXT)
    expected = meaning(model.classify(ids, np.ones_like(ids)))[0]
    mode = ["--mode", "pynative"] if backend == "mindspore" else []
    found = json.loads(run("classify", folder, TEXT, "--json", "--backend", backend, *mode).result)["labels"][0]
    values = found["values" if problem == REGRESSION else "probabilities"]
    assert list(values.values()) == expected.tolist()
    assert found["label"] == f"LABEL_{expected.argmax()}"
    lines = run("classify", folder, TEXT, "--backend", backend, *mode).result.splitlines()
    assert lines == [f"LABEL_{i}\t{values[f'LABEL_{i}']:.4f}" for i in np.argsort(-expected)]


def test_a_saved_classifier_keeps_its_problem(tmp_path: Path) -> None:
    for problem in (None, MULTI_LABEL, REGRESSION):
        gpt2.load(classifier(tmp_path / f"{problem}", 3, problem)).save(tmp_path / f"{problem} again")
        assert read_problem(tmp_path / f"{problem} again") == problem


def test_an_unknown_problem_is_refused(tmp_path: Path) -> None:
    refusal = run("classify", classifier(tmp_path / "folder", 3, "clustering"), TEXT).refusal
    assert "problem_type must be null, single_label_classification, " in refusal
    assert "but is 'clustering'" in refusal


def test_scores_that_are_no_numbers_are_no_probabilities(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "folder", 3, None)
    broken = parameters(GPT2Config.from_dict(json.loads((folder / CONFIG).read_text())), "sequence_classifier")
    broken["score.weight"][0] = np.nan
    save_weights(broken, folder / WEIGHTS)
    assert "score.weight holds NaN" in run("classify", folder, TEXT).refusal
    assert "scores of the labels are NaN" in run("classify", folder, TEXT, "--allow-nan").refusal
