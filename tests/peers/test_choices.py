"""The proof that a choice is a tie: it holds of choices that are equally good, and of no others."""

import dataclasses

import numpy as np
import pytest

from gpt2.backends import get_backend
from gpt2.generation.config import GenerationConfig
from gpt2.model.model import Model
from tests.gpt2.small import SMALL, parameters
from tests.peers.choices import Parameters, may_be_found

PROMPT = [3, 1, 4, 1, 5]
GREEDY = GenerationConfig(8, stop_ids=[])
BEAMS = GenerationConfig(8, stop_ids=[], num_beams=3, num_return_sequences=2)


def found(options: GenerationConfig, weights: Parameters, prompt: list[int] = PROMPT) -> list[list[int]]:
    """What our search finds."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return Model(SMALL, weights, get_backend("numpy")).generate_all(prompt, **fields).new_ids


def twins() -> tuple[Parameters, int, int]:
    """Weights that give two ids the same score always, of which the first, the likeliest after PROMPT, is the lower."""
    weights = parameters()
    first = found(GREEDY, weights)[0][0]
    second = SMALL.vocab_size - 1
    assert first < second
    weights["wte.weight"][second] = weights["wte.weight"][first]
    return weights, first, second


@pytest.mark.parametrize("options", [GREEDY, BEAMS])
def test_what_we_find_may_be_found(options: GenerationConfig) -> None:
    assert may_be_found(SMALL, parameters(), PROMPT, found(options, parameters()), options)


def test_either_of_two_equals_may_be_chosen() -> None:
    weights, first, second = twins()
    [written] = found(GREEDY, weights)
    other = [second, *written[1:]]
    assert written[0] == first
    assert may_be_found(SMALL, weights, PROMPT, [other], GREEDY)
    assert not may_be_found(SMALL, parameters(), PROMPT, [other], GREEDY)


def test_the_second_best_may_not_be_chosen() -> None:
    weights = parameters()
    live, [written] = Model(SMALL, weights, get_backend("numpy")), found(GREEDY, weights)
    for step in range(len(written)):
        read = [*PROMPT, *written[:step]]
        read.append(int(np.argsort(live.logits(read)[0, -1])[-2]))
        other = [*read, *found(GREEDY, weights, read)[0]][len(PROMPT) :][: len(written)]
        assert not may_be_found(SMALL, weights, PROMPT, [other], GREEDY)


def test_equal_beams_may_come_in_either_order_and_others_may_not() -> None:
    weights, _, _ = twins()
    best, next_best = found(BEAMS, weights)
    assert may_be_found(SMALL, weights, PROMPT, [next_best, best], BEAMS)
    best, next_best = found(BEAMS, parameters())
    assert not may_be_found(SMALL, parameters(), PROMPT, [next_best, best], BEAMS)
