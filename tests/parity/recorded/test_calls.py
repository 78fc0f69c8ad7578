"""Every kind of call: a correct one agrees, and one wrong number, or two rows exchanged, is seen."""

import dataclasses

import numpy as np
import pytest

from parity.recorded.calls import Setting, judge_calls
from parity.recorded.judgement import CallJudgement
from parity.recorded.operators import load_operators
from parity.recorded.recording import Call, RecordedRun, RecordedTensor
from parity.verdict.steps import EVERY_STEP
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Verdict
from tests.parity.recorded.calls_by_hand import (
    Numbers,
    backward_calls,
    call,
    forward_calls,
    run,
    with_result,
)

SETTING = Setting({"exp": 2.0**-20, "tanh": 2.0**-20}, load_operators())
FORWARD, BACKWARD = forward_calls(Numbers()), backward_calls(Numbers())


def judged(recorded: RecordedRun) -> list[CallJudgement]:
    return list(judge_calls(recorded, SETTING))


def changed(result: RecordedTensor, verdict: Verdict, how: str) -> np.ndarray:
    x = result.numbers().copy()
    if how == "rows":
        rows = x.reshape(-1, x.shape[-1])
        rows[[0, -1]] = rows[[-1, 0]]
        return rows.reshape(x.shape)
    at = int(np.argmax(np.abs(x.astype(np.float64))))
    allowed = NOISE_FACTOR * verdict.noise + ULP_TERM * np.spacing(np.abs(x.flat[at])) if x.dtype.kind == "f" else 1
    x.flat[at] = not x.flat[at] if x.dtype == bool else x.flat[at] + 10 * allowed
    return x


def require_seen(framework: str, before: tuple[Call, ...], one: Call) -> None:
    """The call agrees; with any of its judged results changed it does not."""
    found = judged(run(*before, one, framework=framework))[-1]
    assert found.is_judged, found.reason
    assert found.agrees, [verdict.explain() for verdict in found.verdicts]
    results = [(i, x) for i, x in enumerate(one.results) if isinstance(x, RecordedTensor)]
    for (i, result), verdict in zip(results, found.verdicts, strict=False):
        for how in ("one", "rows"):
            if how == "rows" and (
                len(result.shape) < 2 or np.array_equal(*result.numbers().reshape(-1, result.shape[-1])[[0, -1]])
            ):
                continue
            wrong = with_result(one, i, changed(result, verdict, how))
            assert not judged(run(*before, wrong, framework=framework))[-1].agrees, how


@pytest.mark.parametrize("name", FORWARD)
def test_a_wrong_result_of_each_kind_is_seen(name):
    framework, one = FORWARD[name]
    require_seen(framework, (), one)


@pytest.mark.parametrize("name", BACKWARD)
def test_a_wrong_gradient_of_each_kind_is_seen(name):
    framework, forward, back = BACKWARD[name]
    require_seen(framework, (forward,), back)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_16_bits_agree(dtype):
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    setting = Setting(SETTING.accuracy | {EVERY_STEP: 2.0**-9}, SETTING.operators)
    for name, (framework, one) in forward_calls(Numbers(dtype)).items():
        if name in ("cast", "cross_entropy", "count", "comparison", "embedding", "gather"):
            continue  # the dtype is another, or none
        (found,) = judge_calls(run(one, framework=framework), setting)
        assert found.is_judged, (name, found.reason)
        assert found.agrees, (name, found.worst)


def test_without_its_plain_arguments_a_softmax_over_another_axis_is_no_alarm():
    """Some dumps keep tensors alone: which axis it was, they do not say. A product has no options."""
    x = np.float32([[0.5, 2.0, -1.0], [1.0, 0.25, 3.0]])
    over_rows = np.exp(x) / np.exp(x).sum(axis=0)
    softmax = call("softmax", [x], [over_rows.astype(np.float32)])
    product = call("matmul", [x, x.T.copy()], [x @ x.T])
    found = judged(run(*(dataclasses.replace(each, is_complete=False) for each in (softmax, product))))
    assert [(each.is_judged, each.agrees) for each in found] == [(False, True), (True, True)]
    assert "may be missing" in found[0].reason
    wrong = dataclasses.replace(with_result(product, 0, x @ x.T + 1), is_complete=False)
    assert not judged(run(wrong))[0].agrees
