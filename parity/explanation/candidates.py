"""What can explain a failure: every planted bug, as an engine that has it."""

import ast
import contextlib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpt2.backends import Backend, NumPyBackend
from parity.check import Rule
from parity.diagnosis.functions_run import Place, functions_run
from parity.explanation.copies import Copy
from parity.mutants.all import MUTANTS
from parity.mutants.base import Edit, Twin, original_sources, short_name
from parity.mutants.mistake import Change
from parity.verdict.trial import Trial

OWN_ENGINE = "mindspore"  # its bugs can explain its own results alone


@dataclass(frozen=True)
class Candidate:
    """A known mistake: `edits` are the lines that make it, `story` tells it.

    places: the stages and functions where it shows, as in Mutant.where. number: what was estimated, in words.
    switch: if it is no mistake but a way to compute in float32, what brings exact float32 back.
    """

    name: str
    story: str
    edits: tuple[Edit, ...]
    places: tuple[str, ...] = ()
    engine: str = "numpy"
    number: str = ""
    switch: str = ""

    def backend(self, dtype: str) -> Backend:
        """The engine that makes this mistake."""
        if self.engine == "numpy":
            return _copy(self.edits).backend(dtype, name=self.name)
        return Twin(self.name, self.edits, self.engine).backend(dtype=dtype)

    def put_to(self, trial: Trial) -> None:
        """Get ready for a case."""

    def member(self, seed: int, number: int) -> contextlib.AbstractContextManager[None]:
        """What is inside is a member of the orbit; of a case of that seed."""
        return contextlib.nullcontext()

    def module(self, name: str) -> Any:
        """A module of the engine's sources, "reference.stages"."""
        return _copy(self.edits).module(name)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The changed lines, for people."""
        return tuple(Change(short_name(edit.function), edit.old, edit.new) for edit in self.edits)

    @property
    def blamed(self) -> set[str]:
        """The places that a diagnosis may name."""
        return {*self.places, *(short_name(edit.function) for edit in self.edits)}


@functools.cache
def _copy(edits: tuple[Edit, ...]) -> Copy:
    return Copy(edits)


@functools.cache
def planted(engine: str = "numpy") -> tuple[Candidate, ...]:
    """The candidates that the planted bugs of an engine make."""
    return tuple(
        Candidate(bug.name, bug.story, bug.edits, bug.where, bug.engine)
        for bug in MUTANTS
        if bug.engine == engine and not bug.equivalent
    )


def reached_by(rule: Rule, trial: Trial) -> set[Place]:
    """The functions of the NumPy engine that run on a case."""
    return functions_run(rule, [trial.on(NumPyBackend(dtype=trial.backend.dtype))])


def can_change(candidates: Iterable[Candidate], reached: set[Place]) -> list[Candidate]:
    """The candidates that have a line among what runs: any other mistake changes nothing."""
    return [each for each in candidates if any(_runs(edit, reached) for edit in each.edits)]


def candidates_for(backend: Backend, reached: set[Place], places: Iterable[str]) -> list[Candidate]:
    """The planted bugs that can explain a failure of a backend, those first whose place is blamed (Fault.places)."""
    found = can_change(planted(), reached)
    if is_mindspore(backend):
        found += planted(OWN_ENGINE)
    return blamed_first(found, places)


def blamed_first(candidates: Iterable[Candidate], places: Iterable[str]) -> list[Candidate]:
    """The candidates, those first that have one of these places."""
    roles = {re.sub(r"^h\.\d+\.", "", place) for place in places}
    return sorted(candidates, key=lambda candidate: not candidate.blamed & roles)


def is_mindspore(backend: Backend) -> bool:
    """Whether a backend is the MindSpore engine, or a copy of it."""
    return OWN_ENGINE in (backend.name.partition("@")[0], getattr(backend, "pipeline_name", ""))


def _runs(edit: Edit, reached: set[Place]) -> bool:
    """Whether code that is edited is among what ran."""
    return any((edit.file, name) in reached for name in _names(edit.file, edit.name))


@functools.cache
def _names(file: str, name: str) -> frozenset[str]:
    """The names of the functions in a function, in a class, or, as "", of a whole file; a cached one always counts."""
    body: Any = ast.parse(original_sources()[file])
    for step in name.split(".") if name else ():
        body = next(node for node in body.body if getattr(node, "name", None) == step)
    inside = {node.name for node in ast.walk(body) if isinstance(node, ast.FunctionDef)}
    cached = any("cache" in ast.unparse(each) for each in getattr(body, "decorator_list", ()))
    return frozenset(inside | ({""} if not name or cached or isinstance(body, ast.ClassDef) else set()))
