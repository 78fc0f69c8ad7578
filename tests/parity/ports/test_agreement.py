"""The rule as a library: `assert_agrees` in place of an `rtol`."""

from typing import Any

import numpy as np
import pytest

from parity import assert_agrees

RANDOM = np.random.default_rng(0)
X, WEIGHT, BIAS = (RANDOM.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 64), (64, 5), (5,)))
INPUTS = {"x": X, "weight": WEIGHT, "bias": BIAS}
AXES = {"x": ". . C", "weight": "C N", "bias": "N"}


def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x @ weight + bias


def expect(found: Any, **changed: Any) -> None:
    assert_agrees(found, affine, INPUTS, **({"permute": AXES, "result": ". . N"} | changed))


def test_another_order_of_summation_agrees() -> None:
    expect(np.einsum("btc,cn->btn", X, WEIGHT) + BIAS)
    expect((X[..., ::-1].astype(np.float64) @ WEIGHT[::-1] + BIAS).astype(np.float32))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (affine(**INPUTS) * np.float32(1 + 2**-14), "x this input's rounding noise: differs at"),
        (affine(X, WEIGHT, 0 * BIAS), "differs at"),
        (affine(**INPUTS).astype(np.float64), "dtype float64, expected float32"),
        (affine(**INPUTS)[:1], "shape (1, 3, 5), expected (2, 3, 5)"),
        ((affine(**INPUTS), BIAS), "2 results, expected 1"),
    ],
    ids=["rounded", "no bias", "dtype", "shape", "count"],
)
def test_what_differs_is_told_as_the_judge_tells_it(found: Any, said: str) -> None:
    with pytest.raises(AssertionError) as error:
        expect(found)
    assert said in str(error.value)


def test_an_axis_with_an_order_is_noticed() -> None:
    total = np.cumsum(X, axis=1)
    assert_agrees(total, lambda x: np.cumsum(x, axis=1), {"x": X})
    with pytest.raises(ValueError, match="changes with the order of T: write a dot"):
        assert_agrees(total, lambda x: np.cumsum(x, axis=1), {"x": X}, {"x": ". T ."}, ". T .")


def test_axes_must_fit_the_inputs() -> None:
    with pytest.raises(ValueError, match=r"permute\['x'\] names 2 axes"):
        expect(affine(**INPUTS), permute={"x": ". C"})
    with pytest.raises(ValueError, match="no such input"):
        expect(affine(**INPUTS), permute={"y": ". C"})
