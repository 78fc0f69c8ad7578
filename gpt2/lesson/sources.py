"""The two implementations of a function as they stand in the installed files, highlighted, like lines side by side."""

import ast
import dataclasses
import difflib
import functools
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import reference
from gpt2.backends import Backend
from gpt2.errors import GPT2Error

REFERENCE = Path(reference.__file__).parent
MIRROR = ("ops", "attention", "model", "fast", "generate", "data", "optim", "train", "precision")
FORWARD = REFERENCE / "forward.py"  # the whole forward pass on one page
# What the same line calls by another name on the other side.
NAMES = (
    (r"\b(?:np|mint|ops|ms|P)\.", ""),
    (r"\b(?:Array|Tensor)\b", "Array"),
    (r"\bconcatenate\b", "cat"),
)

# Spans of plain names, punctuation and blanks, which have no colour: half of all.
PLAIN = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')

Row = tuple[int | None, int | None]


@dataclasses.dataclass(frozen=True)
class Source:
    """A function, or a class, in its file."""

    folder: Path
    file: str
    """As people name it, "reference/ops.py"."""
    line: int
    """Of its first decorator, from 1."""
    lines: tuple[str, ...]

    @property
    def html(self) -> list[str]:
        """Its lines with Pygments' short class names."""
        return highlighted("\n".join(self.lines))


def find_source(folder: Path, name: str) -> Source | None:
    """The source of "ops.layer_norm" in a folder of the mirror; None if there is none."""
    module, leaf = reference.place(name)
    file = f"{module.replace('.', '/')}.py"
    path = folder / file
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == leaf:
            start = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            return Source(folder, f"{folder.name}/{file}", start, tuple(text.splitlines()[start - 1 : node.end_lineno]))
    return None


def twin_folder(backend: Backend) -> Path | None:
    """Where the other implementation lies: the backend's own files, or, of the reference, those of the MindSpore twin.

    They can be read without MindSpore.
    """
    folder = getattr(backend, "sources", None)
    if folder is not None and Path(folder) != REFERENCE:
        return Path(folder)
    if backend.name != "numpy":
        return None
    spec = importlib.util.find_spec("ms_backend")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


@functools.cache
def highlighted(code: str) -> list[str]:
    """The lines of a piece of Python as HTML with Pygments' short class names; no line leaves a tag open."""
    page = highlight(code, PythonLexer(stripnl=False, ensurenl=False), HtmlFormatter(nowrap=True))
    lines = PLAIN.sub(r"\1", page).split("\n")
    return [line.rstrip() for line in lines[: code.count("\n") + 1]]  # Pygments may end with a line break of its own


def matched_rows(left: tuple[str, ...], right: tuple[str, ...]) -> list[Row]:
    """Both sides, top to bottom, as rows: (line on the left, line on the right), None where a side has no such line."""
    one, other = [_plain(line) for line in left], [_plain(line) for line in right]
    rows: list[Row] = []
    for kind, i, i_end, j, j_end in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += zip(range(i, i_end), range(j, j_end), strict=True)
        else:
            found = _aligned(tuple(one[i:i_end]), tuple(other[j:j_end]))
            rows += [(None if a is None else i + a, None if b is None else j + b) for a, b in found]
    return rows


def _plain(line: str) -> str:
    for pattern, name in NAMES:
        line = re.sub(pattern, name, line)
    return line


def _aligned(one: tuple[str, ...], other: tuple[str, ...]) -> list[Row]:
    """The rows of two blocks that differ: those pairs in order that are most alike, taken together."""
    best: dict[tuple[int, int], tuple[float, list[Row]]] = {(len(one), len(other)): (0.0, [])}
    for i in reversed(range(len(one) + 1)):
        for j in reversed(range(len(other) + 1)):
            choices = []
            if i < len(one) and j < len(other):
                score, rest = best[i + 1, j + 1]
                choices.append((score + _likeness(one[i], other[j]), [(i, j), *rest]))
            if i < len(one):
                score, rest = best[i + 1, j]
                choices.append((score, [(i, None), *rest]))
            if j < len(other):
                score, rest = best[i, j + 1]
                choices.append((score, [(None, j), *rest]))
            if choices:
                best[i, j] = max(choices, key=lambda choice: choice[0])
    return best[0, 0][1]


def _likeness(a: str, b: str) -> float:
    """From -1, nothing alike, to 1; below 0 the lines do not stand side by side."""
    return 2 * difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() - 1 if a and b else -1.0


def shapes(name: str) -> str:
    """What the docstring of the reference promises: "x (B, T, C), weight (C), bias (C) -> (B, T, C)"; "" if nothing."""
    docstring = inspect.getdoc(reference.find_function(name)) or ""
    found = re.search(r"^Shapes: *(.*(?:\n +.*)*)", docstring, re.MULTILINE)
    return "" if found is None else " ".join(found[1].split())


def mirrored(files: tuple[str, ...] = MIRROR) -> list[str]:
    """The public functions and classes of the reference in those files, "ops.layer_norm", in their order.

    Behind each stands its gradient, if it has one.
    """
    names = []
    for file in files:
        tree = ast.parse((REFERENCE / f"{file}.py").read_text(encoding="utf-8"))
        found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for name in (f"{file}.{name}" for name in found if not name.startswith("_")):
            names += [name, f"{name}_vjp"] if find_source(REFERENCE, f"{name}_vjp") else [name]
    return names


def full_name(name: str) -> str:
    """ "ops.layer_norm" of that, or of "layer_norm". Raises GPT2Error with near names for what is not in the mirror."""
    every = mirrored()
    found = [each for each in every if name in (each, each.split(".")[1])]
    if found:
        return found[0]
    near = difflib.get_close_matches(name, [*every, *(each.split(".")[1] for each in every)], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "try 'layer_norm' or 'attention.attention'"
    raise GPT2Error(f"no function of the mirror is called {name!r}: {hint}")


def side_by_side(name: str, other: Path | None) -> dict[str, Any]:
    """A function of the mirror for the page: both sources and their rows."""
    own = find_source(REFERENCE, name)
    twin = None if other is None else find_source(other, name)
    if own is None:
        raise GPT2Error(f"no source of {name} in {REFERENCE}: is the installation whole?")
    rows = matched_rows(own.lines, twin.lines) if twin else [(i, None) for i in range(len(own.lines))]
    return {
        "name": name,
        "shapes": shapes(name),
        "reference": {"file": own.file, "line": own.line, "lines": own.html},
        "backend": None if twin is None else {"file": twin.file, "line": twin.line, "lines": twin.html},
        "pairs": [list(row) for row in rows],
    }
