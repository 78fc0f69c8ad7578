"""Read the files of evaluation tasks. Errors name file and line."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error
from gpt2.json_input import parse_json

T = TypeVar("T")
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


def json_lines(path: Path, kind: type[T], broken: BrokenLines) -> Iterator[tuple[str, T]]:
    """Yield (place, value of that type) of each line that is not blank."""
    for where, line in text_lines(path, broken):
        if line.strip():
            with broken.at():
                yield where, parse_json(line, kind, where, "; expected one object per line")
