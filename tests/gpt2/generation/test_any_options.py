"""Any options at all end in output or in one clear line."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import gpt2
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation
from gpt2.model.model import Model
from parity.verdict.ties import find_ties
from reference.config import GPT2Config
from tests.gpt2.generation.prompts import Array, left_padded
from tests.gpt2.small import parameters

ODD = [None, True, -1, 0.5, "a", "", [], [[]], [0.5], [[1], "x"], float("nan"), float("inf"), 2**70, {}, object()]
FIELDS: dict[str, list[Any]] = {
    "max_new_tokens": [0, 1, 3, 9, 9, 40],
    "min_new_tokens": [0, 1, 4],
    "temperature": [0, 0.0, 1e-30, 0.7, 3, 1e30],
    "top_k": [0, 1, 5, 10**9],
    "top_p": [1e-9, 0.3, 1, np.float64(0.9)],
    "min_p": [0, 0.2, 1.0],
    "typical_p": [1e-9, 0.5, 1],
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


@pytest.mark.filterwarnings("ignore::gpt2.errors.EndOfContextWarning")
@settings(max_examples=4 * settings().max_examples)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=3), option_sets())
def test_any_options_end_in_output_or_in_one_clear_line(rows: list[list[int]], options: dict[str, Any]) -> None:
    ids, mask = left_padded(rows)
    look_for_ties = options.pop("ties", False)
    try:
        found = TINY_MODEL.generate_all(ids, attention_mask=mask, **options)
    except gpt2.GPT2Error as error:
        said = str(error)
    else:
        check_output(found, ids, options)
        if look_for_ties:
            check_ties(found, mask, options)
        return
    assert "\n" not in said
    assert len(said) < 300


def check_ties(found: Generation, mask: Array, options: dict[str, Any]) -> None:
    """Ties of any text that was written in one pass lie inside it."""
    config = GenerationConfig(**{name: x for name, x in options.items() if name != "scored"})
    if config.num_beams > 1 or config.sliding_window:
        return
    places = find_ties(TINY_MODEL, found, mask, config)
    for row, new in zip(places, found.new_ids, strict=True):
        assert set(row) <= set(range(len(new)))


def check_output(found: Generation, ids: Array, options: dict[str, Any]) -> None:
    """What holds of any output."""
    copies = int(options.get("num_return_sequences", 1))
    assert len(found.ids) == len(ids) * copies == len(found.new_ids) == len(found.scores) == len(found.finish_reasons)
    assert (found.ids[:, : ids.shape[1]] == np.repeat(ids, copies, axis=0)).all()
    assert found.ids.shape[1] == ids.shape[1] + max(map(len, found.new_ids))
    for row, new, reason in zip(found.ids, found.new_ids, found.finish_reasons, strict=True):
        assert row[ids.shape[1] :][: len(new)].tolist() == new
        assert set(new) <= set(range(TINY.vocab_size))
        assert reason in ("stop", "length", "banned", "context")
        assert reason != "context" or len(new) < options.get("max_new_tokens", 20)
        assert reason != "length" or len(new) == options.get("max_new_tokens", 20)
