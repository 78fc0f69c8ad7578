"""Reports as they are printed, and rules to report on."""

import html.parser
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
from rich.console import Console

from parity.check import select
from parity.report.record import Report
from parity.report.table import print_report

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "parity" / "check.schema.json").read_text(encoding="utf-8"))
RULES = select(["ops.relu", "ops.softmax", "ops.gelu", "ops.layer_norm", "generate.sample", "causality"])


def printed(made: Report, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_report(made, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def closed(schema: Any) -> Any:
    """The schema, refusing every field that it does not describe."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    extra = {"additionalProperties": False} if "properties" in schema else {}
    return extra | {key: closed(value) for key, value in schema.items()}


def validate(facts: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(closed(SCHEMA), format_checker=checker).validate(facts)


class Page(html.parser.HTMLParser):
    """What a page holds: elements, their attributes, its text; and whether every element is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def without_times(made: Report) -> Any:
    facts = json.loads(made.to_json())
    del facts["seconds"], facts["environment"]["time"]
    return facts
