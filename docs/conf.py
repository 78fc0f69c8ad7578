"""The documentation as a site: `make docs` writes it to build/docs, with every warning an error."""

import re
from importlib.metadata import version as version_of
from typing import Any

project = "gpt2-parity"
copyright = "the authors of gpt2-parity, Apache-2.0"
version = release = version_of("gpt2-parity")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_click"]
html_theme = "furo"
html_title = "GPT-2 twice, and a judge"
html_static_path: list[str] = []
exclude_patterns = ["README*"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
default_role = "code"
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries have no page here
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "undoc-members": False}
# A docstring here is plain text. A line that begins so is a paragraph of its own.
PARAGRAPH = re.compile(r"(Shapes|Source|Raises|Returns|Statement|Proof)\b")


def setup(app: Any) -> None:
    """Have docstrings read as the plain text that they are."""
    app.connect("autodoc-process-docstring", as_plain_text)


def as_plain_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape, in place, what reStructuredText would take for markup: all but what stands in backticks."""
    told: list[str] = []
    for line in lines:
        if PARAGRAPH.match(line):
            told.append("")
        pieces = re.split(r"(`[^`]*`)", line)
        pieces[::2] = [re.sub(r"([*|_\\])", r"\\\1", piece) for piece in pieces[::2]]
        told.append("".join(pieces))
    lines[:] = told
