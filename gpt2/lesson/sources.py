"""The sources of a function in both implementations, highlighted, with matching lines side by side."""

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
MIRROR = ("ops", "activations", "attention", "model", "fast", "generate", "data", "optim", "train", "precision")
FORWARD = REFERENCE / "forward.py"  # the whole forward pass on one page
# Names that differ between the two implementations, and what they are replaced by before lines are matched.
NAMES = (
    (r"\b(?:np|mint|ops|ms|P)\.", ""),
    (r"\b(?:Array|Tensor)\b", "Array"),
    (r"\bconcatenate\b", "cat"),
)

# Spans of names, punctuation and spaces, which have no colour: half of all spans.
PLAIN = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')

Row = tuple[int | None, int | None]


@dataclasses.dataclass(frozen=True)
class Source:
    """The source of a function or class."""

    folder: Path
    file: str
    """Path to show, such as "reference/ops.py"."""
    line: int
    """Number of the first line, decorators included, from 1."""
    lines: tuple[str, ...]

    @property
    def html(self) -> list[str]:
        """The lines as HTML with Pygments' short class names."""
        return highlighted("\n".join(self.lines))


def find_source(folder: Path, name: str) -> Source | None:
    """The source of a function such as "ops.layer_norm" in a folder of the mirror; None if there is none."""
    module, leaf = reference.place(name)
    file = f"{module.replace('.', '/')}.py"
    path = folder / file
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == leaf:
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return Source(folder, f"{folder.name}/{file}", start, tuple(text.splitlines()[start - 1 : node.end_lineno]))
    return None


def twin_folder(backend: Backend) -> Path | None:
    """The folder of the other implementation: the backend's, or, for backend "numpy", the MindSpore twin's.

    Reading its files does not need MindSpore.
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
    """The lines of Python code as HTML with Pygments' short class names; no tag spans several lines."""
    page = highlight(code, PythonLexer(stripnl=False, ensurenl=False), HtmlFormatter(nowrap=True))
    lines = PLAIN.sub(r"\1", page).split("\n")
    return [line.rstrip() for line in lines[: code.count("\n") + 1]]  # Pygments may add a line break


def matched_rows(left: tuple[str, ...], right: tuple[str, ...]) -> list[Row]:
    """Match the lines of both sides: rows of (left index, right index), None where a side has no line."""
    first, second = [_plain(line) for line in left], [_plain(line) for line in right]
    rows: list[Row] = []
    for kind, i, i_end, j, j_end in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += zip(range(i, i_end), range(j, j_end), strict=True)
        else:
            aligned = _aligned(tuple(first[i:i_end]), tuple(second[j:j_end]))
            rows += [(None if a is None else i + a, None if b is None else j + b) for a, b in aligned]
    return rows


def _plain(line: str) -> str:
    for pattern, name in NAMES:
        line = re.sub(pattern, name, line)
    return line


def _aligned(first: tuple[str, ...], second: tuple[str, ...]) -> list[Row]:
    """The rows of two blocks that differ: the alignment with the highest total similarity."""
    best: dict[tuple[int, int], tuple[float, list[Row]]] = {(len(first), len(second)): (0.0, [])}
    for i in reversed(range(len(first) + 1)):
        for j in reversed(range(len(second) + 1)):
            choices = []
            if i < len(first) and j < len(second):
                score, rest = best[i + 1, j + 1]
                choices.append((score + _likeness(first[i], second[j]), [(i, j), *rest]))
            if i < len(first):
                score, rest = best[i + 1, j]
                choices.append((score, [(i, None), *rest]))
            if j < len(second):
                score, rest = best[i, j + 1]
                choices.append((score, [(None, j), *rest]))
            if choices:
                best[i, j] = max(choices, key=lambda choice: choice[0])
    return best[0, 0][1]


def _likeness(a: str, b: str) -> float:
    """Similarity of two lines, from -1 to 1; below 0 they are not put side by side."""
    return 2 * difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() - 1 if a and b else -1.0


def shapes(name: str) -> str:
    """The line "Shapes" of the reference's docstring: "x (B, T, C), weight (C) -> (B, T, C)"; "" if there is none."""
    docstring = inspect.getdoc(reference.find_function(name)) or ""
    match = re.search(r"^Shapes: *(.*(?:\n +.*)*)", docstring, re.MULTILINE)
    return "" if match is None else " ".join(match[1].split())


def mirrored(files: tuple[str, ...] = MIRROR) -> list[str]:
    """The public functions and classes of the reference in these files, as "ops.layer_norm", in file order.

    A function is followed by its gradient, if it has one.
    """
    names = []
    for file in files:
        tree = ast.parse((REFERENCE / f"{file}.py").read_text(encoding="utf-8"))
        defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for name in (f"{file}.{name}" for name in defined if not name.startswith("_")):
            names += [name, f"{name}_vjp"] if find_source(REFERENCE, f"{name}_vjp") else [name]
    return names


def full_name(name: str) -> str:
    """ "ops.layer_norm" from that or from "layer_norm". Raises GPT2Error, with similar names, for an unknown name."""
    every = mirrored()
    matches = [known for known in every if name in (known, known.split(".")[1])]
    if matches:
        return matches[0]
    near = difflib.get_close_matches(name, [*every, *(known.split(".")[1] for known in every)], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "try 'layer_norm' or 'attention.attention'"
    raise GPT2Error(f"no function of the mirror is called {name!r}: {hint}")


def side_by_side(name: str, other: Path | None) -> dict[str, Any]:
    """Both sources of a function and their matched rows, for the page."""
    source = find_source(REFERENCE, name)
    twin = None if other is None else find_source(other, name)
    if source is None:
        raise GPT2Error(f"no source of {name} in {REFERENCE}: is the installation whole?")
    rows = matched_rows(source.lines, twin.lines) if twin else [(i, None) for i in range(len(source.lines))]
    return {
        "name": name,
        "shapes": shapes(name),
        "reference": {"file": source.file, "line": source.line, "lines": source.html},
        "backend": None if twin is None else {"file": twin.file, "line": twin.line, "lines": twin.html},
        "pairs": [list(row) for row in rows],
    }
