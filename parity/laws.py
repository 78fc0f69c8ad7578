"""Laws: what holds of every correct GPT-2 by itself, so that no second implementation is needed to see it broken.

Each says what must not change, or must be equal, when the input is changed in a certain way; the proof is one paragraph.
Where a law holds bit for bit, bits are compared. Where it holds in exact arithmetic, both sides may stray as far as
rounding goes on these very inputs: the noise floor is only the yardstick, both values are the backend's own.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator

import numpy as np

from parity.trial import Trial
from parity.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Law:
    """A law by name. Cases are drawn as for the function `draws`; `holds` gives a verdict on each thing it claims."""

    name: str
    draws: str
    holds: Callable[[Trial], Iterator[Verdict]]

    @property
    def statement(self) -> str:
        """What must hold, in one sentence or two."""
        return inspect.cleandoc(self.holds.__doc__ or "").partition("\n\nProof: ")[0]

    @property
    def proof(self) -> str:
        """Why it does, in one paragraph."""
        return inspect.cleandoc(self.holds.__doc__ or "").partition("\n\nProof: ")[2]


LAWS: list[Law] = []


def law(draws: str) -> Callable[[Callable[[Trial], Iterator[Verdict]]], Callable[[Trial], Iterator[Verdict]]]:
    """Make a law of a function; its cases are those of the function named."""

    def add(holds: Callable[[Trial], Iterator[Verdict]]) -> Callable[[Trial], Iterator[Verdict]]:
        LAWS.append(Law(holds.__name__, draws, holds))
        return holds

    return add


@law("ops.softmax")
def softmax_forgets_a_shift(trial: Trial) -> Iterator[Verdict]:
    """The softmax of a row is that of the row plus any number.

    Proof: exp(x + c) = exp(x) exp(c), and the factor exp(c) stands in every numerator and in the sum.
    """
    shifted = trial.with_arguments(x=trial.arguments["x"] + np.array(2, trial.dtype))
    # x + 2 is rounded: let the law speak of the rounded row, taken back to where it came from
    back = trial.with_arguments(x=shifted.arguments["x"] - np.array(2, trial.dtype))
    yield trial.close(shifted.run()[0], back.run()[0], shifted.noise() + back.noise())


@law("model.language_model")
def causality(trial: Trial) -> Iterator[Verdict]:
    """A token changes no score before its own position, bit for bit.

    Proof: a score depends on its own token and, through attention, on those before it; what stands later is hidden by
    the mask, whose weight is exactly 0, and 0 times any finite number adds exactly nothing. The shapes are the same, so
    each sum is taken in the same order.
    """
    ids, vocabulary = trial.arguments["ids"], trial.case.sizes["V"]
    for position in {ids.shape[1] - 1, ids.shape[1] // 2}:
        other = ids.copy()
        other[:, position:] = (other[:, position:] + 1) % vocabulary
        changed, own = trial.with_arguments(ids=other).run()[0], trial.run()[0]
        yield trial.identical(changed[:, :position], own[:, :position])
