"""What the docstrings promise: the shapes, the dtype that was asked for, the symmetries that the judge relies on."""

import dataclasses
import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.backends import DTYPES, numpy_dtype
from parity.cases.cases import Case, axis_factors, build, cases
from parity.cases.contracts import Contract, contracts
from parity.verdict import orbit
from parity.verdict.trial import leaves, result_axes
from parity.verdict.verdict import judge

FUNCTIONS = list(contracts().values())
# Sums of many numbers, which come in float32 at least: their result that has no axes.
WIDE = (
    "ops.cross_entropy",
    "model.language_model_loss",
    "model.sequence_classifier_loss",
    "fast.language_model_loss_fast",
    "train.loss_and_gradients",
    "optim.global_norm",
    "optim.clip_by_global_norm",
)
by_function = pytest.mark.parametrize("contract", FUNCTIONS, ids=lambda contract: contract.function)


@functools.cache
def drawn(function: str) -> list[Case]:
    """Cases of a function: drawn once for all dtypes, which takes longer than to run it."""
    contract = contracts()[function]
    found: list[Case] = []

    @settings(max_examples=20)
    @given(cases(contract, np.dtype(np.float32)))
    def keep(case: Case) -> None:
        found.append(case)

    keep()
    return found


@by_function
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_promised_shape_and_the_dtype_of_the_input(contract: Contract, dtype: str) -> None:
    precision = numpy_dtype(dtype)
    for case in drawn(contract.function):
        if "dtype" in case.scalars:
            case = dataclasses.replace(case, scalars=case.scalars | {"dtype": precision})
        arguments, _ = build(case, precision)
        with np.errstate(all="ignore"):
            results = list(leaves(contract.target(**arguments), precision))
        for result, axes in zip(results, result_axes(case, len(results)), strict=True):
            assert result.shape == tuple(math.prod(axis_factors(axis, case.sizes)) for axis in axes)
            if result.dtype.kind not in "iub":
                wide = contract.function in WIDE and axes == ()
                assert result.dtype == (np.promote_types(precision, np.float32) if wide else precision)


@by_function
def test_permuting_what_has_no_order_changes_nothing(contract: Contract) -> None:
    @settings(max_examples=30)
    @given(cases(contract, np.dtype(np.float64)), st.integers(1, 100))
    def holds(case, member):  # type: ignore[no-untyped-def]
        arguments, axes = build(case, np.dtype(np.float64))
        chosen = orbit.permutations(case, member)
        permuted = {name: orbit.permute(x, axes[name], case, chosen) for name, x in arguments.items()}
        straight = list(leaves(contract.target(**arguments), np.dtype(np.float64)))
        turned = list(leaves(contract.target(**permuted), np.dtype(np.float64)))
        narrow = list(leaves(contract.target(**build(case, np.dtype(np.float32))[0]), np.dtype(np.float32)))
        for one, other, low, letters in zip(straight, turned, narrow, result_axes(case, len(straight)), strict=True):
            back = orbit.undo(other, letters, case, chosen)
            if one.dtype.kind in "iub":
                assert (one == back).all()
            else:  # both forms of the float64 result differ by less than float32 would
                with np.errstate(over="ignore"):  # the mask value of float64 is infinite in float32
                    assert judge(back.astype(np.float32), one, [one.astype(np.float32), low]).agrees

    holds()
