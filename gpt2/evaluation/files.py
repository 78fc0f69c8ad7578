"""Read the files of evaluation tasks. Errors name file and line."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from gpt2.data.formats import Source, read_source, whole
from gpt2.data.records import BrokenLines, found_in
from gpt2.json_input import as_type, parse_json

T = TypeVar("T")


def text_lines(path: Path, broken: BrokenLines, encoding: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of each line, blank lines included."""
    source = read_source(path, "text", encoding)
    for number, line in enumerate(source.text.split("\n"), 1):
        with broken.at():
            yield f"{path}, line {number}", whole(source, line, number)


def json_records(source: Source, kind: type[T], broken: BrokenLines) -> Iterator[tuple[str, T]]:
    """Yield (place, value of that type) of each line of JSON that is not blank, or of each element of an array."""
    for where, item in found_in(source, broken):
        with broken.at():
            if source.form == "json":
                yield where, as_type(item, kind, where)
            else:
                yield where, parse_json(item, kind, where, "; expected one object per line")


def document(path: Path, kind: type[T], encoding: str | None = None) -> T:
    """The value of a file that is one JSON document. Raises GPT2Error, naming the place."""
    source = read_source(path, "json", encoding)
    return parse_json(whole(source, source.text), kind, str(path))
