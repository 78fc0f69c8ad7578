"""The planted bugs themselves: each fits the sources, tells its story, and is a bug."""

import importlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2.errors import GPT2Error
from parity.check import Rule, agrees, rules
from parity.diagnosis.functions_run import drawn
from parity.mutants.all import FEEDING, MUTANTS, mutant
from parity.mutants.base import Mutant
from parity.verdict.stages import STAGE_AXES
from parity.verdict.trial import Trial
from reference.config import ACTIVATIONS

ROOT = Path(__file__).parents[3]
of_every_mutant = pytest.mark.parametrize("planted", MUTANTS, ids=lambda planted: planted.name)
OF_NUMPY = [planted for planted in MUTANTS if planted.engine == "numpy"]


def is_place(name: str) -> bool:
    """Whether a name is that of a stage, of a rule, or of a function of the reference."""
    if name in {*STAGE_AXES, *rules(), *(f"mlp.{activation}" for activation in ACTIVATIONS)}:
        return True
    file, function = name.split(".")
    return hasattr(importlib.import_module(f"reference.{file}"), function)


def test_there_are_enough_and_their_names_differ() -> None:
    assert len({planted.name for planted in MUTANTS}) == len(MUTANTS)
    assert sum(not planted.equivalent for planted in MUTANTS) >= 60
    assert {planted.engine for planted in MUTANTS} == {"numpy", "mindspore"}


@of_every_mutant
def test_a_mutant_says_what_it_is(planted: Mutant) -> None:
    assert planted.story.endswith(".")
    assert planted.edits
    assert planted.where
    assert all(map(is_place, planted.where)), planted.where


@of_every_mutant
def test_its_edits_fit_the_sources(planted: Mutant) -> None:
    if planted.engine == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    backend = planted.backend()
    assert (backend.device, backend.dtype) == ("CPU", planted.dtype)
    assert planted.mode in ("", backend.mode)
    assert backend.call("attention.causal_bias", {"query_length": 2, "key_length": 3}).shape == (2, 3)


def test_an_edit_uses_no_name_that_is_not_there(tmp_path: Path) -> None:
    """A bug that breaks down for want of an import is seen by every rule, and says nothing of any."""
    for number, planted in enumerate(MUTANTS):
        for file in {edit.file for edit in planted.edits}:
            text = (ROOT / file).read_text(encoding="utf-8")
            for edit in planted.edits:
                text = edit.apply(text) if edit.file == file else text
            (tmp_path / f"{number}_{Path(file).name}").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "--quiet", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_a_mutant_is_found_by_its_name() -> None:
    assert mutant("erf for tanh") is MUTANTS[0]
    with pytest.raises(GPT2Error, match="no mutant is called 'erf for than': did you mean 'erf for tanh'"):
        mutant("erf for than")


def rules_about(planted: Mutant) -> list[Rule]:
    """The rules that the mutant names, and those whose cases are drawn for a function that it names."""
    return [
        rule
        for rule in rules().values()
        if rule.name in planted.where or (rule.contract.function in planted.where and not rule.trains)
    ]


def seen(planted: Mutant, chosen: list[Rule], examples: int) -> bool:
    """Whether one of the rules objects within so many cases; they are asked in turn, case by case."""
    backend = planted.backend()
    columns = [drawn(rule.name, backend, examples, 0) for rule in chosen]
    return any(
        not agrees(rule, Trial(put[0], backend, put[1]))
        for row in itertools.zip_longest(*columns)
        for rule, put in zip(chosen, row, strict=True)
        if put is not None
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "planted",
    [planted for planted in OF_NUMPY if not planted.equivalent and planted not in FEEDING],
    ids=lambda planted: planted.name,
)
def test_a_rule_about_the_place_sees_it(planted: Mutant) -> None:
    chosen = rules_about(planted)
    assert any(seen(planted, chosen, examples) for examples in (12, 100))


@pytest.mark.parametrize("planted", FEEDING, ids=lambda planted: planted.name)
def test_each_law_that_it_names_sees_it(planted: Mutant) -> None:
    """Bugs of what feeds a model: no comparison runs their code."""
    if planted.engine == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    assert [name for name in planted.where if not seen(planted, [rules()[name]], 25)] == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "planted", [planted for planted in OF_NUMPY if planted.equivalent], ids=lambda planted: planted.name
)
def test_no_comparison_sees_what_is_equivalent(planted: Mutant) -> None:
    chosen = [rule for rule in rules_about(planted) if not rule.name.startswith("laws.")]
    assert chosen
    assert not seen(planted, chosen, 12)
