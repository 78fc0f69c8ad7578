"""The reference can be differentiated by a complex step: max, where, comparisons and erf pass the imaginary part on."""

import zlib

import numpy as np
import pytest
from hypothesis import assume, given, settings

from parity.cases.cases import Case, build, cases
from parity.cases.contracts import Contract, contracts
from parity.laws.gradients import KINKED
from parity.verdict.liveness import STEP, map_floats
from parity.verdict.trial import leaves
from parity.verdict.verdict import judge

FLOAT64 = np.dtype(np.float64)
# Functions of the lesson that take floats; gradients are checked in test_gradients.py. In mask_scores_by_addition the
# lowest number swallows the score it is added to, but not the score's imaginary part: the model does without it.
# attention_weights of drawn queries are too steep for differences; attention, where they belong, is not.
DIFFERENTIABLE = [
    contract
    for name, contract in contracts().items()
    if name.startswith(("ops.", "activations.", "attention.", "model."))
    and name not in ("attention.mask_scores_by_addition", "attention.attention_weights")
    and not name.endswith("_vjp")
    and any(not {"int", "mask"} & set(item.kinds) for item in contract.inputs)
]


def along_a_line(case: Case, t: complex) -> np.ndarray:
    """The function's first result with x (1 + t u) in place of every number x, the u random."""

    def move(name: str, x: np.ndarray) -> np.ndarray:
        return x * (1 + t * np.random.default_rng(zlib.crc32(name.encode())).standard_normal(x.shape))

    with np.errstate(all="ignore"):
        return next(leaves(case.contract.target(**map_floats(move, build(case, FLOAT64)[0])), FLOAT64))


def resolution(case: Case, width: float) -> float:
    """The smallest derivative that a difference of that width shows: below it, float64 rounds the largest input."""
    sizes: list[float] = []

    def note(name: str, x: np.ndarray) -> np.ndarray:
        sizes.append(float(np.abs(x).max()))
        return x

    map_floats(note, build(case, FLOAT64)[0])
    return float(np.finfo(FLOAT64).eps) * max(sizes, default=0.0) / width


@pytest.mark.parametrize("contract", DIFFERENTIABLE, ids=lambda contract: contract.function)
def test_the_imaginary_part_is_the_derivative(contract: Contract) -> None:
    """Central differences of three widths err by so much as they differ: they are the yardstick."""

    @settings(max_examples=30)
    @given(cases(contract, FLOAT64))
    def holds(case: Case) -> None:
        config = case.scalars.get("config")
        assume(config is None or config.activation_function not in KINKED)  # differences step across it
        derivative = along_a_line(case, 1j * STEP).imag / STEP
        differences = [(along_a_line(case, h) - along_a_line(case, -h)) / (2 * h) for h in (2**-10, 2**-11, 2**-12)]
        seen = np.maximum(np.abs(derivative), np.abs(differences[-1])) > resolution(case, 2**-12)
        yardstick = [difference.astype(np.float32) for difference in differences]
        verdict = judge(derivative.astype(np.float32), differences[-1], yardstick, seen)
        assert verdict.agrees, verdict.explain()

    holds()
