"""Beam search: what a plain search finds, with scores that belong to what was written."""

import functools
import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.backends import Backend
from gpt2.model.model import Model
from parity.verdict.stages import stage_references
from reference.config import GPT2Config
from reference.ops import log_softmax
from tests.gpt2.generation.prompts import PROMPT, prompts
from tests.gpt2.small import SMALL, model


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
