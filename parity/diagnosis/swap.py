"""Find the function at fault in a copy of our sources: put originals in the place of those that differ, and try again.

A user's own backend has no originals; functions_run.py judges the functions that it runs by their own rules.
Source: Zeller and Hildebrandt 2002, delta debugging.
"""

import ast
import collections
import functools
import itertools
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from gpt2.backends import Backend
from parity.check import Rule, agrees
from parity.mutants.base import copied_sources, engine_of, load, original_sources, short_name
from parity.verdict.trial import Trial

ATTEMPTS = 40  # the most runs with some functions swapped
Part = tuple[str, str]  # a file, "reference/optim.py", and a function in it, "AdamW.state"; "" for all else in the file
ENGINES = {"reference": "numpy", "ms_backend": "mindspore"}  # by the folder of the sources


def swapped_cure(rule: Rule, trial: Trial) -> list[str] | None:
    """The fewest functions of the backend whose originals, in their place, let a failing case agree, file by file.

    None if its sources are no copy of ours, or no such functions are found.
    """
    differing = differences(Path(trial.backend.sources).parent) if _is_of_a_copy(trial.backend) else []
    attempts = itertools.count()

    def cured(parts: Iterable[Part]) -> bool:
        if next(attempts) >= ATTEMPTS:
            return False
        return agrees(rule, trial.on(with_originals(trial.backend, frozenset(parts))))

    if not differing or agrees(rule, trial) or not cured(differing):
        return None
    left, size = differing, -(-len(differing) // 2)
    while size and len(left) > 1:
        for start in range(0, len(left), size)[::-1]:  # code outside of functions, and callers, are innocent first
            fewer = left[:start] + left[start + size :]
            if fewer and cured(fewer):
                left = fewer
        size //= 2
    return [short_name(".".join([file.removesuffix(".py").replace("/", "."), name]).rstrip(".")) for file, name in left]


def _is_of_a_copy(backend: Backend) -> bool:
    """Whether a backend's class, not one that wraps or extends it, stands in the sources that it names."""
    sources = Path(getattr(backend, "sources", None) or "")
    return sources.name in ENGINES and type(backend).__module__.startswith(f"{sources.parent.name}.")


@functools.cache
def differences(folder: Path) -> list[Part]:
    """The parts of a copy of our sources that differ from the original, in order; [] if the folder is no such copy."""
    copies, originals = copied_sources(folder), original_sources()
    found = [
        (file, name)
        for file in sorted(copies, key=_depth)
        if file.endswith(".py") and copies[file] != originals[file]
        for name, (copy, original) in _parts(copies[file], originals[file]).items()
        if copy != original
    ]
    return sorted(found, key=lambda part: part[1] == "")  # stable: functions first


def with_originals(backend: Backend, parts: frozenset[Part]) -> Backend:
    """The backend, whose sources are a copy of ours, with the original text in some of its parts."""
    room = Path(backend.sources)
    package = cured_package(room.parent, parts)
    return engine_of(package, ENGINES[room.name], backend.name, backend.device, backend.dtype, backend.mode)


@functools.cache
def cured_package(folder: Path, parts: frozenset[Part]) -> ModuleType:
    """A copy of the sources in that folder, with the originals of these parts."""
    texts, originals = copied_sources(folder), original_sources()
    for file in {file for file, _ in parts}:
        chosen = {
            name: original if (file, name) in parts else copy
            for name, (copy, original) in _parts(texts[file], originals[file]).items()
        }
        text = chosen.pop("")
        for name, function in chosen.items():
            text = text.replace(_marker(name), function)
        texts[file] = text
    return load(texts)


def _depth(file: str) -> tuple[bool, str]:
    """A key that puts what computes before what runs it."""
    return not file.startswith(tuple(ENGINES)) or "/engine/" in file, file


def _parts(copy: str, original: str) -> dict[str, tuple[str, str]]:
    """Both texts of every function that a file has on both sides, and under "" those of all else in the file."""
    spans = [_functions(text) for text in (copy, original)]
    common = [name for name in spans[0] if name in spans[1]]
    rest, functions = [], []
    for text, found in zip((copy, original), spans, strict=True):
        lines = text.splitlines(keepends=True)
        functions.append({name: "".join(lines[slice(*found[name])]) for name in common})
        for name in common:
            start, end = found[name]
            lines[start:end] = [_marker(name), *[""] * (end - start - 1)]
        rest.append("".join(lines))
    return {name: (functions[0][name], functions[1][name]) for name in common} | {"": (rest[0], rest[1])}


def _functions(text: str) -> dict[str, tuple[int, int]]:
    """The lines, decorators included, of every function and method that a file defines once."""
    found: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for outer in ast.parse(text).body:
        for node in outer.body if isinstance(outer, ast.ClassDef) else [outer]:
            if isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                name = node.name if node is outer else f"{outer.name}.{node.name}"  # type: ignore[attr-defined]
                found[name].append((first - 1, node.end_lineno or first))
    return {name: spans[0] for name, spans in found.items() if len(spans) == 1}


def _marker(name: str) -> str:
    return f"\0{name}\0"
