"""Read records from a file of text, JSON or a table. Errors name file and line."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpt2.data.formats import TABLES, Source, read_source, rows, whole
from gpt2.data.templates import Template
from gpt2.errors import GPT2Error
from gpt2.json_input import as_type, object_with, parse_json


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

    def left_out(self, what: str, path: Path) -> str:
        """A note that these of the file were skipped, with the first message."""
        are = "is" if len(self.messages) == 1 else "are"
        return f"{len(self.messages)} of the {what} of {path} {are} left out; the first: {self.messages[0]}"


def read_records(
    path: Path, template: Template, broken: BrokenLines, form: str | None = None, encoding: str | None = None
) -> list[Record]:
    """Read the records for a template; blank lines hold none. form, encoding: as in `read_source`.

    Raises GPT2Error, naming file and line, for unreadable data.
    """
    return records_of(read_source(path, form, encoding), template.fields, True, broken)


def read_texts(
    path: Path, field: str, broken: BrokenLines, form: str | None = None, encoding: str | None = None
) -> list[Record]:
    """Read texts as records with one field: one text per line, or that field of JSON or of a table.

    Raises GPT2Error, naming file and line, for unreadable data, and for an empty text in JSON or in a table.
    """
    source = read_source(path, form, encoding)
    return records_of(source, (field,), source.form != "text", broken, ask="--field")


def records_of(
    source: Source, fields: Sequence[str], is_task: bool, broken: BrokenLines, label: str = "", ask: str = ""
) -> list[Record]:
    """The records of a source. A text line is the only field; fields of a task must not be empty.

    The field `label` may be an integer in JSON. ask: the option that names the field of a text, for messages.
    """
    if source.form == "text" and is_task:
        raise GPT2Error(
            f"{source.path} is text without fields: a template needs JSON lines, a JSON array, CSV or TSV (--format)"
        )
    hint = ""
    if ask and source.form != "text":
        kind = source.form.upper() if source.form in TABLES else "JSON"
        hint = f"; it looks like {kind}: name the texts with {ask}, or take the file as it is with --format text"
    items = _items(source, fields, is_task, label, hint, broken)
    records = []
    for where, values in items:
        with broken.at():
            if is_task:
                _refuse_empty(where, values)
            records.append(Record(where, values))
    if not records:
        raise GPT2Error(_nothing(source, broken))
    return records


def has_fields(source: Source, fields: Sequence[str]) -> bool:
    """Whether a sample of the source has all of these fields; lines of text have none."""
    if source.form == "text":
        return False
    try:
        return next(_items(source, fields, True, "", "", BrokenLines(skip=True)), None) is not None
    except GPT2Error:
        return False


def _items(
    source: Source, fields: Sequence[str], is_task: bool, label: str, hint: str, broken: BrokenLines
) -> Iterator[tuple[str, dict[str, str]]]:
    """The place and the fields of every line, element or row that is whole."""
    if source.form in TABLES:
        yield from _of_table(source, fields, hint, broken)
        return
    kind: Any = object_with({field: str | int if field == label else str for field in fields})
    for where, item in found_in(source, broken):
        with broken.at():
            if source.form == "text":
                yield where, {fields[0]: item}
                continue
            found = _json(where, item, kind, is_task, source.form == "json", hint)
            yield where, {fields[0]: found} if isinstance(found, str) else {name: str(found[name]) for name in fields}


def _json(where: str, item: Any, kind: Any, is_task: bool, is_parsed: bool, hint: str) -> Any:
    """The typed value of a line or an element. Where a sample is no task, it may be a string, the only field."""
    chosen = kind if is_task else kind | str
    if is_parsed:
        return as_type(item, chosen, where, hint)
    return parse_json(item, chosen, where, f"; expected one object {'' if is_task else 'or string '}per line{hint}")


def found_in(source: Source, broken: BrokenLines) -> Iterator[tuple[str, Any]]:
    """Yield (place, item): each line that is not blank, as text; or each element of a JSON array, parsed."""
    if source.form == "json":
        listed: list[Any] = parse_json(whole(source, source.text), list[Any], str(source.path))
        yield from ((f"{source.path}, record {number}", item) for number, item in enumerate(listed, 1))
        return
    for number, line in enumerate(source.text.split("\n"), 1):
        if line.strip():
            with broken.at():
                yield f"{source.path}, line {number}", whole(source, line, number)


def _nothing(source: Source, broken: BrokenLines) -> str:
    if broken.messages:
        return f"{source.path} holds no line that is whole; the first: {broken.messages[0]}"
    return f"{source.path} holds no samples{' but a heading' if source.form in TABLES else ''}: give it at least one"


def _refuse_empty(where: str, values: Mapping[str, str]) -> None:
    for field, value in values.items():
        if not value.strip():
            raise GPT2Error(f"{where} has nothing in {field!r}: fill it in, or leave the line out")


def _of_table(
    source: Source, fields: Sequence[str], hint: str, broken: BrokenLines
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table after its heading, if its first row is one, that is, names one of the fields."""
    table = rows(source)
    heading = table[0][1]
    columns = _columns(source, heading, fields, hint)
    for number, cells in table[1:] if set(fields) & set(heading) else table:
        where = f"{source.path}, line {number}"
        with broken.at():
            whole(source, "".join(cells), number)
            if any(cell.strip() for cell in cells[len(heading) :]):
                raise GPT2Error(
                    f"{where} has {len(cells)} cells, but the first row {len(heading)}: put a cell that holds the "
                    "separator in quotes"
                )
            yield where, _values(where, cells, fields, columns)


def _columns(source: Source, heading: Sequence[str], fields: Sequence[str], hint: str) -> list[int]:
    """The column of each field, from 0."""
    columns = []
    for field in fields:
        if field in heading:
            columns.append(heading.index(field))
        elif field.isascii() and field.isdigit() and int(field) >= 1:
            columns.append(int(field) - 1)
        else:
            raise GPT2Error(
                f"{source.path} has no column {field!r}: its first line has {', '.join(map(repr, heading))}; name one "
                f"of these, or give the number of a column, from 1{hint}"
            )
    return columns


def _values(where: str, cells: Sequence[str], fields: Sequence[str], columns: Sequence[int]) -> dict[str, str]:
    values = {}
    for field, column in zip(fields, columns, strict=True):
        if len(cells) <= column:
            raise GPT2Error(f"{where} ends at column {len(cells)}, before column {field!r} ({column + 1})")
        values[field] = cells[column]
    return values
