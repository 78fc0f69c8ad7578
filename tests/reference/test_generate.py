"""The choice of the next token: each rule against its definition, written once more in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpt2.backends import Backend, get_backend
from gpt2.errors import GPT2Error
from reference import generate
from reference.config import nest
from reference.model import language_model
from tests.reference.small import CONFIG, IDS, parameters

V = 6
Array = NDArray[np.float64]


def scores(rows: int = 1, width: int = V) -> st.SearchStrategy[Array]:
    """Scores (rows, width), some of them equal."""
    values = st.integers(-12, 12).map(lambda x: x / 4)
    return st.lists(values, min_size=rows * width, max_size=rows * width).map(lambda x: np.reshape(x, (rows, width)))


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[int], int]:
    """A row of ids and how many pads stand before it."""
    return draw(st.lists(st.integers(0, V - 1), min_size=1, max_size=9)), draw(st.integers(0, 3))


def padded(text: list[int], pads: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row with its pads, which have the row's own last id, and its mask."""
    return np.array([[text[-1]] * pads + text]), np.array([[0] * pads + [1] * len(text)])


def banned(logits: Array) -> set[int]:
    """The ids of the only row that are banned."""
    return set(np.flatnonzero(np.isneginf(logits[0])).tolist())


@given(scores(), texts(), st.sampled_from([0.5, 1.0, 1.5]))
def test_what_was_read_is_penalized_once(logits: Array, text: tuple[list[int], int], penalty: float) -> None:
    found = generate.penalize_repetition(logits, *padded(*text), penalty)[0]
    for i, score in enumerate(logits[0]):
        penalized = score * penalty if score < 0 else score / penalty
        assert found[i] == (penalized if i in text[0] else score)


@given(scores(), texts(), st.integers(0, 4))
def test_no_ngram_is_completed_twice(logits: Array, text: tuple[list[int], int], size: int) -> None:
    ids, _ = text
    has = {tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)}
    repeating = {i for i in range(V) if size and tuple([*ids, i][-size:]) in has and len(ids) >= size - 1}
    found = generate.ban_repeated_ngrams(logits, *padded(*text), size)
    assert banned(found) == repeating
    assert (found[:, sorted(set(range(V)) - repeating)] == logits[:, sorted(set(range(V)) - repeating)]).all()


@given(scores(), texts(), st.lists(st.integers(0, V - 1), min_size=1, max_size=4))
def test_no_word_is_completed(logits: Array, text: tuple[list[int], int], word: list[int]) -> None:
    *beginning, last = word
    ends_with = len(beginning) <= len(text[0]) and text[0][len(text[0]) - len(beginning) :] == beginning
    assert banned(generate.ban_word(logits, *padded(*text), np.array(word))) == ({last} if ends_with else set())


def test_pads_begin_no_word() -> None:
    ids, mask = padded([2], 2)
    assert not banned(generate.ban_word(np.zeros((1, V)), ids, mask, np.array([2, 2, 4])))
    assert banned(generate.ban_word(np.zeros((1, V)), ids, np.ones_like(mask), np.array([2, 2, 4]))) == {4}


@given(scores(2), st.sets(st.integers(0, V + 3)))
def test_ids_are_banned_in_every_row(logits: Array, ids: set[int]) -> None:
    found = generate.ban(logits, np.array(sorted(ids), np.int64))
    assert (np.isneginf(found) == np.isin(np.arange(V), list(ids))).all()


@given(
    scores(),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, V),
    st.sampled_from([0.3, 0.9, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.3, 0.9, 1.0]),
)
def test_ids_are_drawn_as_often_as_their_probability_says(
    logits: Array, temperature: float, top_k: int, top_p: float, min_p: float, typical_p: float
) -> None:
    cuts = temperature, top_k, top_p, min_p, typical_p
    probabilities = generate.sampling_probabilities(logits, *cuts)[0]
    numbers = (np.arange(1000) + 0.5) / 1000
    drawn = generate.sample(np.repeat(logits, 1000, axis=0), numbers, *cuts)
    assert (np.abs(np.bincount(drawn, minlength=V) - 1000 * probabilities) <= 1).all()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=V), st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]))
def test_min_p_keeps_what_is_likely_beside_the_likeliest(halvings: list[int], min_p: float) -> None:
    logits = -np.log(2) * np.array([halvings])  # each is 2 ** -halvings as likely as the likeliest could be
    kept = generate.sampling_probabilities(logits, min_p=min_p)[0] > 0
    assert kept.tolist() == [2.0 ** (min(halvings) - each) >= min_p for each in halvings]


def typical(halves: list[int], mass: float) -> set[int]:
    """The ids that typical_p keeps, by its definition: the nearest to the mean surprise, until they reach the mass."""
    shares = {half: math.exp(half / 2) for half in halves}
    whole = sum(shares[half] for half in halves)
    surprise = {half: math.log(whole / share) for half, share in shares.items()}
    mean = sum(shares[half] / whole * surprise[half] for half in halves)
    kept: set[int] = set()
    total = 0.0
    for half in sorted(shares, key=lambda half: abs(surprise[half] - mean)):
        if total < mass:
            kept.add(half)
            total += halves.count(half) * shares[half] / whole
    return {i for i, half in enumerate(halves) if half in kept}


@given(st.lists(st.integers(0, 6), min_size=1, max_size=V), st.sampled_from([0.05, 0.2, 0.5, 0.9]))
def test_typical_p_keeps_what_is_near_the_mean_surprise(halves: list[int], mass: float) -> None:
    kept = generate.sampling_probabilities(np.array([halves]) / 2, typical_p=mass)[0] > 0
    assert set(np.flatnonzero(kept).tolist()) == typical(halves, mass)


def test_typical_p_may_cut_the_likeliest_off() -> None:
    """The paper's point: 1/4 is less typical than four of 3/16 each. A number at its end draws the last of them."""
    logits = np.log(np.array([[4, 3, 3, 3, 3]]) / 16)
    assert (generate.sampling_probabilities(logits, typical_p=0.7)[0] > 0).tolist() == [False] + [True] * 4
    numbers = np.array([0.0, np.nextafter(1, 0)])
    assert generate.sample(np.repeat(logits, 2, axis=0), numbers, typical_p=0.7).tolist() == [1, 4]


def test_banned_ids_are_never_drawn() -> None:
    logits = np.array([[0.0, -np.inf, 1.0, -np.inf]])
    numbers = np.array([0.0, 0.3, 0.7, np.nextafter(1, 0)])
    for cuts in ({}, {"top_k": 3}, {"top_p": 0.99}, {"min_p": 0.01}, {"typical_p": 0.99}):
        assert set(generate.sample(np.repeat(logits, 4, axis=0), numbers, **cuts)) == {0, 2}


@given(scores(3), scores(1, 3), st.integers(1, 3 * V))
def test_the_best_continuations_of_all_beams(log_probs: Array, totals: Array, count: int) -> None:
    found, beams, ids = generate.best_continuations(log_probs[None], totals, count)
    ranked = sorted((-(totals[0, k] + log_probs[k, i]), k, i) for k in range(3) for i in range(V))[:count]
    assert [(-x, k, i) for x, k, i in zip(found[0], beams[0], ids[0], strict=True)] == ranked


def test_a_beam_that_is_not_there_comes_last() -> None:
    _, beams, _ = generate.best_continuations(np.zeros((1, 2, V)), np.array([[-np.inf, -50.0]]), V)
    assert (beams == 1).all()


def test_finished_continuations_do_not_go_on() -> None:
    values, finished = np.array([[5.0, 4.0, 3.0, 2.0]]), np.array([[True, False, True, False]])
    assert generate.best_unfinished(values, finished, 2).tolist() == [[1, 3]]
    assert generate.best_unfinished(values, finished, 4).tolist() == [[1, 3, 0, 2]]


@pytest.mark.parametrize(
    ("early_stopping", "length_penalty", "worst", "goes_on"),
    [
        (False, 1.0, -1.2, True),
        (False, 1.0, -0.9, False),
        (False, 0.0, -3.9, False),
        (True, 1.0, -1.2, False),
        (True, 1.0, -np.inf, True),
        ("never", 1.0, -0.9, True),
        ("never", 1.0, -0.4, False),
        ("never", 0.0, -3.9, False),
        ("never", -1.0, -17.0, True),
        ("never", -1.0, -15.0, False),
    ],
)
def test_a_search_goes_on_while_it_may_improve(
    early_stopping: bool | str, length_penalty: float, worst: float, goes_on: bool
) -> None:
    """The best running beam has -4 at 4 tokens: -1 per token now, -0.5 if it gets 8 at no cost, -16 with penalty -1."""
    found = generate.beams_may_improve(
        np.array([[-4.0, -5.0]]), np.array([[-0.1, worst]]), 4, 8, length_penalty, early_stopping
    )
    assert found.tolist() == [goes_on]


def test_long_beams_are_favoured_by_a_penalty_above_zero() -> None:
    totals = np.array([[-4.0]])
    assert generate.beam_score(totals, 8, 1.0) > generate.beam_score(totals, 4, 1.0)
    assert generate.beam_score(totals, 8, 0.0) == totals
    assert generate.beam_score(totals, 8, -1.0) < generate.beam_score(totals, 4, -1.0)


# The lesson.


def lesson_engine(name: str) -> Backend:
    try:
        return get_backend(name.split()[0], mode=name.split()[1])
    except GPT2Error as error:
        pytest.skip(f"no engine {name!r} here: {error}")


def test_the_cache_changes_nothing() -> None:
    params, prompts = nest(parameters()), np.arange(CONFIG.vocab_size)[:, None]
    expected = prompts
    for _ in range(7):
        scores, _ = language_model(params, expected, CONFIG)
        expected = np.concatenate((expected, generate.greedy(scores[:, -1])[:, None]), axis=1)
    assert (generate.continue_greedily(params, prompts, CONFIG, 7) == expected).all()
    assert generate.continue_greedily(params, prompts, CONFIG, 0) is prompts


@pytest.mark.parametrize("engine", ["mindspore pynative", "mindspore graph"])
def test_the_lesson_of_the_twin_gives_the_same_ids(engine: str) -> None:
    params = nest({name: x.astype(np.float32) for name, x in parameters().items()})
    arguments = {"params": params, "ids": IDS, "config": CONFIG, "new": 3}
    found = lesson_engine(engine).call("generate.continue_greedily", arguments)
    assert (found == generate.continue_greedily(**arguments)).all()
