"""Options that look back at the text: no n-gram twice, penalties, bad words, the least number of tokens."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.backends import Backend
from tests.gpt2.conftest import examples
from tests.gpt2.generation.prompts import PROMPT, SAMPLED, left_padded, prompts
from tests.gpt2.small import SMALL, model


def ngrams(ids: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]


@pytest.mark.parametrize("options", [{}, SAMPLED, {"num_beams": 3}])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(size: int, options: dict[str, Any], engine: Backend) -> None:
    live, prompt = model(engine), [1, 2, 3]
    free = live.generate(prompt, 20, **options)[0].tolist()
    written = live.generate(prompt, 20, no_repeat_ngram_size=size, **options)[0].tolist()
    assert len(set(ngrams(written, size))) == len(ngrams(written, size))
    assert size > 1 or len(set(ngrams(free, size))) < len(ngrams(free, size))


@pytest.mark.parametrize(
    "options",
    [
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 3.0},
        {"bad_words": [[5, 6], [7]]},
        {"repetition_penalty": 0.5, "no_repeat_ngram_size": 1, **SAMPLED},
        {"num_beams": 3, "no_repeat_ngram_size": 2},
        {"num_beams": 4, "num_return_sequences": 2, "stop_ids": [3, 4, 5, 6, 7], "min_new_tokens": 3},
        {"num_beams": 2, "length_penalty": 2.0, "early_stopping": "never", "stop_ids": [*range(9)]},
    ],
    ids=repr,
)
def test_a_padded_row_is_processed_as_it_would_be_alone(options: dict[str, Any], engine: Backend) -> None:
    live = model(engine)

    @examples(0.1, engine)
    @given(st.lists(prompts(), min_size=1, max_size=3))
    def holds(rows: list[list[int]]) -> None:
        ids, mask = left_padded(rows)
        written = live.generate_all(ids, 7, attention_mask=mask, **options).new_ids
        alone = [live.generate_all(row, 7, first_row=i, **options).new_ids for i, row in enumerate(rows)]
        assert written == [new for row in alone for new in row]

    holds()


def test_a_bad_word_is_never_completed(engine: Backend) -> None:
    live = model(engine)
    free = live.generate(PROMPT, 8)[0].tolist()
    word = free[-3:]
    written = live.generate(PROMPT, 8, bad_words=[word])[0].tolist()
    assert word not in [written[i : i + 3] for i in range(len(written))]
    assert written[: len(written) - 1] == free[:-1]


def test_there_is_no_end_before_min_new_tokens(engine: Backend) -> None:
    live = model(engine)
    free = live.generate_all(PROMPT, 12).new_ids[0]
    early = live.generate_all(PROMPT, 12, stop_ids=free[:1])
    late = live.generate_all(PROMPT, 12, stop_ids=free[:1], min_new_tokens=5)
    assert early.new_ids == [free[:1]]
    assert len(late.new_ids[0]) > 5 or late.finish_reasons == ["stop"]
    assert free[0] not in late.new_ids[0][:5]


def test_an_end_is_possible_as_soon_as_there_are_enough_tokens(engine: Backend) -> None:
    live = model(engine)
    for only in range(0, SMALL.vocab_size, 5):
        stops = [i for i in range(SMALL.vocab_size) if i != only]
        new = live.generate_all(PROMPT, 9, stop_ids=stops, min_new_tokens=3).new_ids[0]
        assert new[:3] == [only] * 3
        assert new[3] == np.argmax(live.logits([*PROMPT[0], *new[:3]])[0, -1])


def test_a_row_ends_where_every_id_is_banned(engine: Backend) -> None:
    live = model(engine)
    everything = [[i] for i in range(SMALL.vocab_size)]
    for options in ({}, SAMPLED, {"num_beams": 3}):
        found = live.generate_all(PROMPT, 6, bad_words=everything, **options)
        assert (found.new_ids, found.finish_reasons) == ([[]], ["banned"])
    once = live.generate_all(PROMPT, SMALL.n_positions, no_repeat_ngram_size=1, sliding_window=True, min_new_tokens=0)
    assert len(set(once.new_ids[0])) == len(once.new_ids[0])
