"""Where a continuation ends, and that models and engines do not disturb each other."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gpt2.backends import Backend
from gpt2.model.model import Model
from tests.gpt2.generation.prompts import PROMPT, SAMPLED, Array, left_padded
from tests.gpt2.small import SMALL, model, parameters


def early_and_late() -> tuple[Array, int]:
    """A batch of two, and an id that ends the first row at once and the second not at all."""
    ids = np.arange(SMALL.vocab_size)[:, None]
    written = model().generate(ids, 6)[:, 1:]
    early, late = np.argwhere([(row[0] != written).all(axis=1) for row in written])[0]
    return ids[[early, late]], int(written[early, 0])


def test_a_stop_id_ends_its_row_and_fills_it_while_the_others_go_on(engine: Backend) -> None:
    live, (ids, stop) = model(engine), early_and_late()
    free, stopped = live.generate(ids, 6), live.generate(ids, 6, stop_ids=[stop])
    assert (stopped[1] == free[1]).all()
    assert (stopped[0, 1:] == stop).all()


@pytest.mark.parametrize("pad", [0, SMALL.vocab_size, -1, 50257])
def test_an_ended_row_is_filled_with_the_pad_id_whatever_it_is(pad: int, engine: Backend) -> None:
    ids, stop = early_and_late()
    padding = Model(dataclasses.replace(SMALL, pad_token_id=pad), parameters(), engine)
    stopped = padding.generate(ids, 6, stop_ids=[stop])
    assert (stopped[1] == model(engine).generate(ids, 6)[1]).all()
    assert stopped[0].tolist() == [ids[0, 0], stop, *[pad] * 5]


def test_generation_ends_when_every_row_has(engine: Backend) -> None:
    live = model(engine)
    free = live.generate(PROMPT, 6)
    stop = int(free[0, PROMPT.shape[1]])
    assert (live.generate(PROMPT, 6, stop_ids=[stop]) == free[:, : PROMPT.shape[1] + 1]).all()


def test_the_end_of_text_of_the_config_ends_unless_other_stops_are_given(engine: Backend) -> None:
    free = model(engine).generate(PROMPT, 6)
    stop = int(free[0, PROMPT.shape[1]])
    ending = Model(dataclasses.replace(SMALL, eos_token_id=stop), parameters(), engine)
    assert (ending.generate(PROMPT, 6) == free[:, : PROMPT.shape[1] + 1]).all()
    assert (ending.generate(PROMPT, 6, stop_ids=[]) == free).all()


def test_any_of_several_stop_ids_ends(engine: Backend) -> None:
    live = model(engine)
    free = live.generate(PROMPT, 6)
    unused = [i for i in range(SMALL.vocab_size) if i not in free]
    stops = [*unused, int(free[0, PROMPT.shape[1]])]
    assert live.generate(PROMPT, 6, stop_ids=stops).shape[1] == PROMPT.shape[1] + 1


def test_two_models_of_one_engine_do_not_disturb_each_other(engine: Backend, small: Path) -> None:
    first, second = model(engine), Model(SMALL, {n: -x for n, x in parameters().items()}, engine)
    alone = first.generate(PROMPT, 6)
    second.generate(PROMPT, 6)
    assert (first.generate(PROMPT, 6) == alone).all()


def test_a_compiled_model_writes_what_the_reference_writes(every_engine: Backend) -> None:
    ids, mask = left_padded([[1, 2, 3], [4]])
    for options in ({}, SAMPLED):
        written = model(every_engine).generate(ids, 6, attention_mask=mask, **options)
        assert (written == model().generate(ids, 6, attention_mask=mask, **options)).all()
