"""The laws of what feeds a model and judges its answers: they hold, and reach the copies that hold planted bugs.

That each bug is seen by the laws that it names is tested in tests/parity/on_trial/test_mutants.py.
"""

import importlib

import numpy as np
import pytest

from gpt2.backends import NumPyBackend, get_backend
from parity.cases.contracts import SEEDED
from parity.check import check_rule, draw, rules, select
from parity.laws.base import LAWS, Law, shared_module
from parity.laws.data import pipeline_of
from parity.mutants.all import FEEDING, mutant
from parity.verdict.trial import Trial
from parity.verdict.verdict import equal

OWN = [law for law in LAWS if law.draws in SEEDED]
by_law = pytest.mark.parametrize("law", OWN, ids=lambda law: law.name)


@by_law
def test_a_law_holds_of_numpy(law: Law) -> None:
    result = check_rule(rules()[f"laws.{law.name}"], NumPyBackend(), 8, start=1)
    assert result.agrees, result.to_dict()
    assert result.errors


@pytest.mark.parametrize("law", [law for law in OWN if law.draws == "data"], ids=lambda law: law.name)
def test_a_law_of_data_holds_of_mindspore(law: Law) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    result = check_rule(rules()[f"laws.{law.name}"], get_backend("mindspore", mode="pynative"), 3)
    assert result.agrees, result.to_dict()


def test_there_is_a_bug_for_each_law_and_each_bug_names_laws_alone() -> None:
    assert {name for planted in FEEDING for name in planted.where} == {f"laws.{law.name}" for law in OWN}


@by_law
def test_a_law_has_a_statement_and_a_proof_in_a_paragraph_each(law: Law) -> None:
    for paragraph in (law.statement, law.proof):
        assert paragraph.endswith((".", ")"))
        assert "\n\n" not in paragraph


@pytest.mark.parametrize("group", SEEDED)
def test_a_group_is_chosen_by_its_name(group: str) -> None:
    assert list(select([group])) == [f"laws.{law.name}" for law in OWN if law.draws == group]


@pytest.mark.parametrize(
    ("name", "pipeline"), [("pads scored", "reference.data"), ("MindSpore: ids in 64 bits", "ms_backend.data")]
)
def test_a_bug_is_reached_in_its_copy(name: str, pipeline: str) -> None:
    if mutant(name).engine == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    backend = mutant(name).backend()
    trial = Trial(draw(rules()[f"laws.{OWN[0].name}"], np.dtype(np.float32), 1)[0], backend)
    copy = type(backend).__module__.partition(".")[0]
    assert pipeline_of(trial).__name__ == f"{copy}.{pipeline}"
    assert shared_module(trial, "gpt2.data.rows").__name__ == f"{copy}.gpt2.data.rows"
    of_numpy = Trial(trial.case, NumPyBackend())
    assert pipeline_of(of_numpy) is importlib.import_module("reference.data")
    assert shared_module(of_numpy, "gpt2.data.rows") is importlib.import_module("gpt2.data.rows")


def test_plain_values_differ_at_a_place() -> None:
    assert equal([1, 2], [1, 2]).agrees
    assert equal([1, 2], [1, 3]).explain() == "[2] from 1 on, expected [3]"
    assert equal("ab", "abc").explain() == "'' from 2 on, expected 'c'"
    assert equal(1, 2).explain() == "1, expected 2"
