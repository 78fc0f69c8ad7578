"""What generate promises: the same as running the whole prompt again for every token, for any batch and seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpt2
from gpt2.backends import Backend
from gpt2.errors import EndOfContextWarning
from gpt2.generation.loop import uniform
from gpt2.model.model import positions
from reference import generate as reference
from tests.gpt2.conftest import examples
from tests.gpt2.generation.prompts import PROMPT, SAMPLED, left_padded, prompts
from tests.gpt2.small import SMALL, model


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
        with pytest.warns(EndOfContextWarning, match=f"context, {context} tokens, after {context - length + 1} new"):
            assert (live.generate([1] * length, context + 9) == written).all()
    with pytest.raises(gpt2.GPT2Error, match=f"context of {context}: shorten the prompt by 1"):
        live.generate([1] * (context + 1), 1)


def test_pads_take_no_room_in_the_context(engine: Backend) -> None:
    live, new = model(engine), SMALL.n_positions
    padded = live.generate([[0, 0, 2]], new, attention_mask=[[0, 0, 1]])
    assert (padded[0, 2:] == live.generate([2], new)[0]).all()
