"""From token ids to micro-batches, by mindspore.dataset as the MindSpore course uses it. Twin of reference/data.py.

The arrays are NumPy arrays, in the reference's order: a sampler sets the order, the pipeline itself does not shuffle.
There is one worker, a thread: no other process is started.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mindspore.dataset as ds
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STREAM = 0x6F72646572  # "order" in ASCII, as in the reference
COLUMNS = ["ids", "attention_mask", "labels"]


def windows(stream: Array, length: int) -> Array:
    """Cut a stream of token ids (N,) into packed rows (N // length, length); the remainder is left out.

    It uses no pipeline, which would take the tokens one by one.
    """
    return stream[: len(stream) // length * length].reshape(-1, length)


def pad_rows(
    rows: Sequence[Array], length: int, pad_id: int, ignore_index: int = -100, labels: Sequence[Array] | None = None
) -> dict[str, Array]:
    """Make one array of R rows of ids of any length: longer rows are cut, shorter rows get pads at their end.

    As in the course: a `map` from two columns to three, then one batch of all rows.
    """

    def pad(row: Array, targets: Array) -> tuple[Array, Array, Array]:
        pads = length - len(row[:length])
        tokens = np.asarray(row[:length], np.int32)
        return (
            np.pad(tokens, (0, pads), constant_values=pad_id),
            np.pad(np.ones_like(tokens), (0, pads)),
            np.pad(np.asarray(targets[:length], np.int32), (0, pads), constant_values=ignore_index),
        )

    return _map_all({"ids": rows, "labels": rows if labels is None else labels}, pad, length)


def merge_and_pad(
    article: Array,
    summary: Array,
    max_seq_len: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
    ignore_index: int = -100,
    score: str = "output",
) -> tuple[Array, Array, Array]:
    """Lay out one pair as [CLS] article [SEP] summary [SEP]; only the article is cut, pads are at the end.

    It runs on the host, because `dataset.map` passes NumPy arrays and expects NumPy arrays back.
    """
    room = _room(article, summary, max_seq_len, score)
    given = np.concatenate([[cls_id], article[:room], [sep_id]]).astype(np.int32)
    wanted = np.concatenate([summary, [sep_id]]).astype(np.int32)
    pads = max_seq_len - len(given) - len(wanted)
    unscored = np.full_like(given, ignore_index) if score == "output" else given
    return (
        np.concatenate([given, wanted, np.full(pads, pad_id, np.int32)]),
        np.repeat(np.array([1, 0], np.int32), [max_seq_len - pads, pads]),
        np.concatenate([unscored, wanted, np.full(pads, ignore_index, np.int32)]),
    )


def _room(article: Array, summary: Array, max_seq_len: int, score: str) -> int:
    """How many tokens of the article fit. Raises ValueError as merge_and_pad does."""
    if score not in ("output", "all"):
        raise ValueError(f"score must be 'output' or 'all', but is {score!r}")
    room = max_seq_len - len(summary) - 3
    if room < min(len(article), 1):
        raise ValueError(
            f"a summary of {len(summary)} tokens and 3 special tokens leave no room for the article in {max_seq_len}: "
            "enlarge max_seq_len, or leave this pair out"
        )
    return room


def merge_rows(
    articles: Sequence[Array],
    summaries: Sequence[Array],
    max_seq_len: int,
    cls_id: int,
    sep_id: int,
    pad_id: int,
    ignore_index: int = -100,
    score: str = "output",
) -> dict[str, Array]:
    """Make one array of R pairs, each laid out as by merge_and_pad.

    A `map` from two columns to three. Raises ValueError as merge_and_pad does, but before the pipeline starts: inside
    it, the error would become a RuntimeError of many lines.
    """
    if len(articles) != len(summaries):
        raise ValueError(f"{len(articles)} articles, but {len(summaries)} summaries: give one summary per article")
    for article, summary in zip(articles, summaries, strict=True):
        _room(article, summary, max_seq_len, score)

    def merge(article: Array, summary: Array) -> tuple[Array, Array, Array]:
        return merge_and_pad(article, summary, max_seq_len, cls_id, sep_id, pad_id, ignore_index, score)

    return _map_all({"article": articles, "summary": summaries}, merge, max_seq_len)


def _map_all(columns: Mapping[str, Sequence[Array]], function: Callable[..., Any], length: int) -> dict[str, Array]:
    """The rows of COLUMNS, each (R, length), that a `map` of `function` makes of the given columns."""
    count = len(next(iter(columns.values())))
    if count == 0:  # a pipeline infers its dtypes from a row
        return {name: np.zeros((0, length), np.int32) for name in COLUMNS}
    dataset = _pipeline(columns, range(count)).map(function, list(columns), COLUMNS, num_parallel_workers=1)
    return next(_read(dataset.batch(count, num_parallel_workers=1)))


def order(count: int, seed: int, epoch: int) -> Array:
    """The order in which an epoch takes its rows: a permutation of 0, ..., count - 1, (count,) int64.

    It runs on the host, where the sampler reads it; `shuffle` of mindspore.dataset would give another order.
    """
    numbers = np.random.Philox(key=seed | STREAM << 64, counter=epoch << 192)
    return np.argsort(numbers.random_raw(count), kind="stable")


def batches(arrays: Mapping[str, Array], batch_size: int, seed: int, first: int = 0) -> Iterator[dict[str, Array]]:
    """Yield micro-batches without end, from number `first` on; earlier ones are not read.

    There is one pipeline per epoch; its sampler skips rows that are not needed. Raises ValueError if the rows do not
    fill one micro-batch.
    """
    count = min(len(x) for x in arrays.values())
    if not 1 <= batch_size <= count:
        raise ValueError(f"{count} rows cannot fill a batch of {batch_size}: give more data, or a smaller batch")
    return _batches(arrays, count, batch_size, seed, first)


def _batches(
    arrays: Mapping[str, Array], count: int, batch_size: int, seed: int, first: int
) -> Iterator[dict[str, Array]]:
    start, skipped = divmod(first, count // batch_size)
    for epoch in itertools.count(start):
        dataset = _pipeline(arrays, order(count, seed, epoch)[skipped * batch_size :].tolist())
        yield from _read(dataset.batch(batch_size, drop_remainder=True, num_parallel_workers=1))
        skipped = 0


class _Rows:
    """The source of GeneratorDataset: for the index of a row, one array of each column."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns

    def __getitem__(self, i: int) -> tuple[Array, ...]:
        return tuple(np.asarray(column[i]) for column in self._columns.values())

    def __len__(self) -> int:
        return min(len(column) for column in self._columns.values())


def _pipeline(columns: Mapping[str, Any], chosen: Sequence[int]) -> Any:
    """The chosen rows, in that order."""
    return ds.GeneratorDataset(
        _Rows(columns),
        list(columns),
        sampler=ds.SubsetSampler(list(chosen)),
        num_parallel_workers=1,
        python_multiprocessing=False,
    )


def _read(dataset: Any) -> Iterator[dict[str, Array]]:
    return dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
