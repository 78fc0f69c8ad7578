"""The laws of generation: each holds on both engines, and a planted bug breaks it."""

from collections.abc import Iterator

import numpy as np
import pytest

from gpt2.backends import Backend, NumPyBackend, get_backend, numpy_dtype
from parity.check import draw, rules
from parity.laws.base import LAWS, Law
from parity.laws.scene import scene_of
from parity.mutants.all import MUTANTS, mutant
from parity.mutants.base import REORDERED
from parity.mutants.generation import GENERATION
from parity.on_trial.hunt import look
from parity.verdict.trial import Trial, decide
from parity.verdict.verdict import Verdict

NUMPY = ("numpy", "float32", "eager")
# Each law of generation and a planted bug that breaks it.
BROKEN = {
    "a_cache_changes_no_choice": "one slot for all new tokens",
    "choices_are_those_of_the_whole_text": "the same chance at every step",
    "a_prompt_goes_on_in_a_batch_as_alone": "n-grams of pads",
    "a_text_ends_where_it_should": "only the first stop id ends",
    "what_is_forbidden_is_not_written": "n-grams one token longer",
    "log_probabilities_are_those_of_the_whole_text": "beams reordered, the cache not",
    "a_search_for_two_tokens_finds_the_best": "all beams begin alike",
    "a_longer_search_is_no_worse": "early stopping turned round",
    "what_is_told_is_what_is_returned": "the stream tells what ended rows choose",
    "a_run_that_is_interrupted_returns_the_text_so_far": "penalties left out where nothing is scored",
    "the_simplest_loop_takes_the_likeliest": "the simple loop forgets the past",
    "beyond_the_context_the_last_tokens_count": "the window stays at the beginning",
}
OWN = [law for law in LAWS if law.generates]

by_law = pytest.mark.parametrize("law", OWN, ids=lambda law: law.name)


def verdicts(law: Law, backend: Backend, examples: int) -> Iterator[tuple[str, Verdict]]:
    """Each verdict of a law on that many cases, with the case in words."""
    rule = rules()[f"laws.{law.name}"]
    for case in draw(rule, numpy_dtype(backend.dtype), examples):
        for verdict in decide(law.holds, Trial(case, backend)):
            yield case.describe(), verdict


@by_law
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_law_holds_of_the_reference(law: Law, dtype: str) -> None:
    found = list(verdicts(law, NumPyBackend(dtype=dtype), 10))
    assert found
    for case, verdict in found:
        assert verdict.agrees, f"{verdict.explain()} ({case})"


@by_law
def test_a_law_holds_of_one_that_rounds_otherwise(law: Law) -> None:
    for case, verdict in verdicts(law, REORDERED.backend(), 6):
        assert verdict.agrees, f"{verdict.explain()} ({case})"


@by_law
def test_a_law_holds_of_mindspore(law: Law) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed")
    for case, verdict in verdicts(law, get_backend("mindspore", mode="pynative"), 2):
        assert verdict.agrees, f"{verdict.explain()} ({case})"


def test_there_is_a_bug_for_each_law_and_no_other() -> None:
    assert list(BROKEN) == [law.name for law in OWN]


@by_law
def test_a_planted_bug_breaks_the_law(law: Law) -> None:
    name = BROKEN[law.name]
    assert name in look(f"laws.{law.name}", NUMPY, [name], slice(0, 40), 40, 0)[0]


@by_law
def test_a_law_has_a_statement_and_a_proof_in_a_paragraph_each(law: Law) -> None:
    for paragraph in (law.statement, law.proof):
        assert paragraph.endswith((".", ")"))
        assert "\n\n" not in paragraph


def test_a_copy_of_the_sources_brings_its_own_loops() -> None:
    backend = mutant("max_new_tokens one short").backend()
    assert backend.continue_batch.__module__.startswith("gpt2_twin_")  # type: ignore[attr-defined]


def test_rules_that_generate_are_known_and_their_bugs_are_among_the_planted() -> None:
    assert [rule.name for rule in rules().values() if rule.generates] == [f"laws.{law.name}" for law in OWN]
    assert set(GENERATION) <= set(MUTANTS)
    assert len(GENERATION) >= 15


def test_pads_are_traps_and_prompts_are_kept() -> None:
    """A scene leaves the tokens of the case as they are."""
    for case in draw(rules()[f"laws.{OWN[0].name}"], np.dtype(np.float32), 6):
        trial = Trial(case, NumPyBackend())
        scene = scene_of(trial)
        assert np.array_equal(np.where(scene.mask, scene.ids, 0), np.where(scene.mask, trial.arguments["ids"], 0))
