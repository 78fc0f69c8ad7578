"""The gradients of a module's parameters, which are recorded beside its backward call."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.recorded.call_index import CallIndex
from parity.recorded.operators import Bound
from parity.recorded.operators.expectation import Expectation, References, decided, moved, parts, worst
from parity.recorded.recording import Call, RecordedRun, RecordedTensor
from parity.verdict.verdict import Reference, Verdict

Array = NDArray[Any]
Given = Callable[[Call], tuple[Bound, dict[str, Any]] | None]


def parameter_gradients(
    forward: Call,
    bound: Bound,
    expected: dict[str, Expectation],
    run: RecordedRun,
    index: CallIndex,
    known: References,
    given: Given,
) -> Iterator[Verdict]:
    """The verdict on the gradient of each parameter of a module that has one recorded.

    A gradient that other calls add to as well is not judged, but for the usual case:
    a head that is tied to the embedding.
    """
    if index.count(forward.path) > 1:
        return
    for name, parameter in bound.parameters.items():
        whole = f"{forward.path}.{parameter}"
        recorded = run.parameter_gradients.get(whole)
        if recorded is None or not recorded.has_numbers or name not in expected:
            continue
        others = _sharing(forward, forward.parameters[parameter], index)
        if index.is_used_beside(forward.parameters[parameter], {forward.name, *(call.name for call in others)}):
            continue
        if not others:
            if bound.function == "ops.embedding" and _may_be_tied(forward, parameter, index):
                continue
            yield dataclasses.replace(expected[name].verdict(recorded), name=whole)
            continue
        tied = _tied(forward, others, run, given)
        if tied is not None:
            yield dataclasses.replace(_sum_of_two(*tied, known).verdict(recorded), name=whole)


def _may_be_tied(forward: Call, parameter: str, index: CallIndex) -> bool:
    """Whether a table may be the head, too, outside of all modules: unless a module is seen to be the head."""
    shape = forward.parameters[parameter].shape
    heads = (
        x.shape in (shape, shape[::-1])
        for call in index.modules()
        for x in call.parameters.values()
        if call.operator != forward.operator and not re.search(r"\.\d+\.", call.path)  # no part of a layer
    )
    is_of_positions = re.search(r"wpe|pos", forward.path.rpartition(".")[2]) is not None
    return not is_of_positions and not any(heads)


def _sharing(forward: Call, parameter: RecordedTensor, index: CallIndex) -> list[Call]:
    """Other modules with a parameter of the same numbers, as far as statistics tell."""
    return [
        call
        for call in index.modules()
        for other in call.parameters.values()
        if call.path != forward.path and other.shape == parameter.shape and other.statistics == parameter.statistics
        and (parameter.statistics.norm is not None or parameter.statistics.md5 is not None) and len(other.shape) > 1
    ]  # fmt: skip


def _tied(
    forward: Call, others: list[Call], run: RecordedRun, given: Given
) -> tuple[Array, Array, Array, Array] | None:
    """Of an embedding and the head that is tied to it: ids, gradient of the rows, inputs and gradient of the scores."""
    if len(others) != 1:
        return None
    found: dict[str, tuple[dict[str, Any], Array]] = {}
    for call in (forward, others[0]):
        bound = given(call)
        name = call.name.replace(".forward", ".backward")
        back = next((each for each in run.calls if each.is_backward and each.name == name), None)
        grad = back.arguments[0] if back is not None and back.arguments else None
        if bound is None or not isinstance(grad, RecordedTensor) or not grad.has_numbers:
            return None
        found[bound[0].function] = bound[1], grad.numbers()
    if set(found) != {"ops.embedding", "ops.conv1d"}:
        return None
    (embedding, d_rows), (head, d_scores) = found["ops.embedding"], found["ops.conv1d"]
    return embedding["ids"], d_rows, head["x"], d_scores


def _sum_of_two(ids: Array, d_rows: Array, x: Array, d_scores: Array, known: References) -> Expectation:
    """The gradient (V, C) of a tied matrix: that of the rows that were looked up, and that of the scores."""
    count, size, dtype = d_scores.shape[-1], x.shape[-1], x.dtype
    rows, scores = x.reshape(1, -1, size), d_scores.astype(dtype, copy=False).reshape(-1, count).T[None]
    grads, shape = d_rows.astype(dtype, copy=False).reshape(1, ids.size, size), (count, size)

    class Both:
        def __init__(self, part: slice) -> None:
            weight = np.zeros((count, part.stop - part.start), dtype)
            looked_up = {"grad": grads[:, :, part], "ids": ids.reshape(1, -1), "weight": weight}
            self._runs = (
                known.runs("ops.embedding_vjp", looked_up, dtype),
                known.runs("ops.matmul", {"a": scores, "b": rows[:, :, part]}, dtype),
            )

        def references(self, most: int) -> list[Reference]:
            first, second = (runs.references(most)[0] for runs in self._runs)
            sums = [one + other[0] for one, other in zip(first.orbit, second.orbit, strict=False)]
            return [Reference(first.oracle + second.oracle[0], sums, terms=second.terms)]

    def judge(value: Array) -> Verdict:
        found = []
        for part in parts(size, count):
            verdict = decided(Both(part), 0, value[:, part], value.dtype)
            found.append(moved(verdict, (0, part.start), shape, shape))
        return worst(found)

    return Expectation(shape, judge)
