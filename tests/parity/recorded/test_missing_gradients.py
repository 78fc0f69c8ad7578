"""A parameter that requires a gradient and has none is named, and who lost it; one that is to have none is not."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from parity.recorded.recording import Call, RecordedRun
from parity.recorded.runs.missing_gradients import missing_gradients
from parity.report.recorded.facts import JudgedRun
from tests.parity.recorded.made_runs import hugging_face_run, module, parameters_of, parents_of, stages, tensor

PARAMETERS = parameters_of()
C_FC, LN_2, WTE = "transformer.h.1.mlp.c_fc", "transformer.h.1.ln_2", "transformer.wte"


def training_run(framework: str = "pytorch", extra: Iterable[Call] = ()) -> RecordedRun:
    """A forward and backward pass, in which every parameter got its gradient."""
    run = hugging_face_run(PARAMETERS)
    run = dataclasses.replace(run, framework=framework, calls=(*run.calls, *extra))
    parents = parents_of(run)

    def asking(x: Any) -> Any:
        return dataclasses.replace(x, requires_grad=framework == "pytorch" and x.dtype == "float32")

    forward = [
        dataclasses.replace(
            call,
            parent=parents[call.name] or "",
            results=tuple(map(asking, call.results)),
            parameters={name: asking(x) for name, x in call.parameters.items()},
        )
        for call in run.calls
    ]
    backward = [
        dataclasses.replace(call, name=call.name.replace("forward", "backward"), is_backward=True, parameters={})
        for call in forward[::-1]
    ]
    gradients = {
        f"{call.path}.{name}": tensor(x.numbers() + 9) for call in forward for name, x in call.parameters.items()
    }
    return dataclasses.replace(run, calls=(*forward, *backward), parameter_gradients=gradients)


def without(run: RecordedRun, *paths: str, backward: bool = False, zero: bool = False) -> RecordedRun:
    """The run without the gradients of these modules, or parameters; and, if asked, without their backward calls."""

    def is_of(name: str) -> bool:
        return name in paths or name.rpartition(".")[0] in paths

    kept = {name: x for name, x in run.parameter_gradients.items() if not is_of(name)}
    zeros = {name: tensor(0 * x.numbers()) for name, x in run.parameter_gradients.items() if is_of(name) and zero}
    calls = tuple(call for call in run.calls if not (backward and call.is_backward and call.path in paths))
    return dataclasses.replace(run, calls=calls, parameter_gradients=kept | zeros)


def found(run: RecordedRun) -> list[tuple[str, str]]:
    """The parameters that miss a gradient, and the path of the module that lost it."""
    return [(missing.name, missing.blamed.path) for missing in missing_gradients(run)]


def changed(run: RecordedRun, path: str, change: Callable[[Call], Call]) -> RecordedRun:
    return dataclasses.replace(run, calls=tuple(change(call) if call.path == path else call for call in run.calls))


def test_where_every_gradient_is_there_none_is_missing() -> None:
    assert found(training_run()) == []


def test_a_bias_that_is_left_out_is_the_modules_fault() -> None:
    run = without(training_run(), f"{C_FC}.bias")
    assert found(run) == [("h.1.mlp.c_fc.bias", C_FC)]
    judged = JudgedRun(run, missing_gradients=missing_gradients(run))
    assert not judged.agrees
    assert judged.first_wrong is not None
    assert (judged.first_wrong.what, judged.first_wrong.name) == ("gradient", "h.1.mlp.c_fc.bias")
    assert judged.first_wrong.lines == ("/home/me/my_gpt2.py:7, in forward: x = self.part(x)",)


def test_a_result_that_is_cut_off_is_the_fault_of_what_is_around_it() -> None:
    assert found(without(training_run(), C_FC, backward=True)) == [
        ("h.1.mlp.c_fc.weight", "transformer.h.1.mlp"),
        ("h.1.mlp.c_fc.bias", "transformer.h.1.mlp"),
    ]


def test_what_is_cut_off_by_a_later_module_is_not_blamed_for_it() -> None:
    names = {name for name, _ in found(without(training_run(), C_FC, LN_2, backward=True))}
    assert names == {"h.1.mlp.c_fc.weight", "h.1.mlp.c_fc.bias"}


def test_what_is_given_on_by_calls_without_a_gradient_is_followed() -> None:
    run = without(training_run(), C_FC, "transformer.h.1.mlp.act", backward=True)
    assert ("h.1.mlp.c_fc.weight", "transformer.h.1.mlp") in found(run)


def frozen(call: Call) -> Call:
    held = {name: dataclasses.replace(x, requires_grad=False) for name, x in call.parameters.items()}
    return dataclasses.replace(call, parameters=held)


def without_autograd(call: Call) -> Call:
    return dataclasses.replace(call, results=tuple(dataclasses.replace(x, requires_grad=False) for x in call.results))


LN_F = stages(PARAMETERS)["ln_f"]
AFTER_H_0 = [f"transformer.h.1{rest}" for rest in ("", ".ln_1", ".ln_2", ".attn", ".mlp", ".attn.c_attn")]
AFTER_H_0 += [f"transformer.h.1.{rest}" for rest in ("attn.c_proj", "mlp.c_fc", "mlp.act", "mlp.c_proj")]
FINE: dict[str, Callable[[], RecordedRun]] = {
    "frozen": lambda: changed(without(training_run(), C_FC), C_FC, frozen),
    "frozen, with all before it": lambda: changed(without(training_run(), WTE, backward=True), WTE, frozen),
    "tied": lambda: without(training_run(), "lm_head"),
    "without autograd": lambda: changed(without(training_run(), C_FC, backward=True), C_FC, without_autograd),
    "a result that nothing uses": lambda: without(
        training_run(extra=[module("score", "Linear", LN_F, LN_F + 1, {"weight": np.ones((8, 8), np.float32)})]),
        "score",
        backward=True,
    ),
    "the loss of an earlier layer": lambda: without(
        training_run(), *AFTER_H_0, "transformer", "transformer.ln_f", "lm_head", backward=True
    ),
    "a parameter that no GPT-2 has": lambda: without(
        training_run(extra=[module("h.0.gate", "Gate", LN_F, LN_F, {"weight": np.ones(8, np.float32)})]), "h.0.gate"
    ),
    "no backward pass": lambda: dataclasses.replace(training_run(), parameter_gradients={}),
    "MindSpore: frozen": lambda: without(training_run("mindspore"), C_FC),
    "MindSpore: a gradient of zeros that came back": lambda: without(training_run("mindspore"), C_FC, zero=True),
}


@pytest.mark.parametrize("name", FINE)
def test_a_gradient_that_nobody_owes_is_not_missing(name: str) -> None:
    assert found(FINE[name]()) == []


def test_mindspore_fills_in_zeros_where_no_gradient_came() -> None:
    run = without(training_run("mindspore"), C_FC, backward=True, zero=True)
    assert [name for name, _ in found(run)] == ["h.1.mlp.c_fc.weight", "h.1.mlp.c_fc.bias"]


def test_what_is_wrong_in_the_forward_pass_comes_first() -> None:
    """A bias that was dropped is wrong in the forward pass already; a wrong backward call follows from it."""
    from tests.parity.recorded.made_runs import judged_as

    run = without(training_run(), f"{C_FC}.bias")
    for wrong, first in ((f"Module.{C_FC}.Conv1D.forward.0", "call"), (f"Module.{C_FC}.Conv1D.backward.0", "gradient")):
        calls = list(judged_as(wrong)(run))
        said = JudgedRun(run, calls, missing_gradients=missing_gradients(run)).first_wrong
        assert said is not None
        assert said.what == first
