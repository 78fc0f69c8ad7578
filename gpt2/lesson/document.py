"""Render the lesson as one HTML file, from the data and the template, styles and scripts of the folder `page`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

PAGE = Path(__file__).parent / "page"
SCRIPTS = ("gpt2.js", "words.js", "heatmap.js", "page.js")


def render(payload: Mapping[str, Any]) -> str:
    """The whole page; it needs no network and no other file."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(_text("page.html.j2"))
    return template.render(
        payload=to_json(payload).replace("<", "\\u003c"),  # so that no text can end the script element
        css=_text("page.css"),
        scripts=[_text(name) for name in SCRIPTS],
    )


def to_json(payload: Mapping[str, Any]) -> str:
    """The payload, or a part of it, as JSON without spaces."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
