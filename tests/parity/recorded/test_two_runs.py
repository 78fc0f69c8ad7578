"""Two recorded runs of one model are lined up, though their calls have other names."""

import dataclasses

import numpy as np
import pytest

from parity.recorded.recording import RecordedRun
from parity.recorded.runs.two_runs import ORDER, PATH, STAGE, compare_runs, line_up
from parity.recorded.runs.whole_run import judge_whole_run
from tests.parity.recorded.made_runs import (
    CONFIG,
    IDS,
    hugging_face_run,
    module,
    operators_run,
    parameters_of,
    tensor,
)

PARAMETERS = parameters_of()


def noise(run: RecordedRun) -> dict[str, float]:
    """The noise floors of a run's stages, by the truth from its ids."""
    (found,) = judge_whole_run(run, CONFIG, PARAMETERS, {})
    return {stage.name.replace("gelu_new", "act"): stage.inherited.noise for stage in found.stages}


def test_modules_and_operators_are_lined_up_in_every_stage_that_both_show() -> None:
    one, other = hugging_face_run(PARAMETERS), operators_run(PARAMETERS)
    found = compare_runs(one, other, noise(one), noise(other))
    shown = [pair.stage for pair in found.stages]
    assert shown == [name for name in noise(one) if name in noise(other)]
    assert {"wte", "h.1.attn.qkv", "h.0.mlp.act", "logits"} <= set(shown)
    assert {name.rpartition(".")[2] for name in found.missing} == {
        *("q", "k", "v", "scores", "masked_scores", "attn_weights", "attn_output")
    }
    assert all(pair.verdict is not None and pair.verdict.agrees for pair in found.stages)
    assert found.agrees
    assert found.inputs == ""


def test_a_difference_between_two_runs_is_seen_from_its_stage_on() -> None:
    one = hugging_face_run(PARAMETERS)
    other = operators_run(PARAMETERS, change={"h.1.ln_2": lambda x: x * np.float32(1.001)})
    found = compare_runs(one, other, noise(one), noise(one))
    assert not found.agrees
    wrong = [pair.stage for pair in found.stages if pair.verdict is not None and not pair.verdict.agrees]
    assert wrong[0] == "h.1.ln_2"
    assert wrong[-1] == "logits"


def test_without_a_noise_floor_a_difference_is_shown_and_not_judged() -> None:
    found = compare_runs(hugging_face_run(PARAMETERS), operators_run(PARAMETERS, {"ln_f": lambda x: 2 * x}))
    pair = next(pair for pair in found.stages if pair.stage == "ln_f")
    assert pair.verdict is None
    assert pair.difference is not None
    assert pair.difference > 0
    assert found.agrees


def test_runs_of_other_ids_are_not_compared() -> None:
    one, other = hugging_face_run(PARAMETERS), hugging_face_run(PARAMETERS, ids=IDS[:, ::-1].copy())
    assert "other ids" in compare_runs(one, other).inputs
    assert not compare_runs(one, other).agrees
    shorter = hugging_face_run(PARAMETERS, ids=IDS[:, :2])
    assert compare_runs(one, shorter).inputs == "the ids have shape (2, 4) in one run and (2, 2) in the other"


def test_one_matrix_that_is_transposed_is_named() -> None:
    name = "h.1.attn.c_proj.weight"
    one = hugging_face_run(PARAMETERS)
    other = hugging_face_run(PARAMETERS, recorded={name: PARAMETERS[name].T.copy()})
    wrong = [x for x in compare_runs(one, other).parameters if not x.is_right]
    assert [(x.name, x.what) for x in wrong] == [(name, "transposed")]
    assert not compare_runs(one, other).agrees


def test_a_matrix_that_is_stored_and_used_the_other_way_round_is_right() -> None:
    name = "h.1.attn.c_proj.weight"
    one, turned = (
        hugging_face_run(PARAMETERS),
        hugging_face_run(PARAMETERS, recorded={name: PARAMETERS[name].T.copy()}),
    )
    dense = tuple(
        dataclasses.replace(call, operator="Dense") if call.path.endswith("1.attn.c_proj") else call
        for call in turned.calls
    )
    other = dataclasses.replace(turned, calls=dense)
    for first, second in ((one, other), (other, one)):
        found = {x.name: x for x in compare_runs(first, second).parameters}
        assert found[name].is_right


def test_calls_without_paths_in_common_are_lined_up_by_order_kind_and_shape() -> None:
    x = np.ones((2, 4, 8), np.float32)
    one = [module("a.first", "Linear", x, x), module("a.norm", "LayerNorm", x, x), module("a.last", "Linear", x, 2 * x)]
    other = [
        module("b.in", "Dense", x, x),
        module("b.extra", "Softmax", x, x),
        module("b.scale", "Norm", x, x),
        module("b.out", "Dense", x, 2 * x),
    ]
    found = [(first.path, second.path, by) for first, second, by in line_up(one, other)]
    assert found == [("a.first", "b.in", ORDER), ("a.norm", "b.scale", ORDER), ("a.last", "b.out", ORDER)]
    assert [by for *_, by in line_up(one, one)] == [PATH] * 3


def test_two_calls_with_equal_inputs_are_judged_by_their_own_noise() -> None:
    x = np.ones((2, 4, 8), np.float32)
    one, other = (RecordedRun(calls=(module("a", "Linear", x, x), module("b", "Linear", x, y))) for y in (x, x * 1.5))
    floors = {"Module.a.Linear.forward.0": 1e-7, "Module.b.Linear.forward.0": 1e-7}
    found = compare_runs(one, other, floors, floors)
    assert [(pair.name, pair.verdict and pair.verdict.agrees) for pair in found.pairs] == [("a", True), ("b", False)]
    apart = dataclasses.replace(other.calls[1], arguments=(tensor(x * 2),))
    unlike = dataclasses.replace(other, calls=(other.calls[0], apart))
    assert [pair.verdict is None for pair in compare_runs(one, unlike, floors, floors).pairs] == [False, True]


@pytest.mark.parametrize("swap", [False, True])
def test_a_run_is_alike_itself(swap: bool) -> None:
    run = operators_run(PARAMETERS) if swap else hugging_face_run(PARAMETERS)
    found = compare_runs(run, run, noise(run), noise(run))
    assert found.agrees
    assert (found.alone, found.other_alone, found.missing) == ((), (), ())
    assert {pair.by for pair in found.pairs} <= {STAGE, PATH, ORDER}
    assert all(pair.difference == 0 for pair in found.pairs)
