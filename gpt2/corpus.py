"""What a run learns from: a file of text, JSON lines or TSV becomes rows of token ids, some of them held out."""

import codecs
import contextlib
import dataclasses
import hashlib
import importlib
import importlib.util
import itertools
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpt2.errors import GPT2Error
from gpt2.tasks import SCORES, SPECIAL, TASK, Template, find_template
from gpt2.tokenizer import END_OF_TEXT, KINDS, encode, load_tokenizer, train_tokenizer

Array = NDArray[Any]
LAYOUTS = ("packed", "padded")
PIPELINES = {"numpy": "reference.data", "mindspore": "ms_backend.data"}
FORMATS = {".jsonl": "JSON lines", ".json": "JSON lines", ".tsv": "TSV"}  # anything else is text


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How a file becomes rows. Raises GPT2Error, naming the field, for a value outside its range."""

    layout: str | None = None
    """"packed": one stream of tokens, cut into windows; "padded": a row for each sample. None: packed for text."""
    block_size: int | None = None
    """Tokens of a row. None: as many as the model's context."""
    field: str = "text"
    """Of a JSON object; of TSV the column, by its heading or, if the file has no such heading, by number from 1."""
    held_out: float = 0.1
    """The share that is not learnt from: the last tokens of packed text, else the last samples."""
    tokenizer: str = ""
    """"characters", "bytes", "bpe", or a path of a tokenizer. "": the model's own, or characters if it has none."""
    pipeline: str = "numpy"
    """"numpy" or "mindspore": the same arrays in the same order."""
    template: str = ""
    """How a record of several fields becomes one text: "{task}: {input}\\n{output}", or a name of `gpt2 tasks`."""
    output: str | None = None
    """The template's field that is the answer. None: that of the named template, or "output"."""
    truncate: str | None = None
    """The only field that is cut if a padded sample is too long. None: that of the named template, or "input"."""
    score: str = "output"
    """With a template, "output": the output and its end are scored; "all": every token."""
    weights: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How often the rows of a task, by the field "task", are repeated to be learnt from; 0 leaves them out."""
    label: str = ""
    """The field that has the label of a text: a classifier is trained, on padded rows of the field `field`."""
    skip_bad: bool = False
    """Leave broken lines out and count them, instead of stopping at the first."""

    def __post_init__(self) -> None:
        size, share = self.block_size, self.held_out
        self._require("layout", self.layout in (None, *LAYOUTS), f"null or one of {', '.join(LAYOUTS)}")
        self._require("block_size", size is None or (type(size) is int and size >= 2),
                      "null (the model's context) or an integer of at least 2")  # fmt: skip
        self._require("held_out", type(share) in (int, float) and 0 <= share < 1, "a number from 0 to below 1")
        self._require("pipeline", self.pipeline in PIPELINES, f"one of {', '.join(PIPELINES)}")
        for field in ("field", "tokenizer", "template", "label"):
            self._require(field, isinstance(getattr(self, field), str), "a string")
        for field in ("output", "truncate"):
            self._require(field, isinstance(getattr(self, field), str | None), "null or a string")
        self._require("score", self.score in SCORES, f"one of {', '.join(SCORES)}")
        self._require("skip_bad", isinstance(self.skip_bad, bool), "true or false")
        weights: Any = self.weights
        weighted = isinstance(weights, Mapping) and all(
            isinstance(task, str) and type(weight) is int and weight >= 0 for task, weight in weights.items()
        )
        self._require("weights", weighted, "an object of tasks and whole numbers from 0")
        for field in ("output", "truncate", "weights"):
            self._require(field, bool(self.template) or not getattr(self, field), "left out where there is no template")
        if self.label:
            self._require("layout", self.layout != "packed", "null or 'padded' where there are labels")
            self._require("template", not self.template, "left out where there are labels")
            self._require("label", self.label != self.field, "another field than 'field', which has the text")
        template = self.layout_template()
        if template is not None and self.weights and TASK not in template.fields:
            raise GPT2Error(
                f"data field 'weights' needs a template with the field {TASK!r}, but it is {template.text!r}"
            )

    def layout_template(self) -> Template | None:
        """The template that is asked for, or None. Raises GPT2Error if it is none."""
        return find_template(self.template, self.output, self.truncate) if self.template else None

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise GPT2Error(f"data field {field!r} must be {expected}, but is {getattr(self, field)!r}")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Rows to learn from and rows to be judged by: ids and labels, (R, T) int32, if padded attention_mask too.

    Of a classifier the labels are (R,) int32, places in `labels`.
    """

    training: dict[str, Array]
    held_out: dict[str, Array]
    tokenizer: Tokenizer
    fingerprint: str
    """SHA-256 of the file's bytes."""
    facts: dict[str, Any]
    """What was found, as JSON takes it."""
    labels: tuple[str, ...] = ()
    """What a classifier tells apart; none for a language model."""
    held_out_records: tuple["Record", ...] = ()
    """What the rows are made of that are held out; none of a text that is one stream."""


class Record(NamedTuple):
    """What one sample is made of: its place in the file, for messages, and its fields."""

    where: str
    values: dict[str, str]


class Row(NamedTuple):
    """A sample as tokens: ids and labels (N,) int32, its task if it has one, and whether it was cut to fit.

    Of a classifier labels is one number, ().
    """

    ids: Array
    labels: Array
    task: str = ""
    cut: bool = False
    record: Record | None = None


class BrokenLines:
    """What becomes of broken lines: the first one stops the reading, or all are left out and their messages kept."""

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.messages: list[str] = []

    @contextlib.contextmanager
    def at(self, where: str = "") -> Iterator[None]:
        """Read one line; where, if anything, is put before the message of what fails."""
        try:
            yield
        except GPT2Error as error:
            message = f"{where}: {error}" if where else str(error)
            if not self.skip:
                raise GPT2Error(message) from error
            self.messages.append(message)


def get_pipeline(name: str) -> Any:
    """The file of the mirror that makes the rows and micro-batches: its functions windows, pad_rows, batches, order.

    Raises GPT2Error if the name is unknown, or MindSpore is asked for and absent.
    """
    if name not in PIPELINES:
        raise GPT2Error(f"unknown pipeline {name!r}: choose one of {', '.join(PIPELINES)}")
    if name == "mindspore" and importlib.util.find_spec("mindspore") is None:
        raise GPT2Error("pipeline 'mindspore' needs MindSpore: pip install 'gpt2-parity[mindspore]', or take 'numpy'")
    return importlib.import_module(PIPELINES[name])


def read_corpus(
    path: Path, settings: DataConfig, n_positions: int, tokenizer: Tokenizer | None = None,
    vocab_size: int | None = None, pad_id: int | None = None, ignore_index: int = -100,
    labels: Sequence[str] | None = None,
) -> Corpus:  # fmt: skip
    """Read, tokenize and lay out a file.

    tokenizer is the model's own, or None. vocab_size is the model's, or None if it may follow from the tokenizer
    ("bpe" is trained to it). pad_id None: pads are 0, which is as good as any, for nothing looks at them. A sample ends
    with the end-of-text token if the tokenizer has one, as those have that are trained here for a template; packed
    samples otherwise with a line break. Samples without a token are left out. labels are those that a classifier has
    already; None: those of the file, in order.
    Raises GPT2Error, naming file and line, for what cannot be read, and for too little to fill a row.
    """
    length = n_positions if settings.block_size is None else settings.block_size
    if length > n_positions:
        raise GPT2Error(f"block_size {length} exceeds the model's context: expected at most {n_positions}")
    pipeline, raw, template = get_pipeline(settings.pipeline), _read(path), settings.layout_template()
    form = _format(path)
    layout = settings.layout or ("packed" if form == "text" else "padded")
    as_stream = form == "text" and layout == "packed" and template is None
    broken = BrokenLines(settings.skip_bad and not as_stream)
    if as_stream:
        records = [Record(str(path), {settings.field: _decode(path, raw)})]
    else:
        is_task = template is not None or bool(settings.label)
        records = _records(path, raw, _fields(settings), is_task, broken, settings.label)
    texts = [_learnt_text(record.values, template, settings.field) for record in records]
    between = "\n" if layout == "packed" and not as_stream else ""
    tokenizer = _tokenizer(settings, [*texts, between], tokenizer, vocab_size, pad_id)
    limit = length if layout == "padded" else None
    known: tuple[str, ...] = ()
    if settings.label:
        known = tuple(labels or _distinct(path, [record.values[settings.label] for record in records]))
        rows = _labelled_rows(records, settings, tokenizer, length, known, broken)
    else:
        end = [] if as_stream else _end(tokenizer, between)
        rows = _rows(records, settings, tokenizer, end, limit, ignore_index, broken)
    if broken.messages:
        left_out = f"{len(broken.messages)} of the lines of {path} are left out"
        warnings.warn(f"{left_out}; the first: {broken.messages[0]}", stacklevel=2)
    training, held_out = (_split_stream if as_stream else _split)(rows, settings.held_out)
    training = _weighted(path, training, settings.weights, {row.task for row in rows})
    pad = 0 if pad_id is None else pad_id
    held_out_records = tuple(row.record for row in held_out if row.record is not None)
    corpus = Corpus(
        _lay_out(pipeline, layout, training, length, pad, ignore_index),
        _lay_out(pipeline, layout, held_out, length, pad, ignore_index),
        tokenizer, hashlib.sha256(raw).hexdigest(),
        {
            "format": form, "layout": layout, "block_size": length, "vocabulary": tokenizer.get_vocab_size(),
            "samples": len(rows), "training_tokens": _tokens(training), "held_out_tokens": _tokens(held_out),
            "cut_samples": sum(row.cut for row in rows), "skipped_lines": len(broken.messages),
        },
        known, held_out_records,
    )  # fmt: skip
    _check_rows(path, corpus, settings)
    return corpus


def _lay_out(
    pipeline: Any, layout: str, rows: list[Row], length: int, pad_id: int, ignore_index: int
) -> dict[str, Array]:  # fmt: skip
    ids, labels = [row.ids for row in rows], [row.labels for row in rows]
    if layout == "padded":
        if any(each.ndim == 0 for each in labels):  # a label for each row, not for each token
            return pipeline.pad_rows(ids, length, pad_id, ignore_index) | {"labels": np.array(labels, np.int32)}
        return pipeline.pad_rows(ids, length, pad_id, ignore_index, labels)
    none = np.zeros(0, np.int32)
    return {
        name: pipeline.windows(np.concatenate([*part, none]), length)
        for name, part in (("ids", ids), ("labels", labels))
    }


def _tokens(rows: list[Row]) -> int:
    return sum(len(row.ids) for row in rows)


def read_records(path: Path, template: Template, broken: BrokenLines) -> list[Record]:
    """The records that a template is filled with: one for each line that is not blank.

    Raises GPT2Error, naming file and line, for what cannot be read.
    """
    return _records(path, _read(path), template.fields, True, broken)


def read_texts(path: Path, field: str, broken: BrokenLines) -> list[Record]:
    """Texts for a model to work on, under that field: one a line, or that field of JSON lines or TSV.

    Raises GPT2Error, naming file and line, for what cannot be read, and for an empty text in JSON lines or TSV.
    """
    return _records(path, _read(path), (field,), _format(path) != "text", broken)


def read_labelled(path: Path, settings: DataConfig, labels: Sequence[str], broken: BrokenLines) -> list[Record]:
    """Texts with labels that a classifier knows. Raises GPT2Error, naming file and line."""
    kept = []
    for record in _records(path, _read(path), _fields(settings), True, broken, settings.label):
        with broken.at(record.where):
            _number_of(record.values[settings.label], labels)
            kept.append(record)
    return kept


def classifier_ids(tokenizer: Tokenizer, text: str, length: int) -> tuple[Array, bool]:
    """What a classifier reads of a text, (N,) int32 with N at most length, and whether the text was cut for that.

    BERT's [CLS] and [SEP] stand around the text, if the tokenizer has both; the text alone is cut, at its end.
    Raises GPT2Error if no token of the text is there.
    """
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    around = ([], []) if first is None or last is None else ([first], [last])
    ids, room = encode(tokenizer, text, add_special_tokens=False), length - sum(map(len, around))
    if not ids or room < 1:
        raise GPT2Error("the text holds no token" if not ids else f"a row of {length} has no room for a text")
    return np.array([*around[0], *ids[:room], *around[1]], np.int32), len(ids) > room


def _learnt_text(values: Mapping[str, str], template: Template | None, field: str) -> str:
    """What a tokenizer is trained on, of a sample: all but the tokens that are single ones in any case."""
    if template is None:
        return values[field]
    return "".join(part.fill(values) for part in template.parts if part.text not in SPECIAL)


def _fields(settings: DataConfig) -> tuple[str, ...]:
    """The fields that a record must have."""
    template = settings.layout_template()
    if template is not None:
        return template.fields
    return (settings.field, settings.label) if settings.label else (settings.field,)


def _distinct(path: Path, labels: list[str]) -> list[str]:
    """The labels that there are, in order; numbers by their size. Raises GPT2Error if there are not two."""
    found = set(labels)
    if len(found) < 2:
        raise GPT2Error(f"{path} has one label only, {labels[0]!r}: a classifier needs two to tell apart")
    numbers = all(label.isascii() and label.isdigit() for label in found)
    return sorted(found, key=lambda label: (int(label) if numbers else 0, label))


def _number_of(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        some = ", ".join(map(repr, labels[:10])) + (", ..." if len(labels) > 10 else "")
        raise GPT2Error(f"the label {label!r} is none of those that the classifier has: {some}")
    return labels.index(label)


def _labelled_rows(
    records: list[Record], settings: DataConfig, tokenizer: Tokenizer, length: int, labels: Sequence[str],
    broken: BrokenLines,
) -> list[Row]:  # fmt: skip
    """A row for each record, with the number of its label."""
    rows = []
    for record in records:
        with broken.at(record.where):
            number = _number_of(record.values[settings.label], labels)
            ids, cut = classifier_ids(tokenizer, record.values[settings.field], length)
            rows.append(Row(ids, np.array(number, np.int32), cut=cut, record=record))
    return rows


def _check_rows(path: Path, corpus: Corpus, settings: DataConfig) -> None:
    facts = corpus.facts
    for part, rows in (("training", corpus.training), ("held_out", corpus.held_out)):
        if len(rows["ids"]) == 0 and (part == "training" or settings.held_out > 0):
            raise GPT2Error(
                f"{path} is too short: {facts[f'{part}_tokens']} tokens in the {part} part make no row of "
                f"{facts['block_size']} ({facts['layout']}): give more data, or another block_size or held_out"
            )


def _read(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise GPT2Error(f"cannot read the data {path}: {error.strerror}") from error
    if not raw.strip():
        raise GPT2Error(f"{path} is empty: expected text, JSON lines (.jsonl, .json) or TSV (.tsv)")
    return raw


def _format(path: Path) -> str:
    return FORMATS.get(path.suffix.lower(), "text")


def _decode(path: Path, raw: bytes, number: int = 1) -> str:
    """The text of a file, or of its line of that number."""
    try:
        return (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).decode()  # some editors put that first
    except UnicodeDecodeError as error:
        line = number + error.object.count(b"\n", 0, error.start)
        byte = error.object[error.start]
        raise GPT2Error(f"{path} is not UTF-8: line {line} holds the byte 0x{byte:02x}; save it as UTF-8") from error


def _records(
    path: Path, raw: bytes, fields: Sequence[str], is_task: bool, broken: BrokenLines, label: str = ""
) -> list[Record]:  # fmt: skip
    """A record for each line that is not blank; of text the line itself is the one field, of a task none is empty.

    The field `label` may be a whole number in JSON.
    """
    form, lines, records = _format(path), _lines(path, raw, broken), []
    if form == "text" and is_task:
        raise GPT2Error(f"{path} is text without fields: a template needs JSON lines (.jsonl, .json) or TSV (.tsv)")
    columns: list[int] = []
    first = next(lines, None) if form == "TSV" else None
    if first is not None:
        columns, has_heading = _columns(path, first[1].split("\t"), fields)
        lines = lines if has_heading else itertools.chain([first], lines)
    for number, line in lines:
        where = f"{path}, line {number}"
        with broken.at():
            if form == "JSON lines":
                values = _json_values(where, line, fields, is_task, label)
            elif form == "TSV":
                values = dict(zip(fields, _tsv_values(where, line, fields, columns), strict=True))
            else:
                values = {fields[0]: line}
            if is_task:
                _refuse_empty(where, values)
            records.append(Record(where, values))
    if not records:
        raise GPT2Error(_nothing(path, form, broken))
    return records


def _nothing(path: Path, form: str, broken: BrokenLines) -> str:
    if broken.messages:
        return f"{path} holds no line that is whole; the first: {broken.messages[0]}"
    return f"{path} holds no samples{' but a heading' if form == 'TSV' else ''}: give it at least one"


def _lines(path: Path, raw: bytes, broken: BrokenLines) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(raw.split(b"\n"), 1):
        with broken.at():
            text = _decode(path, line, number)
            if text.strip():
                yield number, text.removesuffix("\r")


def _refuse_empty(where: str, values: Mapping[str, str]) -> None:
    for field, value in values.items():
        if not value.strip():
            raise GPT2Error(f"{where} has nothing in {field!r}: fill it in, or leave the line out")


def _json_values(where: str, line: str, fields: Sequence[str], is_task: bool, label: str) -> dict[str, str]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        expected = "one object per line" if is_task else "one object or string per line"
        raise GPT2Error(f"{where} is not valid JSON ({error}): expected {expected}") from error
    if isinstance(value, str) and not is_task:
        value = {fields[0]: value}
    if not isinstance(value, dict):
        expected = "an object" if is_task else f"a string, or an object with one as {fields[0]!r}"
        raise GPT2Error(f"{where} holds a value of type {type(value).__name__}: expected {expected}")
    for field in fields:
        if field not in value:
            raise GPT2Error(f"{where} has no field {field!r}: it has {', '.join(map(repr, value)) or 'none'}")
        if field == label and type(value[field]) is int:
            value[field] = str(value[field])
        _check_string(where, field, value[field])
    return {field: value[field] for field in fields}


def _check_string(where: str, field: str, value: Any) -> None:
    if not isinstance(value, str):
        came = type(value).__name__
        raise GPT2Error(f"{where} holds a value of type {came}: expected a string, or an object with one as {field!r}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise GPT2Error(f"{where} holds half a character (a lone surrogate such as \\ud800): mend or remove the line")


def _columns(path: Path, heading: list[str], fields: Sequence[str]) -> tuple[list[int], bool]:
    """The column of each field, from 0, and whether the first line is a heading: it is if it has one of the fields."""
    found = []
    for field in fields:
        if field in heading:
            found.append(heading.index(field))
        elif field.isascii() and field.isdigit() and int(field) >= 1:
            found.append(int(field) - 1)
        else:
            raise GPT2Error(
                f"{path} has no column {field!r}: its first line has {', '.join(map(repr, heading))}; name one of "
                "these, or give the number of a column, from 1"
            )
    return found, any(field in heading for field in fields)


def _tsv_values(where: str, line: str, fields: Sequence[str], columns: Sequence[int]) -> Iterator[str]:
    cells = line.split("\t")
    for field, column in zip(fields, columns, strict=True):
        if len(cells) <= column:
            raise GPT2Error(f"{where} ends at column {len(cells)}, before column {field!r} ({column + 1})")
        yield cells[column]


def _tokenizer(
    settings: DataConfig, texts: Sequence[str], own: Tokenizer | None, vocab_size: int | None, pad_id: int | None
) -> Tokenizer:
    """The tokenizer that the settings ask for; its ids, and those of pads, must lie in the vocabulary."""
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
    needed = max(tokenizer.get_vocab().values(), default=-1) + 1
    if vocab_size is not None and needed > vocab_size:
        raise GPT2Error(
            f"the tokenizer ({chosen}) has {needed} ids, but the model's vocab_size is {vocab_size}: enlarge it, "
            "or take another tokenizer"
        )
    if pad_id is not None and not 0 <= pad_id < (needed if vocab_size is None else vocab_size):
        raise GPT2Error(f"pad id {pad_id} is outside the vocabulary: expected 0 to {(vocab_size or needed) - 1}")
    return tokenizer


def _special(settings: DataConfig) -> list[str]:
    """The single tokens that a tokenizer needs beside those of the texts.

    With a template one that says where an output ends, and those that it names; with labels one to fill rows up with.
    """
    if not settings.template and not settings.label:
        return []
    template = settings.layout_template()
    named = {part.text for part in template.parts} if template is not None else set()
    return [token for token in SPECIAL if token in named or token == END_OF_TEXT]


def _end(tokenizer: Tokenizer, between: str) -> list[int]:
    """What ends a sample: the end-of-text token, or else `between`."""
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    return encode(tokenizer, between, add_special_tokens=False) if end_of_text is None else [end_of_text]


def _rows(
    records: list[Record], settings: DataConfig, tokenizer: Tokenizer, end: list[int], limit: int | None,
    ignore_index: int, broken: BrokenLines,
) -> list[Row]:  # fmt: skip
    """A row for each record that has tokens; limit: how many of them, at most, a padded one may have."""
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
    """A text in which everything is scored, cut if it is longer than limit; no row of one without a token."""
    ids = encode(tokenizer, text)
    row = np.array(ids + end, np.int32)
    return [Row(row, row, cut=limit is not None and len(row) > limit)] if ids else []


def _task_row(
    values: Mapping[str, str], template: Template, tokenizer: Tokenizer, end: list[int], limit: int | None, score: str,
    ignore_index: int,
) -> Row:  # fmt: skip
    sample = template.lay_out(values, tokenizer, end)
    fitting = sample if limit is None else sample.cut(limit, template.truncate)
    return Row(fitting.ids, fitting.labels(score, ignore_index), values.get(TASK, ""), fitting is not sample)


def _weighted(path: Path, rows: list[Row], weights: Mapping[str, int], tasks: set[str]) -> list[Row]:
    for task in weights:
        if task not in tasks:
            there = ", ".join(map(repr, sorted(tasks)))
            raise GPT2Error(f"{path} has no task {task!r}, which data field 'weights' names: it has {there}")
    return [row for row in rows for _ in range(weights.get(row.task, 1))]


def _split(rows: list[Row], held_out: float) -> tuple[list[Row], list[Row]]:
    """The samples to learn from, and the last of them, which are held out."""
    first = int(len(rows) * (1 - held_out))
    return rows[:first], rows[first:]


def _split_stream(rows: list[Row], held_out: float) -> tuple[list[Row], list[Row]]:
    """The tokens to learn from, and the last of them. Source: nanoGPT's prepare.py, which splits at the same token."""
    stream = np.concatenate([*(row.ids for row in rows), np.zeros(0, np.int32)])
    first = int(len(stream) * (1 - held_out))
    return [Row(stream[:first], stream[:first])], [Row(stream[first:], stream[first:])]
