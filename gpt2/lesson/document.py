"""Render the lesson as one HTML file, from the data and the template, styles and scripts of the folder `page`."""

import json
import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from gpt2.lesson.sources import FORWARD, highlighted

PAGE = Path(__file__).parent / "page"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ", re.MULTILINE)


def render(payload: Mapping[str, Any]) -> str:
    """The whole page; it needs no network and no other file."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(_text("page.html.j2"))
    return template.render(
        payload=to_json(payload).replace("<", "\\u003c"),  # so that no text can end the script element
        css=_text("page.css"),
        script=joined_scripts(),
        forward="\n".join(highlighted(FORWARD.read_text(encoding="utf-8"))),
    )


def joined_scripts() -> str:
    """The folder `scripts` as one plain script, which may run from a file as modules may not.

    Imports order the parts, and go; so does the word `export`. Raises graphlib.CycleError if parts import each other.
    """
    texts = {path.stem: _text(f"scripts/{path.name}") for path in sorted(PAGE.glob("scripts/*.js"))}
    order = TopologicalSorter({name: IMPORT.findall(text) for name, text in texts.items()}).static_order()
    return "\n".join(EXPORT.sub("", IMPORT.sub("", texts[name])) for name in order)


def to_json(payload: Mapping[str, Any]) -> str:
    """The payload, or a part of it, as JSON without spaces."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
