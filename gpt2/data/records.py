"""Read records from a file of text, JSON lines or TSV. Errors name file and line."""

import codecs
import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpt2.data.templates import Template
from gpt2.errors import GPT2Error

FORMATS = {".jsonl": "JSON lines", ".json": "JSON lines", ".tsv": "TSV"}  # any other suffix is text


class Record(NamedTuple):
    """The fields of one sample, and its place in the file, for messages."""

    where: str
    values: dict[str, str]


class BrokenLines:
    """How to treat broken lines: stop at the first, or skip all of them and keep their messages."""

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.messages: list[str] = []

    @contextlib.contextmanager
    def at(self, where: str = "") -> Iterator[None]:
        """A context for reading one line; `where`, unless empty, is put before the error message."""
        try:
            yield
        except GPT2Error as error:
            message = f"{where}: {error}" if where else str(error)
            if not self.skip:
                raise GPT2Error(message) from error
            self.messages.append(message)


def read_records(path: Path, template: Template, broken: BrokenLines) -> list[Record]:
    """Read the records for a template, one for each line that is not blank.

    Raises GPT2Error, naming file and line, for unreadable data.
    """
    return records_of(path, read_data(path), template.fields, True, broken)


def read_texts(path: Path, field: str, broken: BrokenLines) -> list[Record]:
    """Read texts as records with one field: one text per line, or that field of JSON lines or TSV.

    Raises GPT2Error, naming file and line, for unreadable data, and for an empty text in JSON lines or TSV.
    """
    return records_of(path, read_data(path), (field,), format_of(path) != "text", broken)


def read_data(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise GPT2Error(f"cannot read the data {path}: {error.strerror}") from error
    if not raw.strip():
        raise GPT2Error(f"{path} is empty: expected text, JSON lines (.jsonl, .json) or TSV (.tsv)")
    return raw


def format_of(path: Path) -> str:
    return FORMATS.get(path.suffix.lower(), "text")


def decode_text(path: Path, raw: bytes, number: int = 1) -> str:
    """Decode a file, or its line of this number."""
    try:
        return (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).decode()  # some editors write it
    except UnicodeDecodeError as error:
        line = number + error.object.count(b"\n", 0, error.start)
        byte = error.object[error.start]
        raise GPT2Error(f"{path} is not UTF-8: line {line} holds the byte 0x{byte:02x}; save it as UTF-8") from error


def records_of(
    path: Path, raw: bytes, fields: Sequence[str], is_task: bool, broken: BrokenLines, label: str = ""
) -> list[Record]:
    """One record for each line that is not blank. A text line is the only field; fields of a task must not be empty.

    The field `label` may be an integer in JSON.
    """
    form, lines, records = format_of(path), _lines(path, raw, broken), []
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
            text = decode_text(path, line, number)
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
        raise GPT2Error(f"{where} holds half a character (a lone surrogate such as \\ud800): fix or remove the line")


def _columns(path: Path, heading: list[str], fields: Sequence[str]) -> tuple[list[int], bool]:
    """The column of each field, from 0, and whether the first line is a heading, that is, names one of the fields."""
    columns = []
    for field in fields:
        if field in heading:
            columns.append(heading.index(field))
        elif field.isascii() and field.isdigit() and int(field) >= 1:
            columns.append(int(field) - 1)
        else:
            raise GPT2Error(
                f"{path} has no column {field!r}: its first line has {', '.join(map(repr, heading))}; name one of "
                "these, or give the number of a column, from 1"
            )
    return columns, any(field in heading for field in fields)


def _tsv_values(where: str, line: str, fields: Sequence[str], columns: Sequence[int]) -> Iterator[str]:
    cells = line.split("\t")
    for field, column in zip(fields, columns, strict=True):
        if len(cells) <= column:
            raise GPT2Error(f"{where} ends at column {len(cells)}, before column {field!r} ({column + 1})")
        yield cells[column]
