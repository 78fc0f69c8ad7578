"""What a decoder promises beyond its scores: going on by itself, going on in another order, memory, compilations."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2.backends import Backend, Decoder, get_backend
from gpt2.model.model import positions
from parity.verdict.stages import stage_references
from parity.verdict.verdict import judge
from reference.config import GPT2Config
from tests.gpt2.conftest import usable
from tests.gpt2.small import model

Array = NDArray[np.int64]
IDS = np.array([[0, 0, 3, 1, 4], [2, 7, 1, 8, 2], [0, 5, 9, 2, 6]])
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
ROWS = np.array([2, 0, 0])
LENGTH = 12


def started(engine: Backend, ids: Array = IDS, mask: Array = MASK) -> Decoder:
    """A decoder that has read a batch padded on the left."""
    decoder = model(engine).engine.decoder(len(ids), LENGTH)
    decoder.read(ids, mask, positions(mask))
    return decoder


def read(decoder: Decoder, chosen: Array, steps: int, mask: Array = MASK) -> None:
    """Let a decoder read one id for each sequence, `steps` steps after the prompt."""
    decoder.read(chosen[:, None], np.ones((len(chosen), 1), np.int64), positions(mask)[:, -1:] + 1 + steps)


def expect_to_have_read(logits: Array, engine: Backend, chosen: Array) -> None:
    """Whether these are the scores of sequences that have read the prompts in the order ROWS, and `chosen`, (B, new).

    They are judged, and not compared bit for bit: a matrix product may round the third row otherwise than the first.
    """
    ids = np.concatenate([IDS, chosen], axis=1)[ROWS]
    mask = np.concatenate([MASK, np.ones_like(chosen)], axis=1)[ROWS]
    live = model(engine)
    arguments = (ids, mask, positions(mask), np.dtype(np.float32), engine.accuracy)
    known = stage_references(live.config, live.parameters, *arguments)["logits"]
    verdict = judge(logits, known.oracle[:, -1], [member[:, -1] for member in known.orbit])
    assert verdict.agrees, verdict.explain()


def choose(decoder: Decoder, step: int) -> Array:
    """Ids taken greedily and drawn, in turn."""
    return decoder.sample(np.array([0.1, 0.5, 0.9]), 2.0, 9, 0.9, 0.01) if step % 2 else decoder.greedy()


def test_to_advance_is_to_read_what_was_chosen(every_engine: Backend) -> None:
    alone, told = started(every_engine), started(every_engine)
    for step in range(LENGTH - IDS.shape[1]):
        chosen = choose(alone, step)
        alone.advance()
        read(told, chosen, step)
        assert (alone.logits() == told.logits()).all()
        assert len(np.unique(alone.logits(), axis=0)) == 3


def test_reading_and_advancing_mix(every_engine: Backend) -> None:
    alone, mixed = started(every_engine), started(every_engine)
    for step in range(4):
        chosen = choose(alone, step)
        assert (choose(mixed, step) == chosen).all()
        alone.advance()
        if step == 1:
            read(mixed, chosen, step)
        else:
            mixed.advance()
    assert (alone.logits() == mixed.logits()).all()


def test_reordered_sequences_go_on_as_if_they_had_been_read_in_that_order(every_engine: Backend) -> None:
    reordered = started(every_engine)
    first = reordered.greedy()
    reordered.advance()
    second = reordered.greedy()
    reordered.reorder(ROWS)
    after_one = reordered.logits()
    assert (reordered.greedy() == second[ROWS]).all()
    reordered.advance()
    expect_to_have_read(after_one, every_engine, first[:, None])
    expect_to_have_read(reordered.logits(), every_engine, np.stack([first, second], axis=1))


def test_a_choice_made_before_reordering_is_reordered(every_engine: Backend) -> None:
    reordered = started(every_engine)
    chosen = reordered.greedy()
    reordered.reorder(ROWS)
    reordered.advance()
    expect_to_have_read(reordered.logits(), every_engine, chosen[:, None])


def test_more_tokens_than_there_is_room_for_are_refused(every_engine: Backend) -> None:
    decoder = started(every_engine)
    for _ in range(LENGTH - IDS.shape[1]):
        decoder.greedy()
        decoder.advance()
    decoder.greedy()
    with pytest.raises(ValueError, match="do not fit"):
        decoder.advance()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["numpy", "mindspore"])
def test_the_cache_takes_as_much_memory_as_its_shape_says(name: str, dtype: str) -> None:
    usable(name)
    config = GPT2Config(vocab_size=31, n_positions=256, n_embd=24, n_layer=3, n_head=2)
    for batch_size, tokens, length in ((1, 5, 12), (3, 64, 127), (2, 1, 1)):
        decoder = model(get_backend(name, dtype=dtype), config).engine.decoder(batch_size, length)
        ids = np.zeros((batch_size, tokens), np.int64)
        decoder.read(ids, np.ones_like(ids), ids)
        numbers = 2 * config.n_layer * batch_size * config.n_head * decoder.slots * config.head_size
        assert decoder.cache_bytes == numbers * np.dtype(dtype).itemsize
        assert decoder.slots == {"numpy": length, "mindspore": {12: 16, 127: 128, 1: 1}[length]}[name]


def test_prompts_of_one_bucket_are_compiled_once() -> None:
    engine = usable("mindspore graph")
    from mindspore.graph.api import ms_compile_cache  # MindSpore's own table: what it has compiled in this process

    live, counts = model(engine).engine, []
    for tokens in (5, 8, 6, 9):
        ids = np.full((3, tokens), tokens)
        decoder = live.decoder(3, tokens + 10)
        decoder.read(ids, np.ones_like(ids), positions(np.ones_like(ids)))
        for step in range(10):
            choose(decoder, step)
            decoder.advance()
            decoder.reorder(ROWS)
        del decoder
        counts.append(len(ms_compile_cache))
    assert counts[0] == counts[1] == counts[2] < counts[3]
