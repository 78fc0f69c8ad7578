"""The generator: what it draws is measured. Values vary, every parameter matters, every regime comes up."""

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np
import pytest
from hypothesis import find, given, settings

from gpt2.backends import numpy_dtype
from parity.cases import cases as generator
from parity.cases.cases import DROPOUT_RATES, LARGEST, PADDINGS, REGIMES, SIZES, Case, build, case_axes, cases, is_axes
from parity.cases.contracts import contracts
from parity.check import draw, rules
from parity.verdict.liveness import RULES, float_arguments, gradients, silent
from parity.verdict.verdict import ULP_TERM, ulp
from reference.config import GPT2Config, flatten

FLOAT32 = np.dtype(np.float32)
EPSILON = float(np.finfo(np.float64).eps)
DTYPES = ("float64", "float32", "float16", "bfloat16")
WHOLE_MODELS = ("model.language_model", "model.sequence_classifier")
of_whole_models = pytest.mark.parametrize("function", WHOLE_MODELS)
AFRESH = settings(database=None)
A_CASE = Case(
    contract=contracts()["model.language_model"].without("keep"),
    sizes={"B": 2, "T": 3, "P": 2, "H": 2, "D": 2, "N": 1, "I": 5, "V": 7, "K": 1, "S": 5, "C": 4, "L": 5},
    scalars={"config": GPT2Config(vocab_size=7, n_positions=5, n_embd=4, n_layer=2, n_head=2, n_inner=5)},
    absent=frozenset(),
    padding="left",
    regime="live",
    seed=1,
)
ALONE = dataclasses.replace(A_CASE, absent=frozenset({"past"}), sizes={**A_CASE.sizes, "P": 0, "S": 3})


def drawn(function: str, examples: int, dtype: np.dtype = FLOAT32) -> list[Case]:
    """The first cases that the judge draws for a function."""
    return draw(rules()[function], dtype, examples)


def without_dropout(function: str, examples: int) -> list[Case]:
    """The first cases of a function without masks, of which the reasons of `silent` know nothing."""
    rule = rules()[function]
    return draw(dataclasses.replace(rule, contract=rule.contract.without("keep")), FLOAT32, examples)


def rows(case: Case, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Every row, of two numbers or more, that is drawn from a distribution; not the masks that are added to scores.

    The usual initialisation sets gains to 1 and biases to 0: that is what it is, and these are left out.
    """
    masks = {item.name for item in case.contract.inputs if "hidden" in item.kinds}
    for name, x in float_arguments(build(case, dtype)[0]).items():
        fixed = case.regime == "usual init" and x.ndim == 1 and name.endswith(("weight", "bias"))
        if name not in masks and not fixed and x.ndim and x.shape[-1] > 1:
            every = x.reshape(-1, x.shape[-1])
            yield from every[every.any(axis=1)] if name == "grad" else every  # at pads, gradients are 0


def is_nearly_constant(row: np.ndarray) -> bool:
    """Whether its numbers are so close together that the verdict's rule could take them for one."""
    wide = row.astype(np.float64)
    return float(np.ptp(wide)) <= ULP_TERM * float(ulp(np.abs(wide).max(), row.dtype))


def nearly_constant_rows(dtype: str, functions: Iterable[str] = contracts()) -> dict[str, float]:
    """The share of nearly constant rows in each regime, over cases of functions, all by default."""
    found: dict[str, list[bool]] = collections.defaultdict(list)
    for function in functions:
        for case in drawn(function, 6, numpy_dtype(dtype)):
            found[case.regime] += map(is_nearly_constant, rows(case, numpy_dtype(dtype)))
    return {regime: float(np.mean(constant)) for regime, constant in found.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_less_than_one_row_in_a_hundred_is_nearly_constant(dtype: str) -> None:
    share = nearly_constant_rows(dtype)
    assert share.keys() == REGIMES.keys()
    assert max(share.values()) < 0.01, share


def test_the_usual_initialisation_is_gains_of_one_and_biases_of_zero() -> None:
    case = dataclasses.replace(A_CASE, regime="usual init")
    fixed = {name: x for name, x in float_arguments(build(case, FLOAT32)[0]).items() if x.ndim == 1}
    assert len(fixed) == 2 * 8 + 2
    for name, x in fixed.items():
        assert (x == (0 if name.endswith("bias") else 1)).all()


def constants(*arguments: Any) -> np.ndarray:
    """What a generator makes that draws no values: ones in place of floats."""
    values = DRAWN_VALUES(*arguments)
    return np.ones_like(values) if values.dtype.kind == "f" else values


DRAWN_VALUES: Callable[..., np.ndarray] = generator._values


def test_the_measurement_sees_a_generator_of_constants() -> None:
    with patch.object(generator, "_values", constants):
        assert min(nearly_constant_rows("float32", WHOLE_MODELS).values()) == 1


def unexplained(case: Case, dtype: np.dtype = FLOAT32) -> list[str]:
    """Entries whose derivative is zero for no reason, or not zero although there is a reason.

    Where softmax is nearly one-hot, a derivative below the precision of float64 is as good as zero.
    """
    why = silent(case, dtype)
    return [
        f"{name}{list(where)}: {found} {why[name][where] or 'for no reason'}"
        for (name, where), found in gradients(case, dtype=dtype).items()
        if found.is_zero != bool(why[name][where]) and not (why[name][where] and abs(found.value) <= EPSILON)
    ]


@of_whole_models
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_parameter_matters_or_the_case_says_why_not(function: str, dtype: str) -> None:
    @settings(max_examples=15)
    @given(cases(contracts()[function].without("keep"), numpy_dtype(dtype)))
    def holds(case: Case) -> None:
        assert not unexplained(case, numpy_dtype(dtype))

    holds()


def test_in_a_generator_of_constants_parameters_do_not_matter() -> None:
    with patch.object(generator, "_values", constants):
        assert unexplained(A_CASE)


def test_every_reason_comes_up() -> None:
    """The rarest in one case of a hundred."""
    expected, found = len(RULES) + 2, {""}  # two of the rules know two reasons
    for case in itertools.chain.from_iterable(zip(*(without_dropout(f, 1000) for f in WHOLE_MODELS), strict=True)):
        if len(found) > expected:
            break
        found = found.union(*(reasons.flat for reasons in silent(case).values()))
    assert len(found - {""}) == expected, found


def test_a_bias_of_keys_matters_as_soon_as_there_is_a_past() -> None:
    name, keys = "params.h.1.attn.c_attn.bias", np.s_[4:8]
    assert all("shift" in reason for reason in silent(ALONE)[name][keys])
    assert not any(silent(A_CASE)[name][keys])


def test_rounding_noise_is_no_derivative() -> None:
    found, why = gradients(ALONE, entries=6), silent(ALONE)
    shifted = [x for (name, where), x in found.items() if "shift" in why[name][where]]
    assert any(x.value for x in shifted)
    assert all(x.is_zero for x in shifted)
    assert not any(x.is_zero for (name, where), x in found.items() if not why[name][where])


@of_whole_models
def test_every_regime_padding_and_kind_of_sizes_is_drawn_again_and_again(function: str) -> None:
    several = {case.describe(): case for case in drawn(function, 400)}.values()  # each counts once
    masked = [case for case in several if "attention_mask" not in case.absent]
    count = {
        **collections.Counter(case.regime for case in several),
        **collections.Counter(case.padding for case in masked),
        "ones": sum(max(case.sizes[letter] for letter in LARGEST) == 1 for case in several),
        "full": sum(case.sizes["S"] == case.sizes["L"] for case in several),
    }
    for name in [*REGIMES, *PADDINGS, "ones", "full"]:
        assert count.get(name, 0) >= 5, (name, count)
    assert {"ones", "full"} <= SIZES.keys()


def test_every_size_that_may_be_one_is_one_at_once() -> None:
    case = find(cases(contracts()["model.block"], FLOAT32), lambda case: "past" not in case.absent, settings=AFRESH)
    assert {letter: size for letter, size in case.sizes.items() if size != 1} == {"S": 2, "L": 2}


def test_a_full_context_ends_at_the_last_position() -> None:
    for case in drawn("model.language_model", 200):
        if case.sizes["S"] == case.sizes["L"] and "position_ids" not in case.absent:
            assert (build(case, FLOAT32)[0]["position_ids"][:, -1] == case.sizes["L"] - 1).all()


def test_shrinking_leads_to_the_plainest_case() -> None:
    case = find(cases(contracts()["model.language_model"], FLOAT32), lambda case: case.sizes["T"] > 1, settings=AFRESH)
    assert (case.regime, case.padding, case.seed) == ("live", "none", 0)
    assert {letter: size for letter, size in case.sizes.items() if size != 1} == {"T": 2, "P": 0, "S": 2, "L": 2}


@pytest.mark.parametrize("function", [name for name, c in contracts().items() if "mask" in str(c.inputs)])
def test_whole_sequences_are_pads(function: str) -> None:
    masked = [case for case in drawn(function, 150) if case.padding == "whole" and "attention_mask" not in case.absent]
    assert masked
    for case in masked:
        assert not build(case, FLOAT32)[0]["attention_mask"].any(axis=1).all()


def test_dropout_masks_keep_by_the_rates_of_the_configuration() -> None:
    kept: dict[float, list[bool]] = collections.defaultdict(list)
    for case in drawn("model.block", 100):
        if "keep" not in case.absent:
            masks, config = flatten(build(case, FLOAT32)[0]["keep"]), case.config
            kept[config.attn_pdrop] += masks["attn.attn_weights"].flat
            for part in ("attn.c_proj", "mlp.c_proj"):
                kept[config.resid_pdrop] += masks[part].flat
    assert kept.keys() == set(DROPOUT_RATES)
    for rate, values in kept.items():
        deviation = np.sqrt(rate * (1 - rate) / len(values))
        assert abs(np.mean(values) - (1 - rate)) <= 5 * deviation


def test_labels_are_ids_or_not_scored_some_row_as_a_whole() -> None:
    seen: set[str] = set()
    for case in drawn("ops.cross_entropy", 60):
        labels = build(case, FLOAT32)[0]["labels"]
        scored = labels != case.scalars["ignore_index"]
        assert ((labels >= 0) & (labels < case.sizes["V"]))[scored].all()
        rows = scored.any(axis=1)
        seen |= {"all" if scored.all() else "some" if rows.all() else "not a row" if rows.any() else "none"}
    assert seen == {"all", "some", "not a row", "none"}


@pytest.mark.parametrize("function", ["attention.mask_scores", "fast.attend"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_key_of_a_row_is_hidden(function: str, dtype: str) -> None:
    whole = [case for case in drawn(function, 60, numpy_dtype(dtype)) if case.padding == "whole"]
    assert whole
    for case in whole:
        arguments = build(case, numpy_dtype(dtype))[0]
        visible = arguments["visible"] if "visible" in arguments else arguments["hidden"] == 0
        assert not visible.any(axis=-1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_denormals_are_lost_beside_values_of_order_one(dtype: str) -> None:
    kind = numpy_dtype(dtype)
    sizes = {"B": 2, "T": 8, "C": 16, "N": 3}
    case = Case(contracts()["ops.matmul"], sizes, {}, frozenset(), padding="none", regime="denormals", seed=0)
    a = np.abs(build(case, kind)[0]["a"].astype(np.float64))
    info = ml_dtypes.finfo(kind)
    lost, denormal = a * a < float(info.smallest_subnormal), a < float(info.smallest_normal)
    assert not lost[..., 0].any()
    assert 1 / 4 < lost[..., 1:].mean() < 3 / 4
    assert denormal.any() == (dtype == "float16")  # in the others, libraries may take them for 0


def test_the_axes_of_a_case_need_no_arrays() -> None:
    for function in contracts():
        for case in drawn(function, 5):
            arguments, axes = build(case, FLOAT32)
            assert axes == case_axes(case)
            assert arguments.keys() == axes.keys()
            for name, x in arguments.items():
                assert is_axes(axes[name]) == isinstance(x, np.ndarray)
                assert not isinstance(x, np.ndarray) or len(axes[name]) == x.ndim


def digest(case: Case) -> str:
    """The sha256 of all arrays of a case, in name order, little end first."""
    made = hashlib.sha256()
    arguments = build(case, FLOAT32)[0]
    arrays = float_arguments(arguments) | {name: x for name, x in arguments.items() if isinstance(x, np.ndarray)}
    for name, x in sorted(arrays.items()):
        made.update(f"{name} {x.dtype.name} {x.shape}\n".encode())
        made.update(x.astype(x.dtype.newbyteorder("<")).tobytes())
    return made.hexdigest()


DIGEST = "8ff926d98cbca9c13ddaa348339a8b7f9c4ab8ec6d031e78675caf8a049c994f"


def test_the_same_seed_makes_the_same_bits_on_any_machine() -> None:
    assert digest(A_CASE) == digest(dataclasses.replace(A_CASE)) == DIGEST
    assert digest(dataclasses.replace(A_CASE, seed=2)) != digest(A_CASE)
