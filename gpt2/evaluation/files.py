"""Read the files of evaluation tasks. Errors name file and line, or file and place in a JSON document."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error

JSON_LINES = (".jsonl", ".json")


def read_bytes(path: Path) -> bytes:
    """The file's bytes without a byte order mark. Raises GPT2Error if it cannot be read or is empty."""
    try:
        raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise GPT2Error(f"cannot read the data {path}: {error.strerror}") from error
    if not raw.strip():
        raise GPT2Error(f"{path} is empty")
    return raw


def text_lines(path: Path, broken: BrokenLines) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of each line, blank lines included."""
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        where = f"{path}, line {number}"
        with broken.at(where):
            yield where, _decoded(line)


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise GPT2Error(f"the byte 0x{line[error.start]:02x} is not UTF-8; save the file as UTF-8") from error


def json_lines(path: Path, broken: BrokenLines) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) of each line that is not blank."""
    for where, line in text_lines(path, broken):
        if line.strip():
            with broken.at(where):
                yield where, _object(line)


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"not valid JSON ({error}): expected one object per line") from error
    if not isinstance(value, dict):
        raise GPT2Error(f"holds a value of type {type(value).__name__}: expected an object")
    return value


def json_document(path: Path) -> dict[str, Any]:
    """Parse the file as one JSON object. Raises GPT2Error, naming the line, if it is not one."""
    raw = read_bytes(path)
    try:
        value = json.loads(raw.decode())
    except json.JSONDecodeError as error:
        raise GPT2Error(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{path} is not valid JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise GPT2Error(f"{path} holds a value of type {type(value).__name__}: expected an object")
    return value


def text_of(record: Any, field: str) -> str:
    """The value of a field. Raises GPT2Error unless it is a text that is not empty."""
    value = _field(record, field)
    if not isinstance(value, str) or not value.strip():
        raise GPT2Error(f"{field!r} must be a text that is not empty, but is {str(value)[:60]!r}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise GPT2Error(f"{field!r} holds half a character (a lone surrogate such as \\ud800)")
    return value


def list_of(record: Any, field: str) -> list[Any]:
    """The value of a field. Raises GPT2Error unless it is a list."""
    value = _field(record, field)
    if not isinstance(value, list):
        raise GPT2Error(f"{field!r} must be a list, but is {str(value)[:60]!r}")
    return value


def _field(record: Any, field: str) -> Any:
    if not isinstance(record, dict):
        raise GPT2Error(f"expected an object with {field!r}, but it is of type {type(record).__name__}")
    if field not in record:
        raise GPT2Error(f"has no field {field!r}: it has {', '.join(map(repr, record)) or 'none'}")
    return record[field]
