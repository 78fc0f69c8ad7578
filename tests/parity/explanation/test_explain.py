"""Which known mistake explains a failure: the right one, and none where there is nothing to explain."""

import time
from typing import Any
from unittest import mock

import numpy as np
import pytest

from gpt2.backends import Backend
from parity import check, time_limits
from parity.check import SearchResult, check_rule, rules
from parity.diagnosis.functions_run import drawn
from parity.explanation import explain as search
from parity.explanation.arithmetic import PROFILES
from parity.explanation.candidates import planted
from parity.explanation.copies import Copy
from parity.explanation.explain import Search, explain
from parity.explanation.questions import same
from parity.mutants.all import mutant
from parity.mutants.base import REORDERED, Edit
from parity.mutants.mistake import Explanation, Mistake
from parity.verdict.trial import Trial
from parity.verdict.verdict import claims_made, close, identical
from reference.config import GPT2Config

FEW, SEED = 10, 3
ENOUGH = 600.0  # seconds: a busy machine leaves nothing untried


def edited(*edits: Edit, dtype: str = "float32") -> Backend:
    """The NumPy engine with these edits."""
    return Copy(edits).backend(dtype, name="edited")


def failure(backend: Backend, rule: str) -> SearchResult:
    """What the judge finds, which must be a failure."""
    with mock.patch.object(time_limits, "STEP", 0.0):  # any failure will do
        result = check_rule(rules()[rule], backend, FEW, SEED, closest=0)
    assert not result.agrees
    return result


def explained(backend: Backend, rule: str) -> Explanation:
    """What explains the failure of a backend under a rule."""
    found = explain(rules()[rule], failure(backend, rule), backend, FEW, SEED, seconds=ENOUGH)
    assert found is not None
    return found


def only(found: Explanation) -> Mistake:
    """The mistake of an explanation that has one."""
    assert len(found.mistakes) == 1
    return found.mistakes[0]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("LayerNorm over all tokens", "ops.layer_norm"),  # floats
        ("the mask upside down", "attention.causal_bias"),  # booleans
        ("products in float16", "ops.matmul"),  # right in exact arithmetic, and a way to compute
        ("scores scaled by D", "attention.attention_weights"),
        ("one-hot forgotten", "ops.log_softmax_vjp"),
        ("F1 of sets of words", "laws.answers_are_compared_by_their_words"),  # a law about texts
    ],
)
def test_a_planted_bug_is_named(name: str, rule: str) -> None:
    bug = mutant(name)
    own = {edit.function for edit in bug.edits}
    others = tuple(edit for edit in REORDERED.edits if edit.function not in own)
    found = only(explained(edited(*bug.edits, *others), rule))
    assert name in (found.name, *found.equally)
    assert found.story in {each.story for each in (*planted(), *PROFILES)}
    assert 0 < found.differs <= found.cases >= FEW


@pytest.mark.parametrize("rule", ["ops.softmax", "ops.layer_norm", "laws.rows_are_padded_at_their_end"])
def test_a_correct_engine_is_explained_by_nothing(rule: str) -> None:
    correct = edited(*REORDERED.edits)
    result = check_rule(rules()[rule], correct, FEW, SEED)
    assert explain(rules()[rule], result, correct, FEW, SEED) is None
    assert result.worst_case is not None
    trial = Trial(result.worst_case, correct)
    assert Search(rules()[rule], trial, time.monotonic() + ENOUGH, FEW, SEED).explain(()).mistakes == ()


def test_a_mistake_that_nobody_knows_is_explained_by_nothing() -> None:
    unknown = edited(Edit("reference.ops.gelu_new", "* (1 + tanh(inner))", "* (1 + tanh(inner)) + np.sin(x) / 64"))
    found = explained(unknown, "ops.gelu_new")
    assert found.mistakes == ()
    assert found.tried > 0


def test_a_mistake_must_hold_on_every_case() -> None:
    # Right for one head, so that the smallest failing cases of other mistakes of heads look like it.
    both = edited(
        Edit(
            "reference.attention.split_heads",
            "x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(1, 2)",
            "(x if x.shape[1] < 3 else x[:, ::-1]).reshape(x.shape[0], n_head, x.shape[1], x.shape[2] // n_head)",
        )
    )
    assert explained(both, "attention.split_heads").mistakes == ()


def test_two_wrong_stages_are_explained_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "scores scaled by D", "erf for tanh"
    few = [each for each in planted() if each.name in (*names, "scores not scaled", "silu for gelu")]
    monkeypatch.setattr(search, "candidates_for", lambda *_: few)
    monkeypatch.setattr(search, "every_choice", lambda: ())
    monkeypatch.setattr(search, "families", lambda _: [])
    backend = edited(*(edit for name in names for edit in mutant(name).edits))
    rule = rules()["model.language_model"]
    trials = [Trial(case, backend) for case, _ in drawn(rule.name, backend, FEW, SEED)[:FEW]]
    failing = next(trial for trial in trials if not check.agrees(rule, trial))
    found = Search(rule, failing, time.monotonic() + ENOUGH, FEW, SEED).explain(())
    assert {each.name: each.stage for each in found.mistakes} == {
        "scores scaled by D": "attn.scores",
        "erf for tanh": "mlp.gelu_new",
    }


def test_what_explained_one_failure_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = edited(*mutant("RMSNorm for LayerNorm").edits)
    assert only(explained(backend, "ops.layer_norm")).name == "RMSNorm for LayerNorm"
    monkeypatch.setattr(search, "every_choice", lambda: pytest.fail("not needed"))
    again = explained(backend, "model.block")
    assert (only(again).name, again.tried) == ("RMSNorm for LayerNorm", 1)


def test_what_there_was_no_time_for_is_told() -> None:
    backend = edited(*mutant("erf for tanh").edits)
    found = explain(rules()["model.mlp"], failure(backend, "model.mlp"), backend, FEW, SEED, seconds=0)
    assert found is not None
    assert found.not_tried > found.tried > 0


def test_claims_about_other_values_are_not_the_same() -> None:
    dtype, x = np.dtype(np.float32), np.arange(3, dtype=np.float32)
    with claims_made() as claims:
        identical(x, x + 1)
        identical(x, x + 2)
        close(x, x + 1, 0.5, dtype)
        close(x, x + 1.5, 0.5, dtype)
        close(x, x + 9, 0.5, dtype)
        identical(x, x)
    bits, other_bits, near, nearer, far, agreeing = claims
    assert same(bits, bits, 0.0, dtype)
    assert not same(bits, other_bits, 0.0, dtype)
    assert same(near, nearer, 0.0, dtype)
    assert not same(near, far, 0.0, dtype)
    assert not same(bits, agreeing, 9.0, dtype)


@pytest.mark.parametrize("name", ["epsilon of 1e-7", "the first token's scores for the last's", "logarithms to base 2"])
def test_a_copy_in_memory_is_the_copy_on_disk(name: str) -> None:
    bug = mutant(name)
    in_memory, on_disk = Copy(bug.edits), bug.backend()
    file = bug.edits[0].file.removesuffix(".py").replace("/", ".")
    assert in_memory.module(file) is in_memory.module(file)
    mine, theirs = vars(in_memory.module(file)), vars(on_disk.shared_module(file))  # type: ignore[attr-defined]
    functions = [name for name, x in theirs.items() if callable(x)]
    assert {name for name in functions if name not in mine} == set()
    assert {_code(mine[name]) for name in functions} == {_code(theirs[name]) for name in functions}
    random = np.random.default_rng(0)
    x, ones = random.normal(size=(2, 3, 4)).astype(np.float32), np.ones(4, np.float32)
    arguments = {"x": x, "weight": ones, "bias": ones}
    calls = [engine.call("ops.layer_norm", arguments) for engine in (in_memory.backend("float32"), on_disk)]
    np.testing.assert_array_equal(*calls)


def _code(function: Any) -> bytes:
    return getattr(getattr(function, "__code__", None), "co_code", b"")


def test_modules_that_no_edit_reaches_are_the_originals() -> None:
    import reference.config
    import reference.ops

    copy = Copy((Edit("reference.attention.attention_scale", "math.sqrt(config.head_size)", "2.0"),))
    assert copy.module("reference.ops") is reference.ops
    assert copy.module("reference.config") is reference.config
    assert copy.module("reference.model").attention is not __import__("reference.model").model.attention
    assert copy.module("reference").find_function("attention.attention_scale")(GPT2Config(), 0) == 2
