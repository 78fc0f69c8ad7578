"""The pipelines of mindspore.dataset against plain NumPy: the same arrays and order, and nothing left behind."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ms_backend import data as twin
from reference import data as plain

Arrays = dict[str, np.ndarray]
COUNTERS = st.integers(0, 2**64 - 1)
IDS = st.integers(0, 2**31 - 1)
FEW = settings(max_examples=30)  # each makes several pipelines
ROOT = Path(__file__).parents[2]

PAIR = st.tuples(st.lists(st.integers(4, 30), max_size=9), st.lists(st.integers(4, 30), max_size=8))
SCORES = st.sampled_from(["output", "all"])

SCRIPT = """
import itertools, multiprocessing
import numpy as np
from ms_backend.data import batches, pad_rows
made = batches(pad_rows([np.arange(n) for n in range(1, 9)], 4, 0), 3, 0)
seen = list(itertools.islice(made, 5))
assert len(seen) == 5
assert multiprocessing.active_children() == []
"""


def same(one: Arrays, other: Arrays) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def outcome(run: Callable[[], Any]) -> Any:
    """What it returns, or the words in which it refuses."""
    try:
        return run()
    except ValueError as error:
        return str(error)


def columns(count: int) -> Arrays:
    """Rows that tell their number, in every dtype and rank that a model may be given."""
    numbers = np.arange(6 * count)
    return {
        "ids": numbers.astype(np.int32).reshape(count, 6),
        "attention_mask": (numbers % 2).astype(bool).reshape(count, 3, 2),
        "labels": np.arange(count),
        "weights": numbers.astype(np.float32).reshape(count, 6),
    }


@given(st.integers(0, 30), st.integers(1, 9))
def test_windows_are_the_same(count: int, length: int) -> None:
    stream = np.arange(count, dtype=np.int32)
    assert same({"ids": plain.windows(stream, length)}, {"ids": twin.windows(stream, length)})


@FEW
@given(
    st.lists(st.lists(IDS, max_size=9), max_size=6),
    st.integers(1, 7),
    IDS,
    st.integers(-(2**31), -1),
    st.sampled_from([np.int32, np.int64]),
)
def test_padded_rows_are_the_same(
    rows: list[list[int]], length: int, pad_id: int, ignore_index: int, dtype: type
) -> None:
    ids = [np.array(row, dtype) for row in rows]
    assert same(plain.pad_rows(ids, length, pad_id, ignore_index), twin.pad_rows(ids, length, pad_id, ignore_index))


@FEW
@given(st.lists(st.lists(IDS, max_size=9), max_size=6), st.integers(1, 7))
def test_padded_rows_with_labels_of_their_own_are_the_same(rows: list[list[int]], length: int) -> None:
    ids = [np.array(row, np.int32) for row in rows]
    labels = [np.where(row % 2, row, -100) for row in ids]
    assert same(plain.pad_rows(ids, length, 0, -100, labels), twin.pad_rows(ids, length, 0, -100, labels))


@given(PAIR, st.integers(4, 24), st.permutations([0, 2, 3]), SCORES)
def test_a_pair_is_laid_out_the_same_or_refused_in_the_same_words(
    pair: tuple[list[int], list[int]], length: int, special: list[int], score: str
) -> None:
    arrays = [np.array(ids, np.int32) for ids in pair]
    one, other = (
        outcome(lambda room=room: room.merge_and_pad(*arrays, length, *special, score=score)) for room in (plain, twin)
    )
    assert type(one) is type(other)
    if isinstance(one, str):
        assert one == other
    else:
        assert same(*(dict(zip(twin.COLUMNS, made, strict=True)) for made in (one, other)))


@FEW
@given(st.lists(PAIR, max_size=6), st.integers(12, 24), SCORES)
def test_rows_of_pairs_by_a_map_are_the_same(pairs: list[tuple[list[int], list[int]]], length: int, score: str) -> None:
    parts = [[np.array(pair[i], np.int32) for pair in pairs] for i in (0, 1)]
    one, other = (room.merge_rows(*parts, length, 2, 3, 0, -1, score) for room in (plain, twin))
    assert same(one, other)


@pytest.mark.parametrize(
    ("articles", "summaries", "score"), [([[5]], [[6] * 9], "output"), ([[5]], [[6]], "no"), ([[5]] * 2, [[6]], "all")]
)
def test_what_is_no_pair_is_refused_in_the_same_words(
    articles: list[list[int]], summaries: list[list[int]], score: str
) -> None:
    parts = [[np.array(ids, np.int32) for ids in part] for part in (articles, summaries)]
    one, other = (outcome(lambda room=room: room.merge_rows(*parts, 8, 2, 3, 0, score=score)) for room in (plain, twin))
    assert isinstance(one, str)
    assert one == other


@given(st.integers(0, 50), COUNTERS, COUNTERS)
def test_the_order_is_the_same(count: int, seed: int, epoch: int) -> None:
    assert same({"rows": plain.order(count, seed, epoch)}, {"rows": twin.order(count, seed, epoch)})


@FEW
@given(st.integers(1, 12), st.integers(1, 12), COUNTERS, st.integers(0, 40))
def test_batches_are_the_same_from_any_start_and_over_several_epochs(
    count: int, batch_size: int, seed: int, first: int
) -> None:
    arrays, batch_size = columns(count), min(batch_size, count)
    number = 2 * (count // batch_size) + 1
    expected, came = (
        list(itertools.islice(room.batches(arrays, batch_size, seed, first), number)) for room in (plain, twin)
    )
    for one, other in zip(expected, came, strict=True):  # kept until now: no batch is written over
        assert same(one, other)


def test_what_was_taken_may_be_changed() -> None:
    arrays = columns(4)
    for batch in itertools.islice(twin.batches(arrays, 2, 0), 4):
        for x in batch.values():
            x[:] = 0
    assert same(arrays, columns(4))


@pytest.mark.parametrize(("count", "batch_size"), [(3, 4), (0, 1), (3, 0)])
def test_too_few_rows_for_a_batch_are_refused_in_the_same_words(count: int, batch_size: int) -> None:
    messages = []
    for room in (plain, twin):
        with pytest.raises(ValueError, match="cannot fill a batch") as caught:
            room.batches(columns(count), batch_size, seed=0)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_pipeline_prints_nothing_and_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output = process.communicate(timeout=60)
    assert (process.returncode, *output) == (0, "", "")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list(tmp_path.iterdir()) == []
