"""Edited copies of the sources in memory: a few hundred of them are made while one failure is explained.

A copy on disk (parity/mutants/base.py) takes a second, most of it to import what no edit touches. Here, a module is run
anew only if it is edited, or imports one that is; all others are the originals, and no file is written.
"""

import ast
import builtins
import functools
import importlib
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from gpt2.backends import Backend
from parity.mutants.base import ROOT, Edit, original_sources

IMPORT_BY_NAME = "importlib.import_module("  # in the sources; a copy finds its own modules by it
ITS_OWN = "import_module_of_the_copy"
SHARED = ("reference.config", "gpt2", "gpt2.backends")  # the same objects in every copy
_numbers = itertools.count()


class Copy:
    """The NumPy engine with some edits. given: names that every edited module finds among its globals.

    Raises ValueError if an edit does not fit the sources.
    """

    def __init__(self, edits: tuple[Edit, ...], given: Mapping[str, Any] | None = None) -> None:
        self._name, self._given = f"gpt2_in_memory_{next(_numbers)}", dict(given or {})
        self._modules: dict[str, ModuleType] = {}
        changed: dict[str, str] = {}
        for edit in edits:
            changed[edit.file] = edit.apply(changed.get(edit.file) or original_sources()[edit.file])
        self._changed = {_module_name(file): text for file, text in changed.items()}
        self._affected = affected_modules(frozenset(self._changed))

    def module(self, name: str) -> ModuleType:
        """A module by its usual name, "reference.ops": the copy's, or the original if no edit can reach it."""
        name = name.removeprefix(f"{self._name}.")
        if name not in self._affected:
            return importlib.import_module(name)
        package = name.rpartition(".")[0]
        if name not in self._modules and package in self._affected:
            self.module(package)  # first, as Python does: it may import this module
        if name not in self._modules:
            self._modules[name] = self._run(name)
        return self._modules[name]

    def backend(self, dtype: str, mode: str = "eager", name: str = "numpy") -> Backend:
        """The engine of the copy, as parity.mutants.base.Twin.backend describes it."""
        made: Backend = self.module("gpt2.backends.numpy_backend").NumPyBackend("CPU", dtype, mode)
        vars(made).update(
            name=name,
            continue_batch=self.module("gpt2.generation.loop").continue_batch,
            shared_module=self.module,
            pipeline_name="numpy",
        )
        return made

    def _run(self, name: str) -> ModuleType:
        made = ModuleType(f"{self._name}.{name}")
        path = _path(name)
        made.__file__, made.__package__ = str(path), made.__name__.rpartition(".")[0]
        if path.name == "__init__.py":
            made.__path__, made.__package__ = [str(path.parent)], made.__name__
        vars(made)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        vars(made)[ITS_OWN] = self.module
        if name in self._changed:
            vars(made).update(self._given)
        sys.modules[made.__name__] = made  # dataclasses look their module up
        self._modules[name] = made
        code = _compiled(self._changed[name], str(path)) if name in self._changed else _code(name)
        try:
            exec(code, vars(made))
        except BaseException:
            del self._modules[name], sys.modules[made.__name__]
            raise
        return made

    def _import(
        self, name: str, scope: Any = None, local: Any = None, wanted: tuple[str, ...] = (), level: int = 0
    ) -> Any:
        """What the statement `import` calls: as usual, but modules that an edit reaches are the copy's."""
        if level or name not in imports():
            return builtins.__import__(name, scope, local, wanted, level)
        module = self.module(name)
        for each in wanted or ():
            inner = f"{name}.{each}"
            if inner in imports() and (inner in self._affected or not hasattr(module, each)):
                setattr(module, each, self.module(inner))
        return module if wanted else self.module(name.split(".")[0])


def affected_modules(changed: frozenset[str]) -> frozenset[str]:
    """These modules, and all that import them, directly or not."""
    found, more = set(changed), set(changed)
    while more:
        more = {name for name, imported in imports().items() if name not in found and imported & more}
        found |= more
    return frozenset(found - set(SHARED))


@functools.cache
def imports() -> dict[str, frozenset[str]]:
    """Every module of the sources that is copied, and which of them it imports or names in a text."""
    texts = {_module_name(file): text for file, text in original_sources().items() if file.endswith(".py")}
    known = {name for name in texts if name.split(".")[0] != "ms_backend" and name not in SHARED}
    # A package finds its modules by name: reference.find_function.
    inner = {name: {other for other in known if other.startswith(f"{name}.")} for name in known if name == "reference"}
    return {name: frozenset((_named(texts[name]) | inner.get(name, set())) & known) for name in known}


def _named(text: str) -> set[str]:
    """The modules that a text imports, in a statement or by a name in quotes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    return found


@functools.cache
def _code(name: str) -> CodeType:
    return _compiled(_path(name).read_text(encoding="utf-8"), str(_path(name)))


def _compiled(text: str, path: str) -> CodeType:
    return compile(text.replace(IMPORT_BY_NAME, f"{ITS_OWN}("), path, "exec", dont_inherit=True)


def _path(name: str) -> Path:
    folder = ROOT.joinpath(*name.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
