"""Drawn ids: the same on every backend for the same chance, and as often as their probabilities say."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2.backends import Backend
from gpt2.generation.loop import uniform
from parity.cases.cases import Case
from parity.cases.contracts import contracts
from parity.verdict.trial import references
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, ulp
from reference import generate
from tests.gpt2.conftest import examples

Array = NDArray[Any]
FLOAT32 = np.dtype(np.float32)
UNCUT = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
DEVIATIONS = 5  # a fair draw lies further out once in two million


# The same ids.


@st.composite
def draws(draw: st.DrawFn) -> tuple[Array, Array, dict[str, Any]]:
    """Scores (B, V), some of them equal, numbers (B,), some of them where one id ends and the next begins, options."""
    random, rows, size = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), 4, draw(st.sampled_from([2, 7, 40]))
    logits = (draw(st.sampled_from([0.3, 1.0, 4.0])) * random.standard_normal((rows, size))).astype(np.float32)
    typical_p = draw(st.sampled_from([1.0, 0.9, 0.4]))
    if draw(st.booleans()) or typical_p < 1:  # which of two is nearer to the mean surprise is not for rounding to say
        logits = np.round(2 * logits) / 2
    options = {
        "temperature": draw(st.sampled_from([1.0, 0.5, 1.7])),
        "top_k": draw(st.sampled_from([0, 1, 3, 39, 100])),
        "top_p": draw(st.sampled_from([1.0, 0.9, 0.5, 0.1])),
        "min_p": draw(st.sampled_from([0.0, 0.05, 0.3, 1.0])),
        "typical_p": typical_p,
    }
    chance = random.random(rows)
    if draw(st.booleans()):
        shares = -np.sort(-generate.sampling_probabilities(logits.astype(np.float64), **options), axis=-1)
        chance = np.cumsum(shares, axis=-1)[:, random.integers(0, size)]
    return logits, np.minimum(chance, 1 - 2.0**-24).astype(np.float32), options


def may_be_drawn(logits: Array, chance: float, options: dict[str, Any], accuracy: Any) -> set[int]:
    """The ids that correct float32 implementations may draw from scores (V,).

    Where one id ends and the next begins, and where the tail is cut off, they are as far apart as they are in adding up
    these very probabilities.
    """
    scores = logits[None]
    contract, scalars = contracts()["generate.sampling_probabilities"], options | UNCUT
    case = Case(contract, {"B": 1, "V": len(logits)}, scalars, frozenset(), "none", "live", 0)
    shares = references(case, FLOAT32, accuracy, {"logits": scores, **scalars})[0]
    order = np.argsort(-scores, axis=-1, kind="stable")
    noise = shares.then(lambda x: np.cumsum(np.take_along_axis(x, order, axis=-1), axis=-1)).noise
    near = (NOISE_FACTOR * noise + float(ULP_TERM * ulp(np.ones(()), FLOAT32))) * np.arange(-1, 2)
    likeliest = float(shares.oracle.max())
    possible: set[int] = set()
    for cut, ratio in itertools.product(near, near):
        first, last = (
            int(
                generate.sample(
                    scores.astype(np.float64),
                    np.clip([chance + moved], 0, 1),
                    options["temperature"],
                    options["top_k"],
                    options["top_p"] + cut,
                    min(options["min_p"] + ratio / likeliest, 1.0),
                    min(options["typical_p"] + cut, 1.0),
                )[0]
            )
            for moved in (near[0], near[-1])
        )
        walked = order[0].tolist()
        possible |= set(walked[walked.index(first) : walked.index(last) + 1])  # and all that the walk passes in between
    return possible


def test_the_same_chance_draws_the_same_ids(engine: Backend) -> None:
    drawn = near_ties = 0

    @examples(5, engine)
    @given(draws())
    def holds(case: tuple[Array, Array, dict[str, Any]]) -> None:
        nonlocal drawn, near_ties
        logits, chance, options = case
        exact = generate.sample(logits.astype(np.float64), chance, **options)
        ours = engine.call("generate.sample", {"logits": logits, "uniform": chance, **options})
        reference = generate.sample(logits, chance, **options)
        for row, (one, other, third) in enumerate(zip(ours, reference, exact, strict=True)):
            drawn += 1
            if not one == other == third:
                near_ties += 1
                assert {int(one), int(other)} <= may_be_drawn(logits[row], chance[row], options, engine.accuracy)

    holds()
    print(f"{engine.name}: {drawn} ids drawn, of which {near_ties} at a near tie")


# The right share of each.

SCORES = np.array([2.0, 1.5, 1.5, 1.0, 0.3, 0.0, -0.5, -1.0, -2.0, -4.0], np.float32)
DRAWS = 20_000
OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0},
    {"top_k": 4},
    {"top_p": 0.8},
    {"min_p": 0.2},
    {"typical_p": 0.2},
    {"temperature": 1.5, "top_k": 7, "typical_p": 0.7},
    {"temperature": 1.5, "top_k": 7, "top_p": 0.95, "min_p": 0.1},
]


def deviations(counts: Array, expected: Array) -> float:
    """How many standard deviations the chi-square statistic of some counts lies above what is usual.

    Source: Wilson and Hilferty 1931: the cube root of a chi-square over its degrees of freedom is nearly normal.
    """
    free = len(counts) - 1
    statistic = float(((counts - expected) ** 2 / expected).sum())
    spread = 2 / (9 * free)
    return ((statistic / free) ** (1 / 3) - (1 - spread)) / spread**0.5


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_ids_are_drawn_as_often_as_their_probabilities_say(options: dict[str, Any], engine: Backend) -> None:
    logits = np.repeat(SCORES[None], DRAWS, axis=0)
    probabilities = generate.sampling_probabilities(SCORES[None].astype(np.float64), **options)[0]
    ids = engine.call("generate.sample", {"logits": logits, "uniform": uniform(0, 0, DRAWS), **options})
    counts, possible = np.bincount(ids, minlength=len(SCORES)), probabilities > 0
    assert not counts[~possible].any()
    assert deviations(counts[possible], DRAWS * probabilities[possible]) < DEVIATIONS
