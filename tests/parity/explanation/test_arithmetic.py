"""Ways to compute float32 with fewer bits: told from mistakes, and from each other."""

import time
from typing import Any

import numpy as np
import pytest

from benchmarks.arithmetic import engine
from gpt2.backends import NumPyBackend
from parity.check import check_rule, rules
from parity.diagnosis.functions_run import drawn
from parity.explanation.alternative import Alternative
from parity.explanation.arithmetic import (
    HF32_BITS,
    PROFILES,
    TF32_BITS,
    bfloat16,
    flushed,
    summed_in_float16,
    to_nearest_away,
    to_nearest_even,
    toward_zero,
)
from parity.explanation.candidates import can_change, reached_by
from parity.explanation.explain import Search
from parity.explanation.questions import truth_of
from parity.explanation.words import LANGUAGES, explained
from parity.mutants.base import Edit
from parity.verdict.trial import Trial
from tests.parity.explanation.test_explain import ENOUGH, FEW, SEED, edited, failure, only
from tests.parity.explanation.test_explain import explained as explained_by

ONE, UNIT = np.float32(1), {bits: np.float32(2.0 ** (1 - bits)) for bits in (TF32_BITS, HF32_BITS)}


@pytest.mark.parametrize("bits", [TF32_BITS, HF32_BITS])
@pytest.mark.parametrize("sign", [1, -1])
def test_halves_are_rounded_as_documented(bits: int, sign: int) -> None:
    unit = UNIT[bits]
    halves = sign * np.array([ONE + unit / 2, ONE + 3 * unit / 2, ONE + unit / 4, ONE + 3 * unit / 4], np.float32)
    below, above, two = sign * ONE, sign * (ONE + unit), sign * (ONE + 2 * unit)
    assert to_nearest_even(bits)(halves).tolist() == [below, two, below, above]
    assert to_nearest_away(bits)(halves).tolist() == [above, two, below, above]
    assert toward_zero(bits)(halves).tolist() == [below, above, below, below]


def test_what_is_not_finite_and_what_is_large_stays() -> None:
    x = np.array([np.inf, -np.inf, np.finfo(np.float32).max, 0.0, -0.0], np.float32)
    for rounding in (to_nearest_even(TF32_BITS), to_nearest_away(HF32_BITS), toward_zero(HF32_BITS)):
        assert rounding(x)[[0, 1, 3, 4]].tobytes() == x[[0, 1, 3, 4]].tobytes()
        assert np.isnan(rounding(np.array([np.nan], np.float32))).all()


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert not (bfloat16(x).view(np.uint32) & 0xFFFF).any()
    assert (np.abs(bfloat16(x) - x) <= np.abs(x) * 2.0**-8).all()


def test_what_is_denormal_becomes_zero_with_its_sign() -> None:
    tiny = np.finfo(np.float32).tiny
    x = np.array([tiny, tiny / 2, -tiny / 2, 1], np.float32)
    assert flushed(x).tobytes() == np.array([tiny, 0, -0.0, 1], np.float32).tobytes()


def test_a_sum_in_float16_loses_small_terms() -> None:
    a, b = np.ones((1, 3), np.float32), np.array([[2048], [1], [1]], np.float32)
    assert summed_in_float16(a, b) == 2048
    assert summed_in_float16(a, b[::-1]) == 2050


# A rule in which each shows, one for each kind.
SHOWN = {
    "products in HF32, cut": "model.mlp",
    "products in TF32": "attention.attention",
    "products in bfloat16": "ops.conv1d",
    "products summed in float16": "ops.conv1d",
    "softmax that reads and writes bfloat16": "ops.softmax",
    "LayerNorm that reads and writes float16": "ops.layer_norm",
    "attention in bfloat16": "attention.attention",
    "everything in float16": "model.mlp",
}


@pytest.mark.parametrize(("name", "rule"), SHOWN.items())
def test_the_arithmetic_of_an_engine_is_named(name: str, rule: str) -> None:
    profile = next(each for each in PROFILES if each.name == name)
    found = explained_by(engine(profile), rule)
    assert only(found).name == name
    for language in LANGUAGES:
        said = explained(found, language)
        assert said[0].endswith(name)
        assert profile.switch in said[-1]


def standing(backend: Any, rule: str) -> list[Any]:
    """The profiles that explain a failure, as if no mistake were known."""
    result = failure(backend, rule)
    assert result.failing_case is not None
    search = Search(rules()[rule], Trial(result.failing_case, backend), time.monotonic() + ENOUGH, FEW, SEED)
    return search.explained_by(can_change(PROFILES, reached_by(rules()[rule], search.failing)))


def test_a_small_mistake_is_no_arithmetic() -> None:
    wrong = edited(Edit("reference.ops.conv1d", "+ bias)", "+ np.array(1.001, bias.dtype) * bias)"))
    assert not standing(wrong, "ops.conv1d")


def test_values_within_its_noise_must_be_as_far_from_the_reference() -> None:
    """A sum in float16 is so coarse that right values are within its noise."""
    profile, rule = next(each for each in PROFILES if each.name == "products summed in float16"), rules()["ops.conv1d"]
    trial = next(
        Trial(case, NumPyBackend(), memory)
        for case, memory in drawn(rule.name, NumPyBackend(), FEW, SEED)
        if case.sizes["C"] > 8 and case.regime == "live"
    )
    made, coarse = Alternative(trial, profile, truth_of(trial), {}), trial.on(engine(profile)).run()
    assert made.agrees(trial.run())
    assert not made.is_as_far(trial.run())
    assert made.agrees(coarse)
    assert made.is_as_far(coarse)


def test_float32_is_not_explained() -> None:
    for name in set(SHOWN.values()):
        assert check_rule(rules()[name], NumPyBackend(), FEW, SEED, closest=0).agrees
