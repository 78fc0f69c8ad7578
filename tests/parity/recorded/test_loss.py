"""The loss of a recorded run must be given the model's logits and the next ids, in whichever layout."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parity.recorded.recording import RecordedRun
from parity.recorded.runs.whole_run import WholeRun, judge_whole_run
from parity.report.recorded.facts import JudgedRun
from tests.parity.recorded.made_runs import CONFIG, IDS, hugging_face_run, operator, parameters_of, stages, tensor

Array = np.ndarray
PARAMETERS = parameters_of()
LOGITS = stages(PARAMETERS)["logits"]
NEXT = np.concatenate([IDS[:, 1:], np.full((len(IDS), 1), -100)], axis=1)
LOSS = "Functional.cross_entropy.0.forward"


def with_loss(scores: Array, targets: Array, run: RecordedRun | None = None, **keywords: Any) -> RecordedRun:
    """A run with the cross-entropy of these rows."""
    rows, run = scores.reshape(-1, scores.shape[-1]), run or hugging_face_run(PARAMETERS)
    loss = operator("cross_entropy", 0, rows, targets.reshape(-1), result=np.array(1.0, np.float32))
    return dataclasses.replace(run, calls=(*run.calls, dataclasses.replace(loss, keywords=keywords)))


def whole(run: RecordedRun) -> WholeRun:
    """The only forward pass of a run."""
    (found,) = judge_whole_run(run, CONFIG, PARAMETERS, {})
    return found


SCORED = np.array([[True, False, True, False], [False, True, True, False]])
RIGHT: dict[str, tuple[Array, Array]] = {
    "all rows, the last ignored": (LOGITS, NEXT),
    "all rows but the last": (LOGITS[:, :-1], IDS[:, 1:]),
    "the last row's target is a token that was not read": (LOGITS, np.where(NEXT < 0, 4, NEXT)),
    "only the rows that are scored, in another order": (LOGITS[SCORED][::-1], NEXT[SCORED][::-1]),
    "a part ignored": (LOGITS, np.where(SCORED, NEXT, -100)),
    "rounded by autocast": (LOGITS.astype(np.float16).astype(np.float32), NEXT),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_loss_of_the_next_tokens_agrees_in_any_layout(name: str) -> None:
    found = whole(with_loss(*RIGHT[name]))
    assert found.agrees
    assert found.stages[-1].name == "loss"
    assert not found.left_out


def test_scores_in_16_bits_may_be_widened_for_the_loss() -> None:
    half = {name: x.astype(np.float16) for name, x in PARAMETERS.items()}
    logits = stages(half)["logits"]
    found = whole(with_loss(logits.astype(np.float32), NEXT, hugging_face_run(half)))
    assert (found.agrees, found.stages[-1].name) == (True, "loss")


WRONG: dict[str, tuple[Array, Array, str]] = {
    "not shifted": (LOGITS, IDS, r"the token itself, not the next: at \(0, 0\) it is 1, expected 5"),
    "shifted twice": (
        LOGITS,
        np.concatenate([IDS[:, 2:], np.full((2, 2), -100)], axis=1),
        r"the token after the next, not the next: at \(0, 0\) it is 2, expected 5",
    ),
    "the other way": (LOGITS[:, 1:], IDS[:, :-1], "the token before"),
    "a temperature": (LOGITS / np.float32(0.7), NEXT, "scores that are not the logits"),
    "not shifted, without the last": (LOGITS[:, :-1], IDS[:, :-1], "the token itself"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_loss_that_is_given_something_else_is_wrong_by_itself(name: str) -> None:
    scores, targets, said = WRONG[name]
    run = with_loss(scores, targets)
    judged = JudgedRun(run, whole=[whole(run)])
    first = judged.first_wrong
    assert first is not None
    assert (first.name, first.call, first.is_result) == ("loss", LOSS, False)
    assert first.verdict is not None
    assert re.search(said, first.verdict.explain())
    assert first.reference[0].strip().startswith("reference/model.py")


UNKNOWN: dict[str, tuple[Callable[[], RecordedRun], str]] = {
    "other labels": (lambda: with_loss(LOGITS, (IDS * 5 + 2) % 13), "not the ids"),
    "few targets": (lambda: with_loss(LOGITS, np.where(np.arange(4) == 1, IDS, -100)), "not the ids"),
    "nothing scored": (lambda: with_loss(LOGITS, np.full_like(IDS, -100)), "nothing is scored"),
    "other rows": (lambda: with_loss(LOGITS[:1] * 2, NEXT[:1]), "no rows of the logits"),
    "another vocabulary": (lambda: with_loss(LOGITS[..., :9], NEXT), "no rows of 13 scores"),
    "two": (lambda: with_loss(LOGITS, NEXT, with_loss(LOGITS, NEXT)), "several"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_loss_that_cannot_be_judged_is_said_and_not_called_wrong(name: str) -> None:
    make, reason = UNKNOWN[name]
    run = make()
    found = whole(run)
    assert found.agrees
    assert list(found.left_out) == ["loss"]
    assert reason in found.left_out["loss"]
    assert JudgedRun(run, whole=[found]).not_judged == {found.left_out["loss"]: ["loss"]}


def test_rows_that_were_chosen_among_logits_that_are_alike_are_not_judged() -> None:
    ids = np.array([[1, 5, 2, 12], [1, 5, 2, 12]])
    run = hugging_face_run(PARAMETERS, ids=ids)
    logits = next(call for call in run.calls if call.path == "lm_head").results[0].numbers()
    chosen = with_loss(logits[:, [0, 2, 3]], ids[:, [1, 3, 0]], run)  # as many as all but the last
    assert "some are alike" in whole(chosen).left_out["loss"]
    assert whole(with_loss(logits[:, :-1], ids[:, 1:], run)).stages[-1].name == "loss"


def test_labels_that_are_not_the_ids_are_taken_from_the_models_call() -> None:
    labels = (IDS * 5 + 2) % 13
    run = hugging_face_run(PARAMETERS)
    given = [
        dataclasses.replace(call, keywords={"labels": tensor(labels)}) if call.operator == "GPT2Model" else call
        for call in run.calls
    ]
    run = dataclasses.replace(run, calls=tuple(given))
    moved = [np.concatenate([labels[:, by:], np.full((2, by), -100)], axis=1) for by in (0, 1, 2)]
    assert whole(with_loss(LOGITS, moved[1], run)).stages[-1].name == "loss"
    assert "loss" in whole(with_loss(LOGITS, moved[0], run)).left_out  # they may have been shifted before
    assert not whole(with_loss(LOGITS, moved[2], run)).agrees


def test_a_loss_inherits_what_its_logits_did() -> None:
    run = hugging_face_run(PARAMETERS, change={"h.0.ln_1": lambda x: x * np.float32(1.5)})
    logits = next(call for call in run.calls if call.path == "lm_head").results[0].numbers()
    loss = whole(with_loss(logits, NEXT, run)).stages[-1]
    assert (loss.name, loss.own.agrees, loss.inherited.agrees) == ("loss", True, False)
