"""What generate promises: the same as running the whole prompt again for every token, for any batch, seed and stop."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gpt2
from gpt2.backends import Backend
from gpt2.generation import uniform
from gpt2.model import Model, positions
from reference import generate as reference
from tests.gpt2.conftest import examples
from tests.gpt2.small import SMALL, model, parameters

Array = NDArray[Any]
PROMPT = np.array([[3, 1, 4, 1, 5]])
SAMPLED: dict[str, Any] = {"temperature": 2.0, "top_k": 7, "top_p": 0.95}


def prompts(longest: int = 6) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, SMALL.vocab_size - 1), min_size=1, max_size=longest)


def left_padded(rows: list[list[int]]) -> tuple[Array, Array]:
    """Rows as one batch, and its mask."""
    longest = max(map(len, rows))
    ids = np.array([[0] * (longest - len(row)) + row for row in rows])
    return ids, np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows])


def test_greedy_takes_the_likeliest_token_after_the_whole_prefix(engine: Backend) -> None:
    live = model(engine)

    @examples(0.5, engine)
    @given(prompts(), st.integers(1, 6))
    def holds(prompt: list[int], new: int) -> None:
        written = live.generate(prompt, new)[0].tolist()
        for length in range(len(prompt), len(written)):
            assert written[length] == np.argmax(live.logits(written[:length])[0, -1])

    holds()


def test_sampling_draws_from_the_scores_after_the_whole_prefix(engine: Backend) -> None:
    live, seed = model(engine), 9
    written = live.generate(PROMPT, 6, seed=seed, **SAMPLED)
    for step in range(6):
        scores = live.logits(written[:, : PROMPT.shape[1] + step])[:, -1]
        drawn = reference.sample(scores, uniform(seed, step, 1), **SAMPLED)
        assert written[0, PROMPT.shape[1] + step] == drawn[0]


def test_a_padded_batch_gives_each_row_what_it_gives_alone(engine: Backend) -> None:
    live = model(engine)

    @examples(0.5, engine)
    @given(st.lists(prompts(), min_size=1, max_size=4))
    def holds(rows: list[list[int]]) -> None:
        ids, mask = left_padded(rows)
        written = live.generate(ids, 5, attention_mask=mask)[:, ids.shape[1] :]
        assert written.tolist() == [live.generate(row, 5)[0, len(row) :].tolist() for row in rows]

    holds()


def test_what_stands_at_a_pad_does_not_matter(engine: Backend) -> None:
    live, (ids, mask) = model(engine), left_padded([[1, 2, 3], [4]])
    other = np.where(mask, ids, SMALL.vocab_size - 1)
    new = [live.generate(x, 4, attention_mask=mask)[:, ids.shape[1] :] for x in (ids, other)]
    assert (new[0] == new[1]).all()


def test_positions_count_the_tokens_alone() -> None:
    assert positions([[0, 0, 1, 1], [1, 1, 1, 1]]).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_rows_do_not_depend_on_the_number_of_rows(engine: Backend) -> None:
    live = model(engine)
    ids = np.arange(12).reshape(4, 3) % SMALL.vocab_size
    for options in ({}, SAMPLED):
        many, few = live.generate(ids, 6, seed=3, **options), live.generate(ids[:2], 6, seed=3, **options)
        assert (many[:2] == few).all()


def test_rows_of_one_batch_draw_their_own_chance() -> None:
    written = model().generate(np.repeat(PROMPT, 20, axis=0), 6, **SAMPLED)
    assert len(np.unique(written, axis=0)) > 1


def test_a_seed_gives_the_same_again_and_others_give_others(engine: Backend) -> None:
    live = model(engine)
    written = [live.generate(PROMPT, 6, seed=seed, **SAMPLED).tolist() for seed in (0, 0, 1, 2, 3, 2**64 - 1)]
    assert written[0] == written[1]
    assert any(other != written[0] for other in written[2:])


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(1, 8))
def test_chance_depends_on_seed_step_and_row_alone(seed: int, step: int, rows: int) -> None:
    whole = uniform(seed, step, 8)
    assert (uniform(seed, step, rows) == whole[:rows]).all()
    assert ((whole >= 0) & (whole < 1)).all()
    assert (uniform(seed, step + 1, 8) != whole).any()


@pytest.mark.parametrize("seed", range(3))
def test_choosing_among_one_is_greedy(seed: int, engine: Backend) -> None:
    live = model(engine)
    assert (live.generate(PROMPT, 6, temperature=3.0, top_k=1, seed=seed) == live.generate(PROMPT, 6)).all()


def test_a_tiny_share_is_greedy(engine: Backend) -> None:
    live = model(engine)
    assert (live.generate(PROMPT, 6, temperature=3.0, top_p=1e-6) == live.generate(PROMPT, 6)).all()


@pytest.mark.parametrize("temperature", [1e-30, 1e-3])
def test_a_cold_sampler_is_greedy(temperature: float, engine: Backend) -> None:
    live = model(engine)
    assert (live.generate(PROMPT, 6, temperature=temperature) == live.generate(PROMPT, 6)).all()


def test_nothing_new_is_the_prompt_itself(engine: Backend) -> None:
    assert (model(engine).generate(PROMPT, 0) == PROMPT).all()


def test_every_step_is_told(engine: Backend) -> None:
    told: list[list[int]] = []
    ids = np.repeat(PROMPT, 2, axis=0)
    written = model(engine).generate(ids, 4, on_token=lambda chosen: told.append(chosen.tolist()))
    assert np.array(told).T.tolist() == written[:, ids.shape[1] :].tolist()


def test_the_context_may_be_filled_to_its_last_place(engine: Backend) -> None:
    context = SMALL.n_positions
    live = model(engine)
    for length in (1, 5, context):
        written = live.generate([1] * length, context - length + 1)
        assert written.shape == (1, context + 1)  # the last token is never read
        with pytest.raises(gpt2.GPT2Error, match=f"context of {context}"):
            live.generate([1] * length, context - length + 2)


def test_pads_take_no_room_in_the_context(engine: Backend) -> None:
    live, new = model(engine), SMALL.n_positions
    padded = live.generate([[0, 0, 2]], new, attention_mask=[[0, 0, 1]])
    assert (padded[0, 2:] == live.generate([2], new)[0]).all()


# Ends.


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
