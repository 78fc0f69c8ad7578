"""Training data: turn a file of text, JSON or a table into rows of token ids, some of them held out."""

import dataclasses
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from gpt2.backends import Array
from gpt2.data.formats import read_source, whole
from gpt2.data.records import BrokenLines, Record, records_of
from gpt2.data.rows import (
    Row,
    end_of_sample,
    label_number,
    labelled_rows,
    rows_of,
    split_rows,
    split_stream,
    tokenizer_for,
    weighted,
)
from gpt2.data.settings import DataConfig, get_pipeline
from gpt2.data.templates import SPECIAL, Template
from gpt2.errors import GPT2Error, counted


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Training rows and held-out rows: ids and labels, (R, T) int32, and attention_mask if the rows are padded.

    For a classifier, labels are (R,) int32, indices into the field `labels`.
    """

    training: dict[str, Array]
    held_out: dict[str, Array]
    tokenizer: Tokenizer
    fingerprint: str
    """SHA-256 of the file's bytes."""
    facts: dict[str, Any]
    """Counts and sizes, for JSON."""
    labels: tuple[str, ...] = ()
    """Label names of a classifier; empty for a language model."""
    held_out_records: tuple["Record", ...] = ()
    """The records of the held-out rows; empty if the text is one stream."""


def read_corpus(
    path: Path,
    settings: DataConfig,
    n_positions: int,
    tokenizer: Tokenizer | None = None,
    vocab_size: int | None = None,
    pad_id: int | None = None,
    ignore_index: int = -100,
    labels: Sequence[str] | None = None,
    seed: int = 0,
) -> Corpus:
    """Read a file, tokenize it and lay it out in rows.

    tokenizer: the model's, or None. vocab_size: the model's, which also limits a "bpe" tokenizer trained here, or None
    if the tokenizer decides. pad_id None: padding is 0 (its value has no effect). A sample ends with the end-of-text
    token if the tokenizer has one, as every tokenizer trained here for a template does; otherwise packed samples end
    with a line break. Samples without a token are skipped. labels: those of an existing classifier; None: those of the
    file, in order. seed: that of the run, which draws the held-out rows.
    Raises GPT2Error, naming file and line, for unreadable data, and if there is too little to fill a row.
    """
    length = n_positions if settings.block_size is None else settings.block_size
    if length > n_positions:
        raise GPT2Error(f"block_size {length} exceeds the model's context: expected at most {n_positions}")
    pipeline, template = get_pipeline(settings.pipeline), settings.layout_template()
    source = read_source(path, settings.format, settings.encoding)
    layout = settings.layout or ("packed" if source.form == "text" else "padded")
    as_stream = source.form == "text" and layout == "packed" and template is None
    broken = BrokenLines(settings.skip_bad and not as_stream)
    if as_stream:
        records = [Record(str(path), {settings.field: whole(source, source.text)})]
    else:
        is_task = template is not None or bool(settings.label)
        records = records_of(source, _fields(settings), is_task, broken, settings.label, "" if is_task else "--text")
    texts = [_learnt_text(record.values, template, settings.field) for record in records]
    between = "\n" if layout == "packed" and not as_stream else ""
    tokenizer = tokenizer_for(settings, [*texts, between], tokenizer, vocab_size, pad_id)
    limit = length if layout == "padded" else None
    known: tuple[str, ...] = ()
    if settings.label:
        known = tuple(labels or _distinct(path, [record.values[settings.label] for record in records]))
        rows = labelled_rows(records, settings, tokenizer, length, known, broken)
    else:
        end = [] if as_stream else end_of_sample(tokenizer, between, closed=template is None)
        rows = rows_of(records, settings, tokenizer, end, limit, ignore_index, broken)
    if broken.messages:
        warnings.warn(broken.left_out("lines", path), stacklevel=2)
    if as_stream:
        training, held_out = split_stream(rows, settings.held_out)
    else:
        training, held_out = split_rows(rows, settings.held_out, settings.split, seed)
    warn_of_one_label(path, [known[int(row.labels)] for row in held_out if known])
    training = weighted(path, training, settings.weights, {row.task for row in rows})
    pad = 0 if pad_id is None else pad_id
    held_out_records = tuple(row.record for row in held_out if row.record is not None)
    corpus = Corpus(
        _lay_out(pipeline, layout, training, length, pad, ignore_index),
        _lay_out(pipeline, layout, held_out, length, pad, ignore_index),
        tokenizer,
        hashlib.sha256(source.raw).hexdigest(),
        {
            "format": source.form,
            "layout": layout,
            "block_size": length,
            "vocabulary": tokenizer.get_vocab_size(),
            "samples": len(rows),
            "training_tokens": _tokens(training),
            "held_out_tokens": _tokens(held_out),
            "cut_samples": sum(row.cut for row in rows),
            "skipped_lines": len(broken.messages),
        },
        known,
        held_out_records,
    )
    _check_rows(path, corpus, settings)
    return corpus


def _lay_out(
    pipeline: Any, layout: str, rows: list[Row], length: int, pad_id: int, ignore_index: int
) -> dict[str, Array]:
    ids, labels = [row.ids for row in rows], [row.labels for row in rows]
    if layout == "padded":
        if any(label.ndim == 0 for label in labels):  # one label per row, not per token
            return pipeline.pad_rows(ids, length, pad_id, ignore_index) | {"labels": np.array(labels, np.int32)}
        return pipeline.pad_rows(ids, length, pad_id, ignore_index, labels)
    none = np.zeros(0, np.int32)
    return {
        name: pipeline.windows(np.concatenate([*part, none]), length)
        for name, part in (("ids", ids), ("labels", labels))
    }


def _tokens(rows: list[Row]) -> int:
    return sum(len(row.ids) for row in rows)


def read_labelled(path: Path, settings: DataConfig, labels: Sequence[str], broken: BrokenLines) -> list[Record]:
    """Read texts whose labels a classifier knows. Raises GPT2Error, naming file and line."""
    kept = []
    source = read_source(path, settings.format, settings.encoding)
    for record in records_of(source, _fields(settings), True, broken, settings.label):
        with broken.at(record.where):
            label_number(record.values[settings.label], labels)
            kept.append(record)
    return kept


def warn_of_one_label(path: Path, labels: Sequence[str]) -> None:
    """Warn if held-out samples, of these labels, all have the same one."""
    if len(set(labels)) == 1:
        warnings.warn(
            f"the held-out samples of {path} ({len(labels)}) all have one label, {labels[0]!r}: accuracy on them says "
            "little; hold out more (held_out), or give --test a file with every label",
            stacklevel=3,
        )


def _learnt_text(values: Mapping[str, str], template: Template | None, field: str) -> str:
    """The part of a sample that a tokenizer is trained on: everything except special tokens."""
    if template is None:
        return values[field]
    return "".join(part.fill(values) for part in template.parts if part.text not in SPECIAL)


def _fields(settings: DataConfig) -> tuple[str, ...]:
    """The required fields of a record."""
    template = settings.layout_template()
    if template is not None:
        return template.fields
    return (settings.field, settings.label) if settings.label else (settings.field,)


def _distinct(path: Path, labels: list[str]) -> list[str]:
    """The distinct labels, sorted, numbers by value. Raises GPT2Error if there are fewer than two."""
    distinct = set(labels)
    if len(distinct) < 2:
        raise GPT2Error(f"{path} has one label only, {labels[0]!r}: a classifier needs two to tell apart")
    numbers = all(label.isascii() and label.isdigit() for label in distinct)
    return sorted(distinct, key=lambda label: (int(label) if numbers else 0, label))


def _check_rows(path: Path, corpus: Corpus, settings: DataConfig) -> None:
    facts = corpus.facts
    for part, rows in (("training", corpus.training), ("held_out", corpus.held_out)):
        if len(rows["ids"]) == 0 and (part == "training" or settings.held_out > 0):
            raise GPT2Error(f"{path} is too short: {_too_little(part, facts, settings.weights)}")


def _too_little(part: str, facts: Mapping[str, Any], weights: Mapping[str, int]) -> str:
    """Why a part has no row, and what to do: padded rows are as many as samples, packed ones take tokens to fill."""
    named, share = ("training", "smaller") if part == "training" else ("held-out", "larger")
    held_out = f"a {share} held_out in the settings" + (" (0: none)" if part == "training" else "")
    if facts["layout"] == "padded":
        other = ", other weights" if weights else ""
        found = counted(facts["samples"], "sample")
        return f"of {found} none is left for the {named} part: give more{other}, or {held_out}"
    tokens = counted(facts[f"{part}_tokens"], "token")
    return (
        f"{tokens} in the {named} part {'makes' if facts[f'{part}_tokens'] == 1 else 'make'} no row of "
        f"{facts['block_size']}: give more text, a smaller block_size, or {held_out}"
    )
