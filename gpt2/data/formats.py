"""How a data file is encoded and laid out. Both are found by looking into the file; its name is a hint."""

import codecs
import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpt2.errors import GPT2Error

TABLES: dict[str, dict[str, Any]] = {
    "csv": {"delimiter": ","},
    "tsv": {"delimiter": "\t"},
    "tsv-plain": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},  # a quote is a character like any other
}
FORMATS = ("text", "jsonl", "json", *TABLES)
NAMED = {".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv"}
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that could not be decoded
OBJECT, ARRAY = re.compile(r'\s*\{\s*"'), re.compile(r"\s*\[\s*\{")
HEADING = re.compile(r"[^\W\d]([\w .-]{0,38}\w)?")  # a cell that may name a column
NUMBER, LETTER = re.compile(r"-?\d+(\.\d+)?"), re.compile(r"[^\W\d_]")
LOOKED_AT = 20  # rows of a file that may be a table
LEAST = 3  # rows of a table that no heading announces


class Source(NamedTuple):
    """A data file: its bytes, and its text without a byte-order mark and with "\\n" alone as line end.

    Bytes that could not be decoded are lone surrogates, which `whole` refuses.
    """

    path: Path
    raw: bytes
    text: str
    form: str
    """One of FORMATS."""
    encoding: str


def read_source(path: Path, form: str | None = None, encoding: str | None = None) -> Source:
    """Read a file. form: one of FORMATS; None: looked at. encoding: None: that of the byte-order mark, or UTF-8.

    A byte-order mark goes before `encoding`, as in the WHATWG Encoding Standard.
    Raises GPT2Error if the file cannot be read, is empty, or has an unknown encoding.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise GPT2Error(f"cannot read the data {path}: {error.strerror}") from error
    codec = next((name for mark, name in MARKS.items() if raw.startswith(mark)), encoding or "utf-8")
    try:
        text = raw.decode(codec, "surrogateescape").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise GPT2Error(f"{path} is not {codec.upper()}: {error.reason} at byte {error.start}") from error
    except LookupError as error:
        raise GPT2Error(f"unknown encoding {codec!r}: expected one such as utf-8, gb18030, gbk or utf-16") from error
    if not text.strip():
        raise GPT2Error(f"{path} is empty")
    return Source(path, raw, text, form or _looked_at(path, text), codec)


def whole(source: Source, text: str, line: int = 1) -> str:
    """The text, which begins at this line of the source. Raises GPT2Error, naming the line, for an undecoded byte."""
    found = ESCAPED.search(text)
    if found is None:
        return text
    line, byte = line + text.count("\n", 0, found.start()), ord(found[0]) - 0xDC00
    raise GPT2Error(
        f"{source.path} is not {source.encoding.upper()}: line {line} holds the byte 0x{byte:02x}; save it as UTF-8, "
        "or give its --encoding, such as gb18030, to a command that takes one"
    )


def rows(source: Source) -> list[tuple[int, list[str]]]:
    """The rows of a table that are not blank, each with the number of its first line, by the rules of Python's csv.

    Raises GPT2Error where quotes do not pair, as nothing then says where the next row begins.
    """
    with _any_size(source.text):
        return [(line, cells) for line, cells in _rows(source) if "".join(cells).strip()]


@contextlib.contextmanager
def _any_size(text: str) -> Iterator[None]:
    """A context in which a cell may be as long as the text; csv refuses more than 131072 characters."""
    before = csv.field_size_limit(len(text) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parsed(text: str, form: str, limit: int | None = None) -> list[list[str]]:
    """The first rows of a table that are not empty. Raises csv.Error where quotes do not pair."""
    with _any_size(text):
        reader = csv.reader(io.StringIO(text), strict=True, **TABLES[form])
        return list(itertools.islice(filter(None, reader), limit))


def _rows(source: Source) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(source.text), strict=True, **TABLES[source.form])
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            plain = ", or give --format tsv-plain if quotes mean nothing" if source.form == "tsv" else ""
            raise GPT2Error(
                f"{source.path}, line {line} is not {source.form.upper()}: {error}: put a cell that holds quotes or "
                f"line breaks in quotes, and double those within it{plain}"
            ) from error


def _looked_at(path: Path, text: str) -> str:
    """The format of a file: JSON by its first characters, a table by its name or by rows of one width."""
    named = NAMED.get(path.suffix.lower(), "")
    if named == "tsv":
        return _with_tabs(text)
    if named == "csv":
        return named
    if ARRAY.match(text) or (path.suffix.lower() == ".json" and text.lstrip().startswith("[")):
        return "json"
    if named or OBJECT.match(text):
        return "jsonl"
    if _is_table(text, "tsv"):
        return _with_tabs(text)
    return "csv" if _is_table(text, "csv") else "text"


def _with_tabs(text: str) -> str:
    """The format of a table with tabs: plain if each line is a row, of one width, and quotes would join some of them.

    That is, quotes do not pair, or do so in rows of another width or around both line breaks and tabs.
    """
    if len({line.count("\t") for line in text.split("\n") if line.strip()}) > 1:
        return "tsv"
    try:
        found = _parsed(text, "tsv")
    except csv.Error:
        return "tsv-plain"
    joined = any("\n" in cell and "\t" in cell for cells in found for cell in cells)
    return "tsv-plain" if joined or len(set(map(len, found))) > 1 else "tsv"


def _is_table(text: str, form: str) -> bool:
    """Whether the first rows have one width, of at least two cells; with commas, whether it takes more than chance.

    A row of tabs that begins with one is indented text. Lines of verse may have one comma each, in Chinese without a
    space after it. So rows of commas must follow what can be a heading, or be such as `_are_records` knows.
    """
    found: list[list[str]] = []
    for each in (form, "tsv-plain") if form == "tsv" else (form,):
        with contextlib.suppress(csv.Error):
            found = found or _parsed(text, each, LOOKED_AT)
    widths, first = {len(cells) for cells in found}, found[0] if found else []
    if len(first) < 2 or len(widths) > 1:
        return False
    if form == "tsv":
        return bool(first[0].strip())
    headed = len(found) > 1 and all(map(HEADING.fullmatch, first)) and len(set(first)) == len(first)
    return headed or _are_records(found)


def _are_records(found: list[list[str]]) -> bool:
    """Whether rows of one width can hardly be text: quotes make them so, or a column is a number in every row.

    Beside that column another holds letters in every row: numbers alone may be a text to learn. Numbers of three digits
    may be thousands. In prose, a space follows a comma.
    """
    if len(found) < LEAST or any(cell != cell.strip() for cells in found for cell in cells):
        return False
    columns = list(zip(*found, strict=True))
    numbers = [all(map(NUMBER.fullmatch, column)) and set(map(len, column)) != {3} for column in columns]
    words = [all(map(LETTER.search, column)) for column in columns]
    return any("," in cell for cells in found for cell in cells) or (any(numbers) and any(words))
