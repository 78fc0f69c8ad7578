"""Ties: where two tokens are equally good, the choice between them is noise, and nowhere else."""

from typing import Any

import numpy as np
import pytest

import gpt2
from gpt2.backends import Backend
from gpt2.generation.config import GenerationConfig
from gpt2.model.model import Model
from parity.verdict.ties import find_ties
from reference.config import GPT2Config
from tests.gpt2.conftest import ENGINES, usable
from tests.gpt2.small import SMALL, model, parameters

PROMPT = np.array([[3, 1, 4, 1, 5]])


@pytest.fixture(params=ENGINES[:2])
def engine(request: pytest.FixtureRequest) -> Backend:
    """NumPy, and MindSpore where nothing needs compiling."""
    return usable(request.param)


def ties(live: Model, prompt: Any, new: int, **options: Any) -> tuple[list[int], list[list[int]]]:
    """The new ids, and the places among them that are ties."""
    found = live.generate_all(prompt, new, **options)
    return found.new_ids[0], find_ties(live, found, None, GenerationConfig(new, **options))


def tied_model(engine: Backend) -> tuple[Model, int, int]:
    """A model in which two ids always have the same score; the first is the likeliest after PROMPT."""
    best = int(model().generate(PROMPT, 1)[0, -1])
    other = (best + 3) % SMALL.vocab_size
    twins = {name: x.copy() for name, x in parameters().items()}
    twins["wte.weight"][other] = twins["wte.weight"][best]
    return Model(SMALL, twins, engine), best, other


def test_equal_scores_are_ties_and_others_are_not(engine: Backend) -> None:
    live, best, other = tied_model(engine)
    new, places = ties(live, PROMPT, 6)
    assert places == [[i for i, each in enumerate(new) if each in (best, other)]]
    assert 0 in places[0]
    assert ties(model(engine), PROMPT, 6)[1] == [[]]
    assert ties(live, PROMPT, 6, bad_words=[[max(best, other)]])[1] == [[]]


def test_beams_that_are_equal_are_ties_and_others_are_not(engine: Backend) -> None:
    live, best, other = tied_model(engine)
    new, places = ties(live, PROMPT, 4, num_beams=3)
    assert {best, other} & set(new)
    assert places[0]
    assert new[places[0][0]] in (best, other)
    assert ties(model(engine), PROMPT, 4, num_beams=3)[1] == [[]]
    assert ties(live, PROMPT, 4, num_beams=3, bad_words=[[max(best, other)]])[1] == [[]]


def test_a_drawn_number_between_two_ids_is_a_tie() -> None:
    config = GPT2Config(vocab_size=2, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    zeros = {name: np.zeros_like(x) for name, x in parameters(config).items()}
    even = Model(config, zeros, gpt2.get_backend("numpy"))  # both ids have probability 1/2 exactly, in every form
    assert ties(even, [1], 4, temperature=1.0)[1] == [[]]
