"""How near a recorded run is to the limits of float16, what made the first NaN, and which rank parts first."""

import dataclasses
import math

import numpy as np
import pytest

from parity.recorded.recording import Call, RecordedRun, Statistics
from parity.recorded.runs.headroom import bits_left, first_not_finite, headroom
from parity.recorded.runs.series import PARAMETER, RESULT, first_parting, gradient_norms
from tests.parity.recorded.made_runs import hugging_face_run, operator, parameters_of, tensor

X = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
PARAMETERS = parameters_of()


def of(result: np.ndarray) -> Call:
    return operator("add", 0, X, result=result)


def test_bits_are_doublings_until_float16_overflows() -> None:
    found = headroom(of(X * 1024))
    assert found is not None
    assert found.largest == 4096.0
    assert found.bits == math.log2(65504 / 4096)
    with np.errstate(over="ignore"):
        assert np.isfinite(np.float16(4096 * 2.0 ** math.floor(found.bits)))
        assert np.isinf(np.float16(4096 * 2.0 ** math.ceil(found.bits)))
    assert bits_left(0.0) == math.inf
    assert bits_left(70000.0) < 0


def test_what_hides_scores_is_no_overflow() -> None:
    masked = np.array([[2.0, np.finfo(np.float32).min], [-8.0, -np.inf]], np.float32)
    found = headroom(of(masked))
    assert found is not None
    assert found.largest == 8.0
    bare = dataclasses.replace(tensor(masked[:1]), read=None)
    without_numbers = headroom(dataclasses.replace(of(X), results=(bare,)))
    assert without_numbers is not None
    assert (without_numbers.largest, without_numbers.below) == (2.0, None)


@pytest.mark.parametrize("size", [2.0**-14, 2.0**-15, 2.0**-24, 2.0**-25, 2.0**-26])
def test_shares_below_the_smallest_numbers_are_those_that_float16_changes(size: float) -> None:
    found = headroom(of(np.array([1.0, size, 0.0, -size], np.float32)))
    assert found is not None
    assert found.below == (2 / 3 if size < 2.0**-14 else 0.0)
    assert found.lost == (2 / 3 if np.float16(size) == 0 else 0.0)


def test_integers_have_no_headroom() -> None:
    assert headroom(of(np.arange(3))) is None


def test_the_call_that_makes_the_first_nan_of_finite_numbers_is_named() -> None:
    nan, infinite = X * np.nan, np.array([np.inf, 1], np.float32)
    given = operator("add", 0, nan, result=nan)
    filled = operator("masked_fill", 0, X, -math.inf, result=infinite)
    made = operator("log", 0, X, result=nan)
    later = operator("div", 0, X, result=infinite)
    found = first_not_finite(RecordedRun(calls=(of(X), filled, given, made, later)))
    assert found is not None
    assert (found.call.name, found.what, found.made_here) == (made.name, "NaN", True)
    came = first_not_finite(RecordedRun(calls=(of(X), filled)))
    assert came is not None
    assert (came.what, came.made_here) == ("infinity", False)
    assert first_not_finite(RecordedRun(calls=(of(X),))) is None


def test_a_nan_is_seen_in_statistics_alone() -> None:
    bare = dataclasses.replace(tensor(X), read=None, statistics=Statistics(math.nan, math.nan, math.nan, math.nan))
    found = first_not_finite(RecordedRun(calls=(dataclasses.replace(of(X), results=(bare,)),)))
    assert found is not None
    assert found.what == "NaN"


# steps and ranks


def _at(step: int, rank: int, run: RecordedRun) -> RecordedRun:
    return dataclasses.replace(run, step=step, rank=rank)


def test_the_first_step_and_rank_with_other_parameters_are_named() -> None:
    right = hugging_face_run(PARAMETERS)
    wrong = hugging_face_run(PARAMETERS, recorded={"h.1.ln_2.bias": PARAMETERS["h.1.ln_2.bias"] + np.float32(1)})
    runs = [_at(1, 1, wrong), _at(0, 0, right), _at(0, 1, right), _at(1, 0, right), _at(2, 1, wrong), _at(2, 0, right)]
    found = first_parting(runs)
    assert found is not None
    assert (found.step, found.rank, found.other_rank, found.what, found.name) == (1, 1, 0, PARAMETER, "h.1.ln_2.bias")
    assert found.explain() == "step 1: rank 1 and rank 0 have a different h.1.ln_2.bias"
    assert first_parting(runs[1:3]) is None


def test_results_of_equal_inputs_may_differ_by_both_noises() -> None:
    one, other = (RecordedRun(calls=(of(y),)) for y in (X, X * np.float32(1 + 1e-3)))
    name = one.calls[0].name

    def parts(floor: float) -> bool:
        noise = {(0, rank, name): floor for rank in (0, 1)}
        found = first_parting([one, _at(0, 1, other)], noise)
        assert found is None or (found.what, found.name, found.verdict is not None) == (RESULT, name, True)
        return found is not None

    assert parts(1e-6)
    assert not parts(1e-2)
    assert first_parting([one, _at(0, 1, other)]) is None  # a call without a floor is not compared
    fed_otherwise = dataclasses.replace(other.calls[0], arguments=(tensor(2 * X),))
    noise = {(0, rank, name): 1e-6 for rank in (0, 1)}
    assert first_parting([one, _at(0, 1, RecordedRun(calls=(fed_otherwise,)))], noise) is None


def test_gradients_are_summed_up_by_layer_in_the_order_of_the_model() -> None:
    x = np.array([3.0, 4.0], np.float32)
    bare = dataclasses.replace(tensor(x), read=None)
    unknown = dataclasses.replace(bare, statistics=Statistics())
    gradients = {
        "transformer.ln_f.weight": tensor(x),
        "transformer.h.10.ln_1.weight": unknown,
        "transformer.h.2.ln_1.weight": tensor(3 * x),
        "transformer.h.2.mlp.c_fc.weight": bare,
        "transformer.wte.weight": tensor(2 * x),
    }
    found = gradient_norms(RecordedRun(parameter_gradients=gradients))
    assert list(found.items()) == [("wte", 10.0), ("h.2", math.sqrt(250.0)), ("h.10", None), ("ln_f", 5.0)]
