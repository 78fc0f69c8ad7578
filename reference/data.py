"""From token ids to micro-batches: packed or padded rows, shuffled again for every epoch.

There is no state: n and the seed alone decide which rows micro-batch number n holds. So an interrupted run can be
resumed at any micro-batch.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from reference.ops import Array

STREAM = 0x6F72646572  # "order" in ASCII: keeps these random numbers apart from those of dropout under the same seed


def windows(stream: Array, length: int) -> Array:
    """Cut a stream of token ids (N,) into packed rows (N // length, length); the remainder is left out.

    The rows keep the stream's dtype.
    """
    return stream[: len(stream) // length * length].reshape(-1, length)


def pad_rows(
    rows: Sequence[Array], length: int, pad_id: int, ignore_index: int = -100, labels: Sequence[Array] | None = None
) -> dict[str, Array]:
    """Make one array of R rows of ids of any length: longer rows are cut, shorter rows get pads at their end.

    labels: for each row, one per id; None: the ids themselves.
    Returns ids, attention_mask (1 token, 0 pad) and labels (ignore_index at pads), each (R, length) int32: a pad is
    neither attended nor scored. Source: the MindSpore course's merge_and_pad, which has no mask.
    """
    shape = (len(rows), length)
    ids, targets = np.full(shape, pad_id, np.int32), np.full(shape, ignore_index, np.int32)
    attention_mask = np.zeros(shape, np.int32)
    for i, row in enumerate(rows):
        kept = row[:length]
        ids[i, : len(kept)] = kept
        targets[i, : len(kept)] = kept if labels is None else labels[i][:length]
        attention_mask[i, : len(kept)] = 1
    return {"ids": ids, "attention_mask": attention_mask, "labels": targets}


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

    score: "output" scores the summary and the [SEP] after it, which says where to stop; "all" every token but pads.
    article (N,) and summary (M,) are ids; returns ids, attention_mask (1 token, 0 pad) and labels, each (max_seq_len,)
    int32. Raises ValueError for another score, and if no token of the article would fit.
    Source: the MindSpore course's merge_and_pad, which has neither mask nor labels; Hugging Face's
    truncation="only_first" cuts the same tokens.
    """
    if score not in ("output", "all"):
        raise ValueError(f"score must be 'output' or 'all', but is {score!r}")
    room = max_seq_len - len(summary) - 3
    if room < min(len(article), 1):
        raise ValueError(
            f"a summary of {len(summary)} tokens and 3 special tokens leave no room for the article in {max_seq_len}: "
            "enlarge max_seq_len, or leave this pair out"
        )
    tokens = [cls_id, *article[:room], sep_id, *summary, sep_id]
    first = 0 if score == "all" else len(tokens) - len(summary) - 1
    ids, labels = np.full(max_seq_len, pad_id, np.int32), np.full(max_seq_len, ignore_index, np.int32)
    attention_mask = np.zeros(max_seq_len, np.int32)
    ids[: len(tokens)] = tokens
    labels[first : len(tokens)] = tokens[first:]
    attention_mask[: len(tokens)] = 1
    return ids, attention_mask, labels


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

    Returns ids, attention_mask and labels, each (R, max_seq_len) int32. Raises ValueError as merge_and_pad does, and
    if the numbers of articles and summaries differ.
    """
    if len(articles) != len(summaries):
        raise ValueError(f"{len(articles)} articles, but {len(summaries)} summaries: give one summary per article")
    rows = [
        merge_and_pad(article, summary, max_seq_len, cls_id, sep_id, pad_id, ignore_index, score)
        for article, summary in zip(articles, summaries, strict=True)
    ]
    names = ("ids", "attention_mask", "labels")
    return {name: np.array([row[i] for row in rows], np.int32).reshape(-1, max_seq_len) for i, name in enumerate(names)}


def order(count: int, seed: int, epoch: int) -> Array:
    """The order in which an epoch takes its rows: a permutation of 0, ..., count - 1, (count,) int64.

    It sorts random words of Philox, which are the same with every version of NumPy; a Generator's permutation need not
    be. seed and epoch: from 0 to 2**64 - 1. Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    numbers = np.random.Philox(key=seed | STREAM << 64, counter=epoch << 192)
    return np.argsort(numbers.random_raw(count), kind="stable")


def batches(arrays: Mapping[str, Array], batch_size: int, seed: int, first: int = 0) -> Iterator[dict[str, Array]]:
    """Yield micro-batches without end, from number `first` on; earlier ones are not read.

    arrays have one row for each sample, (R, ...); a micro-batch has batch_size rows of each, in their dtypes. Every
    epoch has its own order; its last rows, if they fill no micro-batch, are left out of that epoch.
    Raises ValueError if the rows do not fill one micro-batch.
    """
    count = min(len(x) for x in arrays.values())
    if not 1 <= batch_size <= count:
        raise ValueError(f"{count} rows cannot fill a batch of {batch_size}: give more data, or a smaller batch")
    return _batches(arrays, count, batch_size, seed, first)


def _batches(
    arrays: Mapping[str, Array], count: int, batch_size: int, seed: int, first: int
) -> Iterator[dict[str, Array]]:
    per_epoch = count // batch_size
    start, skipped = divmod(first, per_epoch)
    for epoch in itertools.count(start):
        rows = order(count, seed, epoch)[: per_epoch * batch_size].reshape(per_epoch, batch_size)
        for chosen in rows[skipped:]:
            yield {name: x[chosen] for name, x in arrays.items()}
        skipped = 0
