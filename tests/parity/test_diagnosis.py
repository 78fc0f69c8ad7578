"""What is said of a failure: the place that is blamed, and the script that shows it alone."""

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2.backends import NumPyBackend
from parity.check import check_rule, rules
from parity.diagnose import diagnose, locate
from parity.mutants import MUTANTS, Mutant, mutant
from parity.shrink import nonzero, shrink
from parity.trial import Trial
from parity.twin import REORDERED

# A sample: every bug takes seconds.
SAMPLE = [each for each in MUTANTS if each.engine == "numpy" and not each.equivalent][::10]


@pytest.mark.parametrize("each", SAMPLE, ids=lambda each: each.name)
def test_the_right_place_is_blamed(each: Mutant) -> None:
    assert locate(each.backend(), examples=12) in each.where


@pytest.mark.parametrize("backend", [NumPyBackend(), REORDERED.backend()], ids=["reference", "reordered"])
def test_nobody_is_blamed_where_all_agree(backend: NumPyBackend) -> None:
    assert locate(backend, examples=4) is None


def test_a_stage_is_blamed_with_its_source_lines() -> None:
    backend, rule = mutant("erf for tanh").backend(), rules()["model.language_model"]
    result = check_rule(rule, backend, 60)
    diagnose(rule, result, backend)
    first, *lines = result.blame.splitlines()
    assert first.startswith("h.0.mlp.gelu_new: ")
    assert lines[0].startswith("  reference/model.py:")
    assert 'observe(f"{at}.{name}"' in lines[0]


def scripts(each: Mutant) -> list[str]:
    """The script for the first function that sees a bug."""
    backend = each.backend()
    for name in each.where:
        if name in rules():
            result = check_rule(rules()[name], backend, 100)
            diagnose(rules()[name], result, backend)
            if result.script:
                return [result.script]
    return []


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["erf for tanh", "epsilon outside the root", "top-k keeps one more"])
def test_the_script_fails_on_the_bug_and_passes_on_the_reference(name: str, tmp_path: Path) -> None:
    path = tmp_path / "failure.py"
    path.write_text(scripts(mutant(name))[0], encoding="utf-8")
    broken, right = run(path), run(path, "numpy")
    assert (broken.returncode, right.returncode) == (1, 0), broken.stderr + right.stderr
    assert "differs at" in broken.stderr
    assert "hypothesis" not in path.read_text(encoding="utf-8").replace("Hypothesis", "")


def test_the_script_of_a_broken_law_runs_too(tmp_path: Path) -> None:
    each, rule = mutant("erf for tanh"), rules()["laws.activations_have_known_values"]
    backend = each.backend()
    result = check_rule(rule, backend, 40)
    diagnose(rule, result, backend)
    path = tmp_path / "failure.py"
    path.write_text(result.script, encoding="utf-8")
    assert (run(path).returncode, run(path, "numpy").returncode) == (1, 0)


def test_little_is_left_of_a_model_that_fails() -> None:
    left = []
    for each in SAMPLE[:6]:
        backend = each.backend()
        for name in ("model.language_model", "engine.cached"):
            result = check_rule(rules()[name], backend, 40)
            if result.failing_case is not None and not result.error:
                trial = Trial(result.failing_case, backend)
                left.append(nonzero(shrink(rules()[name], trial, NumPyBackend()).arguments))
    assert left
    assert statistics.median(left) <= 16
