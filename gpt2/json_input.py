"""Decode JSON into typed values. An error is one line: the place, what was expected, and the value found there."""

import difflib
import json
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar, get_args, get_type_hints

import msgspec

from gpt2.errors import GPT2Error

T = TypeVar("T")
Filled = Annotated[str, msgspec.Meta(pattern=r"\S")]
"""A string that is not blank."""

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
STEP = re.compile(r"\[(.+?)\]|([^.\[\]]+)")  # of a path such as a[0].b
# The words for what msgspec says.
KINDS = {
    "array": "a list",
    "bool": "true or false",
    "date": "a date such as 2026-01-31",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
}
REASONS = {
    r"Expected `str` matching regex '\\S'": "a string that is not empty",
    "Invalid RFC3339 encoded date": KINDS["date"],
    "Number out of range": "a number that a float can hold",
}


def read_json(path: Path, kind: type[T], hint: str = "") -> T:
    """Parse a JSON file as parse_json does. Raises GPT2Error also if the file cannot be read."""
    try:
        return parse_json(path.read_bytes(), kind, str(path), hint)
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error


def parse_json(text: str | bytes, kind: type[T], where: str, hint: str = "") -> T:
    """Parse a JSON text into a value of that type. Messages begin with where and end with hint.

    Raises GPT2Error if the text is not UTF-8, not JSON, nested too deeply for Python or not of that type, or if an
    object has a name twice.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")  # some editors write a byte order mark
        value = DECODER.decode(text)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise GPT2Error(f"{where} holds half a character (a lone surrogate such as \\ud800){hint}") from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in str(text).strip() else ""
        raise GPT2Error(f"{where} is not valid JSON: {error.msg} at {line}column {error.colno}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise GPT2Error(f"{where} is not valid JSON: {error}{hint}") from error
    return as_type(value, kind, where, hint)


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r} is there twice in one object")
    return fields


DECODER = json.JSONDecoder(object_pairs_hook=_fields)


def object_with(fields: Mapping[str, Any]) -> Any:
    """The type of an object with these fields, a dict; other fields are ignored."""
    return TypedDict("Fields", dict(fields))  # type: ignore[operator]


def as_type(value: Any, kind: type[T], where: str, hint: str = "") -> T:
    """Convert parsed JSON to that type. Raises GPT2Error, naming the place, for a missing, unknown or wrong field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise GPT2Error(_explanation(str(error), value, kind, where) + hint) from error


def _explanation(said: str, value: Any, kind: Any, where: str) -> str:
    """Reword a message of msgspec, such as "Expected `int`, got `str` - at `$.a[0].b`", and add the value."""
    reason, _, place = said.partition(" - at `$")
    place = place.removesuffix("`").removeprefix(".")
    where = f"{where}: {place!r}" if place else where
    steps = STEP.findall(place)
    expected, _, came = map(_in_words, reason.partition(", got "))
    try:
        for index, name in steps:
            value = value[int(index) if index else name]
        came = reprlib.repr(value)
        has = f": it has {', '.join(map(repr, value)) or 'none'}" if isinstance(value, dict) else ""
    except (LookupError, TypeError, ValueError):  # `$[...]`, some field of an object, or a name with dots
        has = ""
    field = reason.partition("`")[2].removesuffix("`")
    if reason.startswith("Object missing required field"):
        return f"{where} has no field {field!r}{has}"
    if reason.startswith("Object contains unknown field"):
        for index, name in steps:
            kind = get_args(kind)[0] if index else get_type_hints(kind)[name]
        known = kind.__struct_fields__
        near = difflib.get_close_matches(field, known, n=1)
        meant = f"is {near[0]!r} meant?" if near else f"the fields are {', '.join(known)}"
        return f"{where} has an unknown field {field!r}: {meant}"
    if reason in REASONS or reason.startswith("Expected "):
        expected = REASONS.get(reason, expected.removeprefix("Expected "))
        return f"{where} must be {expected}" + (f", but is {came}" if came else "")
    return f"{where}: {reason}"


def _in_words(kinds: str) -> str:
    """Reword the types, such as "`float | null`" as "a number or null"."""
    return re.sub(r"`(.+?)`", lambda found: " or ".join(KINDS.get(x, x) for x in found[1].split(" | ")), kinds)
