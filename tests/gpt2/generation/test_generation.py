"""What generate promises: the same as running the whole prompt again for every token, for any batch, seed and stop."""

import dataclasses
import functools
import itertools
from pathlib import Path
from string import printable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import gpt2
from gpt2.backends import Backend
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation, uniform
from gpt2.model.model import Model, positions
from parity.verdict.stages import stage_references
from reference import generate as reference
from reference.config import GPT2Config
from reference.ops import log_softmax
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


# What looks back at the text.


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


# Beams.


def all_texts(live: Model, prompt: list[int], new: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every continuation of that many tokens."""
    totals = {}
    for ids in itertools.product(range(live.config.vocab_size), repeat=new):
        logs = log_softmax(live.logits([*prompt, *ids])[0].astype(np.float64))
        totals[ids] = sum(logs[len(prompt) - 1 + i, each] for i, each in enumerate(ids))
    return totals


def test_a_search_that_is_wide_enough_finds_the_likeliest_texts() -> None:
    config = GPT2Config(vocab_size=5, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    live = model(config=config)
    totals = all_texts(live, [1, 2], 3)
    found = live.generate_all([1, 2], 3, num_beams=25, num_return_sequences=4)
    assert [tuple(new) for new in found.new_ids] == sorted(totals, key=lambda ids: -totals[ids])[:4]


def plain_search(
    live: Model, prompt: list[int], new: int, width: int, stops: list[int], length_penalty: float, early: bool
) -> list[list[int]]:
    """Beam search without a cache or arrays."""
    running: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, new + 1):
        found = []
        for total, ids in running:
            logs = log_softmax(live.logits([*prompt, *ids])[0, -1].astype(np.float64))
            found += [(total + float(logs[i]), [*ids, i]) for i in range(len(logs))]
        found = sorted(found, reverse=True)[: (1 + len(stops)) * width]
        over = [ids[-1] in stops or length == new for _, ids in found]
        top = zip(found[:width], over[:width], strict=True)
        ended += [(total / length**length_penalty, ids) for (total, ids), is_over in top if is_over]
        ended = sorted(ended, reverse=True)[:width]
        running = [one for one, is_over in zip(found, over, strict=True) if not is_over][:width]
        if len(ended) == width and (early or not running or running[0][0] / length**length_penalty <= ended[-1][0]):
            break
    return [ids for _, ids in ended]


@settings(max_examples=max(1, settings().max_examples // 2))
@given(
    prompts(),
    st.integers(1, 7),
    st.integers(2, 4),
    st.lists(st.integers(0, 30), min_size=1, max_size=9, unique=True),
    st.sampled_from([0.0, 1.0, 2.0, -1.0]),
    st.booleans(),
)
def test_beams_are_those_of_a_plain_search(
    prompt: list[int], new: int, width: int, stops: list[int], length_penalty: float, early: bool
) -> None:
    options: dict[str, Any] = {"length_penalty": length_penalty, "early_stopping": early, "num_return_sequences": width}
    found = model().generate_all(prompt, new, num_beams=width, stop_ids=stops, **options)
    assert found.new_ids == plain_search(model(), prompt, new, width, stops, length_penalty, early)


def test_a_search_goes_on_where_the_likeliest_ids_all_end_the_text() -> None:
    """With as many candidates as would do for one stop id, nothing would be left to go on with."""
    live, width = model(), 2
    stops = np.argsort(-live.logits(PROMPT)[0, -1])[: 2 * width].tolist()
    options: dict[str, Any] = {"length_penalty": 2.0, "early_stopping": "never", "num_return_sequences": width}
    found = live.generate_all(PROMPT, 6, num_beams=width, stop_ids=stops, **options).new_ids
    assert all(len(new) > 1 for new in found)


def test_one_beam_is_greedy_and_more_find_likelier_texts(engine: Backend) -> None:
    live, better = model(engine), 0
    for first in range(SMALL.vocab_size):
        greedy, beams = (live.generate_all([first], 5, num_beams=n) for n in (1, 4))
        total = [sum(one.log_probabilities[0]) for one in (greedy, beams)]
        better += total[1] > total[0]
    assert better > SMALL.vocab_size / 4


def test_scores_of_beams_fall_and_are_those_of_their_tokens(engine: Backend) -> None:
    found = model(engine).generate_all(PROMPT, 6, num_beams=4, num_return_sequences=4, length_penalty=0.5)
    assert found.scores == sorted(found.scores, reverse=True)
    for score, log_probs in zip(found.scores, found.log_probabilities, strict=True):
        total = functools.reduce(np.add, np.array(log_probs, np.float32))
        assert score == total / np.float32(6**0.5)


def test_an_ended_beam_is_not_continued(engine: Backend) -> None:
    live, stops = model(engine), [1, 2, 3, 4, 5, 6, 7, 8]
    found = live.generate_all(PROMPT, 9, num_beams=5, num_return_sequences=5, stop_ids=stops)
    for new, reason in zip(found.new_ids, found.finish_reasons, strict=True):
        assert not set(new[:-1]) & set(stops)
        assert (new[-1] in stops) == (reason == "stop")


def test_beams_read_what_they_have_written(engine: Backend) -> None:
    """Each token's log-probability is that of the whole text read at once: the cache followed its beam."""
    live = model(engine)
    found = live.generate_all(PROMPT, 8, num_beams=4, num_return_sequences=4)
    for ids, new, log_probs in zip(found.ids, found.new_ids, found.log_probabilities, strict=True):
        known = stage_references(
            live.config, live.parameters, ids[None, :-1], None, None, np.dtype(np.float32), engine.accuracy
        )["logits"]
        chosen = known.then(lambda x, new=new: log_softmax(x)[0, np.arange(-len(new), 0), new])
        assert chosen.judge(np.array(log_probs, np.float32)).agrees


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


# Anything at all.

ODD = [None, True, -1, 0.5, "a", "", [], [[]], [0.5], [[1], "x"], float("nan"), float("inf"), 2**70, {}, object()]
FIELDS: dict[str, list[Any]] = {
    "max_new_tokens": [0, 1, 3, 9, 9, 40],
    "min_new_tokens": [0, 1, 4],
    "temperature": [0, 0.0, 1e-30, 0.7, 3, 1e30],
    "top_k": [0, 1, 5, 10**9],
    "top_p": [1e-9, 0.3, 1, np.float64(0.9)],
    "min_p": [0, 0.2, 1.0],
    "repetition_penalty": [1, 0.01, 1.5, 100],
    "no_repeat_ngram_size": [0, 1, 2, 9, 10**12],
    "bad_words": [[], [[1]], [[1, 2], [3]], [[i] for i in range(6)], [[99]], [1], np.array([[1, 2]])],
    "stop_ids": [None, [], [0], [1, 2, 3, 4, 5], [-5, 10**9], np.arange(4), 3],
    "stop_strings": [[], "x", ["x", "y"], ["a b"], [""]],
    "num_beams": [1, 2, 5, 9],
    "length_penalty": [1, 0, -10, 10, 0.5],
    "early_stopping": [False, True, "never"],
    "num_return_sequences": [1, 2, 5],
    "seed": [0, 2**64 - 1],
    "sliding_window": [False, True],
    "first_row": [0, 7],
    "ties": [False] * 4 + [True],
    "scored": [False, True],
}
TINY = GPT2Config(vocab_size=6, n_positions=32, n_embd=4, n_layer=1, n_head=2)
LETTERS = Tokenizer(WordLevel({letter: i for i, letter in enumerate("abcxyz")}))
TINY_MODEL = Model(TINY, parameters(TINY), gpt2.get_backend("numpy"), LETTERS)


@st.composite
def option_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Options of generate_all, most of them usable, some of them not, and few of each."""
    names = draw(st.lists(st.sampled_from(list(FIELDS)), unique=True, max_size=7))
    drawn = {name: draw(st.sampled_from(FIELDS[name])) for name in names}
    if draw(st.booleans()):
        drawn.pop("temperature" if drawn.get("num_beams", 1) > 1 else "num_beams", None)
        if drawn.get("num_beams", 1) == 1 and not drawn.get("temperature"):
            drawn.pop("num_return_sequences", None)
    odd = draw(st.sampled_from([None] * 4 + [name for name in names[:1] if name not in ("ties", "scored")]))
    return drawn | ({odd: draw(st.sampled_from(ODD))} if odd else {})


@settings(max_examples=4 * settings().max_examples)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=3), option_sets())
def test_any_options_end_in_output_or_in_one_clear_line(rows: list[list[int]], options: dict[str, Any]) -> None:
    ids, mask = left_padded(rows)
    try:
        found = TINY_MODEL.generate_all(ids, attention_mask=mask, **options)
    except gpt2.GPT2Error as error:
        said = str(error)
    else:
        check_output(found, ids, options)
        return
    assert "\n" not in said
    assert len(said) < 300


def check_output(found: Generation, ids: Array, options: dict[str, Any]) -> None:
    """What holds of any output."""
    copies = int(options.get("num_return_sequences", 1))
    assert len(found.ids) == len(ids) * copies == len(found.new_ids) == len(found.scores) == len(found.finish_reasons)
    assert (found.ids[:, : ids.shape[1]] == np.repeat(ids, copies, axis=0)).all()
    assert found.ids.shape[1] == ids.shape[1] + max(map(len, found.new_ids))
    for row, new, reason in zip(found.ids, found.new_ids, found.finish_reasons, strict=True):
        assert row[ids.shape[1] :][: len(new)].tolist() == new
        assert set(new) <= set(range(TINY.vocab_size))
        assert reason in ("stop", "length", "banned")
        assert reason != "length" or len(new) == options.get("max_new_tokens", 20)
