"""What is said of a failure: the place that is blamed, and the script that shows it alone."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpt2.backends import NumPyBackend
from gpt2.commands.main import cli
from parity.check import check_rule, rules
from parity.diagnosis.diagnose import diagnose, locate, smallest_trial
from parity.diagnosis.script import write_script
from parity.diagnosis.shrink import nonzero, shrink
from parity.mutants.all import MUTANTS, mutant
from parity.mutants.base import REORDERED, Edit, Mutant, Twin
from parity.on_trial import diagnosis_table
from parity.on_trial.diagnosis_table import (
    CRASHED,
    Diagnosis,
    all_well,
    chosen,
    diagnosis_of,
    markdown,
    measure,
    summary,
)
from parity.on_trial.other_rules import tried_on
from parity.verdict.trial import Trial

# A sample: every bug takes seconds.
SAMPLE = tried_on(MUTANTS)[::60]


@pytest.mark.parametrize("each", SAMPLE, ids=lambda each: each.name)
def test_the_right_place_is_blamed(each: Mutant) -> None:
    found = locate(each.backend(), examples=3)
    assert Diagnosis(each, found or "").right, found


@pytest.mark.parametrize("backend", [NumPyBackend(), REORDERED.backend()], ids=["reference", "reordered"])
def test_nobody_is_blamed_where_all_agree(backend: NumPyBackend) -> None:
    assert locate(backend, examples=1) is None


def test_a_stage_is_blamed_with_its_source_lines() -> None:
    backend, rule = mutant("erf for tanh").backend(), rules()["model.language_model"]
    result = check_rule(rule, backend, 10)
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


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("erf for tanh", "activations_have_known_values"),
        ("a finished beam goes on", "a_search_for_two_tokens_finds_the_best"),  # breaks down too, further on
        ("pads scored", "rows_are_padded_at_their_end"),  # without arrays to shrink: the seed makes the rows
    ],
)
def test_the_script_of_a_broken_law_runs_too(name: str, law: str, tmp_path: Path) -> None:
    backend, rule = mutant(name).backend(), rules()[f"laws.{law}"]
    result = check_rule(rule, backend, 40)
    diagnose(rule, result, backend)
    path = tmp_path / "failure.py"
    path.write_text(result.script, encoding="utf-8")
    broken, right = run(path), run(path, "numpy")
    assert (broken.returncode, right.returncode) == (1, 0), broken.stderr + right.stderr
    assert broken.stderr.startswith(f"{backend.name}: ")


def test_little_is_left_of_a_model_that_fails() -> None:
    left = []
    for each in SAMPLE[:2]:
        backend = each.backend()
        for name in ("model.language_model", "engine.cached"):
            result = check_rule(rules()[name], backend, 20)
            if result.failing_case is not None and not result.error:
                trial = Trial(result.failing_case, backend)
                left.append(nonzero(shrink(rules()[name], trial, NumPyBackend()).arguments))
    assert left
    assert statistics.median(left) <= 16


def test_a_backend_of_chance_is_seen_and_explained() -> None:
    """Hypothesis, which shrinks failures, objects to those that come and go; the judge does not pass that on."""
    noise = "np.maximum(x, 0) + np.random.default_rng().integers(0, 2, x.shape).astype(x.dtype)"
    backend, rule = (
        Twin("chance", (Edit("reference.ops.relu", "np.maximum(x, 0)", noise),)).backend(),
        rules()["ops.relu"],
    )
    result = check_rule(rule, backend, 40)
    assert not result.agrees
    assert result.failing_case is not None


# The table of what is said of every planted bug.

BUGS = ["silu for gelu", "temperature multiplied"]


def test_what_is_said_of_bugs_is_right() -> None:
    found = measure(map(mutant, [*BUGS, "scores always in float32"]), examples=2, seed=0)
    assert [each.mutant.name for each in found] == BUGS  # an equivalent form is no bug
    assert all(each.right for each in found), [each.place for each in found]
    assert [each.exit_codes for each in found] == [(1, 0)] * len(BUGS)
    assert all(each.numbers is not None and each.numbers <= 16 for each in found)
    assert all_well(found)
    assert summary(found).startswith("Blame names the right place for 2 of 2 bugs; a median of ")
    assert summary(found).endswith(" 2 of 2 scripts fail on the bug and pass on numpy.")


def test_nonsense_that_is_blamed_is_not_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis_table, "locate", lambda *_: "ops.relu")
    found = [diagnosis_of("silu for gelu", 5, 0)]
    assert not found[0].right
    assert "for 0 of 1 bugs" in summary(found)
    assert "| silu for gelu | ops.relu | no |" in markdown(found, 5, 0)
    monkeypatch.setattr(diagnosis_table, "locate", lambda *_: None)
    assert not all_well([diagnosis_of("silu for gelu", 5, 0)])


@pytest.mark.parametrize(
    ("script", "codes"),
    [("raise ValueError", (CRASHED, CRASHED)), ("pass", (0, 0)), ("import sys\nsys.exit('differs')", (1, 1))],
    ids=["crashes", "passes on the bug", "fails on the reference"],
)
def test_a_script_that_does_not_hold_is_told(
    script: str, codes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis_table, "write_script", lambda *_: script)
    found = [diagnosis_of("silu for gelu", 5, 0)]
    assert found[0].exit_codes == codes
    assert not all_well(found)
    assert "; 0 of 1 scripts" in summary(found)
    assert "DOES NOT HOLD" in markdown(found, 5, 0)


def test_the_place_is_asked_for_without_originals() -> None:
    """As in a backend of other sources: the function whose rule objects, not the helper that was edited."""
    found = diagnosis_of("top-k keeps one more", 3, 0, originals=False)
    assert (found.place, found.right, found.exit_codes) == ("generate.sample", True, None)


def test_all_blamed_functions_must_be_right() -> None:
    bug = mutant("top-k keeps one more")
    assert Diagnosis(bug, "generate._likeliest_first").right
    assert not Diagnosis(bug, "generate._likeliest_first and ops.relu").right


def test_the_rule_alone_is_no_function() -> None:
    found = [Diagnosis(mutant("slots counted by calls"), "engine.cached")]
    assert found[0].right
    assert summary(found).startswith("Blame names the right place for 1 of 1 bugs (of 1 only the rule that fails); ")


def test_bugs_are_chosen_by_their_name_or_place() -> None:
    assert {each.name for each in chosen(MUTANTS, ["top-k keeps", "NumPyDecoder._scores"])} == {
        "top-k keeps one more",
        "the decoder counts pads as positions",
    }
    assert chosen(MUTANTS, []) == list(MUTANTS)


def test_the_script_counts_the_arrays() -> None:
    """Without its last layer a model returns too few keys and values, whatever they are."""
    assert diagnosis_of("the last layer left out", 3, 0).exit_codes == (1, 0)


def test_a_bug_that_only_raises_has_no_script() -> None:
    """Arguments are read-only, so a function that writes to its own breaks down."""
    found = diagnosis_of("softmax overwrites its input", 1, 0)
    assert (found.right, found.exit_codes) == (True, None)
    assert all_well([found])


def test_of_a_bug_of_mindspore_the_place_alone_is_said() -> None:
    found = measure([mutant("MindSpore: gelu as it comes")], 2, 0)
    assert (found[0].right, found[0].rule, found[0].exit_codes) == (True, "", None)
    assert "for 1 of 1 bugs" in summary(found)
    places = "|".join(map(re.escape, found[0].mutant.where))
    assert re.search(rf"\| MindSpore: gelu as it comes \| ({places}) \| yes \| not looked for: ", markdown(found, 2, 0))
    assert all_well(found)


def test_the_command_prints_and_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: str) -> tuple[int, str]:
        ran = CliRunner().invoke(cli, ["check", "--mutants", "--diagnose", "--examples", "3", *words])
        return ran.exit_code, ran.stdout

    monkeypatch.setattr("parity.mutants.MUTANTS", (mutant("silu for gelu"),))
    page = tmp_path / "diagnosis.md"
    code, shown = run("--markdown", str(page))
    assert code == 0
    assert "Blame names the right place for 1 of 1 bugs; a median of 1 non-zero numbers is left" in shown
    places = "|".join(map(re.escape, mutant("silu for gelu").where))
    assert re.search(
        rf"\| silu for gelu \| ({places}) \| yes \| ops\.gelu \| 1 \| holds \|", page.read_text(encoding="utf-8")
    )
    monkeypatch.setattr(diagnosis_table, "measure", lambda *_: [Diagnosis(mutant("silu for gelu"))])
    code, shown = run("--json")
    assert code == 1
    assert json.loads(shown)["diagnoses"][0]["place"] is None


def test_a_diagnosis_needs_bugs() -> None:
    ran = CliRunner().invoke(cli, ["check", "--diagnose"])
    assert ran.exit_code == 1
    assert "gpt2 diagnosis-table" in str(ran.exception)


def test_what_comes_and_goes_has_no_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a backend that keeps something: by the time that the script is written, its smallest case agrees."""
    rule, bug = (
        rules()["ops.relu"],
        Twin("negative", (Edit("reference.ops.relu", "np.maximum(x, 0)", "np.maximum(x, -1)"),)),
    )
    result = check_rule(rule, bug.backend(), 12)
    smallest = smallest_trial(rule, result, bug.backend())
    assert smallest is not None
    assert write_script(rule, smallest)
    monkeypatch.setattr(diagnosis_table, "first_failure", lambda *_: (rule, smallest.on(NumPyBackend())))
    found = diagnosis_of("erf for tanh", 2, 0)
    assert (found.rule, found.exit_codes) == ("ops.relu", None)
    assert found.right
