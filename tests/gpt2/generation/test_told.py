"""What `generate_all` tells of a text, stop strings, and texts longer than the context."""

from pathlib import Path
from string import printable
from typing import Any

import numpy as np
import pytest

import gpt2
from gpt2.backends import Backend
from gpt2.errors import EndOfContextWarning
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import uniform
from reference import generate as reference
from tests.gpt2.generation.prompts import PROMPT, SAMPLED, left_padded
from tests.gpt2.small import SMALL, model

# What is told of a text.


@pytest.mark.parametrize("options", [{}, SAMPLED, {"repetition_penalty": 2.0}, {"num_beams": 2}])
def test_all_that_is_told_belongs_together(options: dict[str, Any], engine: Backend) -> None:
    live, (ids, mask) = model(engine), left_padded([[1, 2, 3], [4]])
    found = live.generate_all(ids, 6, attention_mask=mask, **options)
    assert (found.ids == live.generate(ids, 6, attention_mask=mask, **options)).all()
    assert found.ids[:, 3:].tolist() == found.new_ids
    assert [len(logs) for logs in found.log_probabilities] == [6, 6]
    assert all(x <= 0 for logs in found.log_probabilities for x in logs)
    assert found.finish_reasons == ["length", "length"]
    assert live.generate_all(ids, 6, attention_mask=mask, **options, scored=False).new_ids == found.new_ids


def test_a_choice_among_one_is_certain() -> None:
    assert model().generate_all(PROMPT, 4, temperature=1.0, top_k=1).log_probabilities == [[0.0] * 4]


def test_stop_strings_end_what_spells_them(speaker: Path) -> None:
    live = gpt2.load(speaker, "numpy")
    for options in ({}, SAMPLED):
        text = live.decode(live.generate_all(live.encode("ab"), 20, **options).new_ids[0])
        ending = next(text[i : i + 2] for i in range(3, 18) if text[i : i + 2].isascii())
        found = live.generate_all(live.encode("ab"), 20, stop_strings=["not this", ending], **options)
        assert found.finish_reasons == ["stop"]
        assert live.decode(found.new_ids[0]).index(ending) == len(live.decode(found.new_ids[0])) - 2


def test_stop_strings_end_beams(speaker: Path) -> None:
    live, stops = gpt2.load(speaker, "numpy"), list(printable)
    options = {"num_beams": 5, "num_return_sequences": 5, "length_penalty": -1.0}  # in favour of short texts
    found = live.generate_all(live.encode("ab"), 20, stop_strings=stops, **options)
    texts = [live.decode(new) for new in found.new_ids]
    assert not any(stop in text[:-1] for stop in stops for text in texts)
    assert [text.endswith(tuple(stops)) for text in texts] == [reason == "stop" for reason in found.finish_reasons]
    assert "stop" in found.finish_reasons


def test_stop_strings_wait_for_min_new_tokens(speaker: Path) -> None:
    live, options = gpt2.load(speaker, "numpy"), {"stop_strings": list(printable), **SAMPLED}
    early, late = (live.generate_all(live.encode("ab"), 25, min_new_tokens=least, **options) for least in (0, 15))
    assert len(early.new_ids[0]) < 15 <= len(late.new_ids[0]) < 25
    assert late.finish_reasons == ["stop"]


# Beyond the context.


@pytest.mark.parametrize("options", [{}, SAMPLED, {"no_repeat_ngram_size": 3}])
def test_the_window_slides_over_the_last_tokens(options: dict[str, Any], engine: Backend) -> None:
    live, context = model(engine), SMALL.n_positions
    written = live.generate(PROMPT, context + 3, sliding_window=True, **options)[0]
    config = GenerationConfig(**options)
    for length in range(context - 2, len(written)):
        scores = live.logits(written[:length][-context:])[:, -1]
        read = written[None, :length]
        scores = reference.ban_repeated_ngrams(scores, read, np.ones_like(read), config.no_repeat_ngram_size)
        if config.temperature:
            chosen = reference.sample(scores, uniform(0, length - PROMPT.shape[1], 1), **SAMPLED)[0]
        else:
            chosen = np.argmax(scores)
        assert written[length] == chosen


def test_a_prompt_beyond_the_context_is_seen_from_its_end(engine: Backend) -> None:
    live, prompt = model(engine), np.arange(40) % SMALL.vocab_size
    for options in ({}, {"num_beams": 2}):
        written = live.generate(prompt, 4, sliding_window=True, **options)
        assert written.shape == (1, 44)
        expected = live.generate(prompt[-SMALL.n_positions :], 4, sliding_window=True, **options)[0, -4:]
        assert (written[0, -4:] == expected).all()


@pytest.mark.parametrize("options", [{}, SAMPLED, {"repetition_penalty": 2.0}, {"num_beams": 3}])
@pytest.mark.filterwarnings("ignore::gpt2.errors.EndOfContextWarning")
def test_each_row_of_a_batch_fills_its_own_context(options: dict[str, Any], engine: Backend) -> None:
    live, context = model(engine), SMALL.n_positions
    rows = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4], [3, 7, 2]]
    ids, mask = left_padded(rows)
    found = live.generate_all(ids, 3 * context, attention_mask=mask, stop_ids=[], **options)
    assert found.finish_reasons == ["context"] * 3
    for i, (row, new) in enumerate(zip(rows, found.new_ids, strict=True)):
        room = context + 1 - len(row)
        alone = live.generate_all(row, room, first_row=i, stop_ids=[], **options)
        assert (alone.new_ids, alone.finish_reasons) == ([new], ["length"])
    assert found.ids.shape == (3, ids.shape[1] + context)


def test_who_stopped_at_the_end_of_the_context_is_told_once() -> None:
    live, (ids, mask) = model(), left_padded([list(range(20)), [1]])
    with pytest.warns(EndOfContextWarning) as told:
        found = live.generate_all(ids, 9, attention_mask=mask, stop_ids=[])
    assert found.finish_reasons == ["context", "length"]
    said = "1 of 2 texts stopped at the end of the context, 24 tokens, after 5 new ones: sliding_window=True goes on"
    assert [str(one.message) for one in told] == [said]
    assert told[0].filename == __file__
