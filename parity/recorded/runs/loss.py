"""The loss of a recorded run: is it given the model's own logits, and is each target the next token?

How its rows were laid out is read from the numbers: each row of scores is one of the logits', whichever were left out.
"""

import dataclasses

import numpy as np

from gpt2.backends import numpy_dtype
from parity.recorded.recording import Array, Call, RecordedTensor, is_float, tensors
from parity.recorded.runs.names import kind_of
from parity.recorded.runs.stage_map import ForwardPass, holds_integers
from parity.verdict.verdict import Verdict, identical, refused

LOSS = "loss"
CROSS_ENTROPY = ("cross_entropy", "crossentropyloss")
IGNORED = -100  # what PyTorch and MindSpore leave out if they are not told otherwise
FEWEST = 4  # targets that must be ids in another place before that is believed
NEXT = 1
ANY_OF_SEVERAL = np.empty((0, 2), np.int64)
SHIFTS = {0: "the token itself", 2: "the token after the next", -1: "the token before"}


@dataclasses.dataclass(frozen=True)
class LossJudgement:
    """What is said of a loss. call: of the loss; verdict: None if it was not judged; reason: why."""

    call: Call
    verdict: Verdict | None = None
    reason: str = ""


def judge_loss(forward: ForwardPass, logits: Array | None, ids: Array) -> LossJudgement | None:
    """The judgement on the cross-entropy of a forward pass; None if there is no loss.

    logits: the recorded ones, (B, T, V), or None; ids (B, T).
    """
    losses = [call for call in forward.calls if kind_of(call.operator) == "loss"]
    operators = [call for call in losses if not call.is_module]
    if not losses:
        return None
    call, *others = operators or losses
    given = list(tensors([call.arguments, call.keywords]))
    scores, targets = (next(filter(fits, given), None) for fits in (is_float, holds_integers))
    reason = _why_not(call, bool(others), logits, scores, targets)
    if reason or logits is None or scores is None or targets is None:
        return LossJudgement(call, reason=reason)
    rows = _rows(scores.numbers(), logits)
    if rows is None and _is_whole(scores, logits):
        return LossJudgement(call, _refused_scores(scores.numbers(), logits))
    if rows is None:
        return _unknown(call, "its rows of scores are no rows of the logits")
    if rows is ANY_OF_SEVERAL:
        return _unknown(call, "which rows of the logits its scores are, cannot be told: some are alike")
    return _judge_targets(call, targets.numbers().ravel(), rows, ids, _labels(forward, ids))


def _unknown(call: Call, reason: str) -> LossJudgement:
    return LossJudgement(call, reason=f"the loss: {reason}")


def _why_not(
    call: Call, has_others: bool, logits: Array | None, scores: RecordedTensor | None, targets: RecordedTensor | None
) -> str:
    """Why a loss cannot be judged; "" if it can."""
    if has_others:
        return "the loss: there are several"
    if call.operator.strip("_").lower() not in CROSS_ENTROPY or scores is None or targets is None:
        return f"the loss: {call.operator} is not given scores and the ids of its targets"
    if not scores.has_numbers or not targets.has_numbers:
        return "the loss: the numbers of its arguments were not recorded"
    if logits is None:
        return "the loss: the logits were not recorded"
    if len(scores.shape) != 2 or scores.shape[1] != logits.shape[-1] or targets.shape != scores.shape[:1]:
        return f"the loss: scores {scores.shape} and targets {targets.shape} are no rows of {logits.shape[-1]} scores"
    return ""


def _rows(scores: Array, logits: Array) -> Array | None:
    """Which row (b, t) of the logits each row of scores is, (N, 2), whatever it was rounded to; None if one is none.

    ANY_OF_SEVERAL if rows were chosen among logits of which some are alike.
    """
    batch, tokens, count = logits.shape
    places = np.moveaxis(np.indices((batch, tokens)), 0, -1)
    for held in (logits, *(logits.astype(numpy_dtype(narrow)) for narrow in ("float16", "bfloat16"))):
        known = held.astype(scores.dtype)
        for rows, chosen in ((known, places), (known[:, :-1], places[:, :-1]), (known[:, 1:], places[:, 1:])):
            if rows.size == scores.size and np.array_equal(rows.reshape(-1, count), scores, equal_nan=True):
                return chosen.reshape(-1, 2)
        by_bits = {
            row.tobytes(): place for row, place in zip(known.reshape(-1, count), places.reshape(-1, 2), strict=True)
        }
        found = [by_bits.get(row.tobytes()) for row in scores]
        if all(place is not None for place in found):
            return np.array(found) if len(by_bits) == batch * tokens else ANY_OF_SEVERAL
    return None


def _is_whole(scores: RecordedTensor, logits: Array) -> bool:
    """Whether there are as many rows as a language model's loss has: those of all tokens, or of all but the last."""
    batch, tokens, _ = logits.shape
    return scores.shape[0] in (batch * tokens, batch * (tokens - 1))


def _refused_scores(scores: Array, logits: Array) -> Verdict:
    """What is said of scores that are not the logits."""
    count = logits.shape[-1]
    rows = logits if len(scores) == logits.size // count else logits[:, :-1]
    said = identical(scores.reshape(rows.shape), rows.astype(scores.dtype))
    return dataclasses.replace(said, name="scores that are not the logits")


def _labels(forward: ForwardPass, ids: Array) -> Array | None:
    """The labels that the model was given, if they were recorded."""
    named = (call.keywords.get("labels") for call in forward.calls if call.is_module)
    labels = next((x for x in named if isinstance(x, RecordedTensor) and x.has_numbers and x.shape == ids.shape), None)
    return None if labels is None else labels.numbers()


def _judge_targets(call: Call, targets: Array, rows: Array, ids: Array, labels: Array | None) -> LossJudgement:
    numbers = [call.keywords.get("ignore_index"), *call.arguments]
    ignored = next((x for x in numbers if isinstance(x, int) and not isinstance(x, bool)), IGNORED)
    scored = (targets != ignored) & (targets >= 0)
    if not scored.any():
        return _unknown(call, "nothing is scored")
    for source in (ids, labels):
        shift = None if source is None else _shift(targets, scored, rows, source)
        if shift == NEXT:
            return LossJudgement(call, identical(targets, targets))
        if source is not None and shift is not None and (source is ids or shift != 0):
            return LossJudgement(call, _refused_targets(targets, scored, rows, source, shift))
    return _unknown(call, "its targets are not the ids, so that nobody can tell where they belong")


def _shift(targets: Array, scored: Array, rows: Array, source: Array) -> int | None:
    """By how many places the targets are the source's shifted; None if they are not, or too few of them are known."""
    for shift in (NEXT, *SHIFTS):
        known, expected = _moved(scored, rows, source, shift)
        if known.sum() >= (1 if shift == NEXT else FEWEST) and np.array_equal(targets[known], expected[known]):
            return shift
    return None


def _moved(scored: Array, rows: Array, source: Array, shift: int) -> tuple[Array, Array]:
    """For each row the source's token so many places on, and whether it is scored and there is one."""
    sequence, place = rows[:, 0], rows[:, 1] + shift
    there = (place >= 0) & (place < source.shape[1])
    expected = source[sequence, np.where(there, place, 0)]
    return scored & there & (expected >= 0), expected


def _refused_targets(targets: Array, scored: Array, rows: Array, source: Array, shift: int) -> Verdict:
    known, expected = _moved(scored, rows, source, NEXT)
    first = int(np.flatnonzero(known & (targets != expected))[0]) if known.any() else int(np.flatnonzero(scored)[0])
    place = tuple(int(i) for i in rows[first])
    return refused(
        f"each target is {SHIFTS[shift]}, not the next: at {place} it is {targets[first]}, expected {expected[first]}"
    )
