"""What computes in 16 bits within a float32 model is noted, and nothing else."""

import dataclasses

import numpy as np

from parity.recorded.recording import RecordedRun
from parity.recorded.runs.precision import lower_precision
from parity.report.recorded.facts import JudgedRun
from tests.parity.recorded.made_runs import hugging_face_run, module, operator, operators_run, parameters_of

PARAMETERS = parameters_of()
HALF = {name: x.astype(np.float16) for name, x in PARAMETERS.items()}
X = np.ones((2, 2, 4, 4), np.float32)
SOFTMAX = operator("softmax", 9, X.astype(np.float16), result=X.astype(np.float16))
THERE = operator("half", 0, X, result=X.astype(np.float16), kind="Tensor")
BACK = operator("float", 0, X.astype(np.float16), result=X, kind="Tensor")


def noted(run: RecordedRun, *calls: object) -> list[tuple[str, list[str]]]:
    run = dataclasses.replace(run, calls=(*run.calls, *calls))
    return [(x.dtype, [call.name for call in x.calls]) for x in lower_precision(run)]


def test_an_operator_in_float16_is_noted_and_not_called_wrong() -> None:
    for run in (hugging_face_run(PARAMETERS), operators_run(PARAMETERS)):
        assert noted(run, THERE, SOFTMAX, BACK) == [("float16", ["Functional.softmax.9.forward"])]
    judged = JudgedRun(run, lower_precision=lower_precision(dataclasses.replace(run, calls=(*run.calls, SOFTMAX))))
    assert judged.lower_precision
    assert judged.agrees
    assert judged.first_wrong is None


def test_a_module_in_float16_is_noted_where_no_operator_was_recorded() -> None:
    lower = module("transformer.h.1.mlp.act", "Act", X.astype(np.float16), X.astype(np.float16))
    assert noted(hugging_face_run(PARAMETERS), lower) == [("float16", [lower.name])]


def test_numbers_that_are_only_turned_and_models_of_another_dtype_are_not_noted() -> None:
    assert noted(hugging_face_run(PARAMETERS), THERE, BACK) == []
    upcast = operator("matmul", 9, X, X, result=X)  # reorder_and_upcast_attn
    for run in (hugging_face_run(HALF), operators_run(HALF)):
        assert noted(run, SOFTMAX, BACK, upcast) == []
    mixed = {**PARAMETERS, "ln_f.bias": HALF["ln_f.bias"]}
    assert noted(hugging_face_run(PARAMETERS, recorded=mixed), SOFTMAX) == []
    backward = dataclasses.replace(SOFTMAX, name="Functional.softmax.9.backward", is_backward=True)
    assert noted(hugging_face_run(PARAMETERS), backward) == []
