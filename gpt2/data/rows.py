"""Turn records into rows of token ids: tokenized, cut to fit, with a label for each token or each row."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from gpt2.backends import Array
from gpt2.data.records import BrokenLines, Record
from gpt2.data.settings import DataConfig
from gpt2.data.templates import SPECIAL, TASK, Template
from gpt2.errors import GPT2Error
from gpt2.tokenizer import END_OF_TEXT, KINDS, encode, end_id, id_count, load_tokenizer, surroundings, train_tokenizer
from reference.data import order

HELD_OUT_EPOCH = 2**64 - 1  # its order is no epoch's of any run


class Row(NamedTuple):
    """A sample as tokens: ids and labels (N,) int32, its task, if any, and whether it was cut to fit.

    For a classifier, labels is one number, ().
    """

    ids: Array
    labels: Array
    task: str = ""
    cut: bool = False
    record: Record | None = None


def classifier_ids(tokenizer: Tokenizer, text: str, length: int) -> tuple[Array, bool]:
    """The ids of a text for a classifier, (N,) int32 with N at most length, and whether the text was cut to fit.

    Around it are the tokens that the tokenizer puts there, as in Hugging Face's pipeline; or [CLS] and [SEP], if the
    tokenizer puts none and has both. Only the end of the text is cut.
    Raises GPT2Error if no token of the text remains.
    """
    around, first, last = surroundings(tokenizer), tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    if around == ([], []) and first is not None and last is not None:
        around = ([first], [last])
    ids, room = encode(tokenizer, text, add_special_tokens=False), length - sum(map(len, around))
    if not ids or room < 1:
        raise GPT2Error("the text holds no token" if not ids else f"a row of {length} has no room for a text")
    return np.array([*around[0], *ids[:room], *around[1]], np.int32), len(ids) > room


def label_number(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        some = ", ".join(map(repr, labels[:10])) + (", ..." if len(labels) > 10 else "")
        raise GPT2Error(f"the classifier has no label {label!r}, only {some}")
    return labels.index(label)


def labelled_rows(
    records: list[Record],
    settings: DataConfig,
    tokenizer: Tokenizer,
    length: int,
    labels: Sequence[str],
    broken: BrokenLines,
) -> list[Row]:
    """One row per record, with the number of its label."""
    rows = []
    for record in records:
        with broken.at(record.where):
            number = label_number(record.values[settings.label], labels)
            ids, cut = classifier_ids(tokenizer, record.values[settings.field], length)
            rows.append(Row(ids, np.array(number, np.int32), cut=cut, record=record))
    return rows


def tokenizer_for(
    settings: DataConfig, texts: Sequence[str], own: Tokenizer | None, vocab_size: int | None, pad_id: int | None
) -> Tokenizer:
    """The tokenizer of these settings. Raises GPT2Error if its ids, or pad_id, do not fit the vocabulary."""
    chosen = settings.tokenizer or "characters"
    if not settings.tokenizer and own is not None:
        tokenizer, chosen = own, "the model's own"
    elif chosen in KINDS:
        special = _special(settings)
        room = None if vocab_size is None else vocab_size - len(set(special) - {END_OF_TEXT})
        tokenizer = train_tokenizer(chosen, texts, room)
        tokenizer.add_special_tokens(special)
    else:
        loaded = load_tokenizer(Path(chosen))
        if loaded is None:
            kinds = ", ".join(KINDS)
            raise GPT2Error(f"no tokenizer {chosen!r}: expected {kinds}, a tokenizer.json, or a folder that has one")
        tokenizer = loaded
    needed = id_count(tokenizer)
    if vocab_size is not None and needed > vocab_size:
        raise GPT2Error(
            f"the tokenizer ({chosen}) has {needed} ids, but the model's vocab_size is {vocab_size}: enlarge it, "
            "or take another tokenizer"
        )
    if pad_id is not None and not 0 <= pad_id < (needed if vocab_size is None else vocab_size):
        raise GPT2Error(f"pad id {pad_id} is outside the vocabulary: expected 0 to {(vocab_size or needed) - 1}")
    return tokenizer


def _special(settings: DataConfig) -> list[str]:
    """The special tokens that a tokenizer needs.

    With a template: the end-of-text token and those that it names. With labels: the end-of-text token, for padding.
    """
    if not settings.template and not settings.label:
        return []
    template = settings.layout_template()
    named = {part.text for part in template.parts} if template is not None else set()
    return [token for token in SPECIAL if token in named or token == END_OF_TEXT]


def end_of_sample(tokenizer: Tokenizer, between: str, closed: bool) -> list[int]:
    """The ids that end a sample: the end-of-text token, or else `between`.

    closed: whether what the tokenizer puts after a text, BERT's [SEP], is there already; else this is the end.
    """
    end = tokenizer.token_to_id(END_OF_TEXT) if closed else end_id(tokenizer)
    return encode(tokenizer, between, add_special_tokens=False) if end is None else [end]


def rows_of(
    records: list[Record],
    settings: DataConfig,
    tokenizer: Tokenizer,
    end: list[int],
    limit: int | None,
    ignore_index: int,
    broken: BrokenLines,
) -> list[Row]:
    """One row for each record that has tokens; limit: the most tokens of a padded row, or None."""
    template = settings.layout_template()
    rows: list[Row] = []
    for record in records:
        with broken.at(record.where):
            if template is None:
                rows += _plain_row(record.values[settings.field], tokenizer, end, limit)
            else:
                row = _task_row(record.values, template, tokenizer, end, limit, settings.score, ignore_index)
                rows.append(row._replace(record=record))
    return rows


def _plain_row(text: str, tokenizer: Tokenizer, end: list[int], limit: int | None) -> list[Row]:
    """A row in which every token is scored, marked as cut if longer than limit; no row for a text without tokens."""
    ids = encode(tokenizer, text)
    row = np.array(ids + end, np.int32)
    return [Row(row, row, cut=limit is not None and len(row) > limit)] if ids else []


def _task_row(
    values: Mapping[str, str],
    template: Template,
    tokenizer: Tokenizer,
    end: list[int],
    limit: int | None,
    score: str,
    ignore_index: int,
) -> Row:
    sample = template.lay_out(values, tokenizer, end)
    fitting = sample if limit is None else sample.cut(limit, template.truncate)
    return Row(fitting.ids, fitting.labels(score, ignore_index), values.get(TASK, ""), fitting is not sample)


def weighted(path: Path, rows: list[Row], weights: Mapping[str, int], tasks: set[str]) -> list[Row]:
    for task in weights:
        if task not in tasks:
            there = ", ".join(map(repr, sorted(tasks)))
            raise GPT2Error(f"{path} has no task {task!r}, which data field 'weights' names: it has {there}")
    return [row for row in rows for _ in range(weights.get(row.task, 1))]


def split_rows(rows: list[Row], held_out: float, split: str, seed: int) -> tuple[list[Row], list[Row]]:
    """Split off a share of the samples as held-out rows: (training, held out), both in the file's order.

    split: "drawn" draws them by the seed, of each label (or else task) its share; "last" takes the last ones.
    Row i of the n drawn rows of a label is due at (i + 1/2) / n, and those due first are held out. So the label's share
    is rounded as Sainte-Lague's method rounds seats, and a share below 1/2 never takes the only row of a label.
    """
    count = len(rows) - int(len(rows) * (1 - held_out))
    taken: Collection[int] = range(len(rows) - count, len(rows))
    if split == "drawn":
        groups: dict[Any, list[int]] = {}
        for i in order(len(rows), seed, HELD_OUT_EPOCH).tolist():
            groups.setdefault(rows[i].labels.item() if rows[i].labels.ndim == 0 else rows[i].task, []).append(i)
        due = [((place + 0.5) / len(group), i) for group in groups.values() for place, i in enumerate(group)]
        taken = {i for _, i in sorted(due, key=lambda pair: pair[0])[:count]}
    return [row for i, row in enumerate(rows) if i not in taken], [row for i, row in enumerate(rows) if i in taken]


def split_stream(rows: list[Row], held_out: float) -> tuple[list[Row], list[Row]]:
    """Split off the last tokens as held-out data. Source: nanoGPT's prepare.py, which splits at the same token."""
    stream = np.concatenate([*(row.ids for row in rows), np.zeros(0, np.int32)])
    first = int(len(stream) * (1 - held_out))
    return [Row(stream[:first], stream[:first])], [Row(stream[first:], stream[first:])]
