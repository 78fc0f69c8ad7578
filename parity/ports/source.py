"""Where a port is, "my_port.py:split_heads" or "my.package:build", and what is there."""

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from gpt2.errors import GPT2Error, described
from parity.cases.contracts import contracts
from parity.cases.supports import PRESETS
from parity.ports.frameworks import FRAMEWORKS

SETTINGS = ("framework", "as")


@dataclasses.dataclass(frozen=True)
class PortSource:
    """A port by its place, and how it is called. As text: "attention.split_heads=my.py:f;framework=torch;x=hidden".

    function: the function of the mirror that it is; "" for a whole model or backend. names: its names of arguments or
    modules for ours. framework and preset may be "".
    """

    place: str
    function: str = ""
    framework: str = ""
    preset: str = ""
    names: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, text: str) -> "PortSource":
        """Read the text. Raises GPT2Error if it is not of that form."""
        first, *others = text.split(";")
        function, equals, place = first.rpartition("=")
        where, colon, name = place.rpartition(":")
        if not (where and colon and name) or (equals and function not in contracts()):
            raise GPT2Error(f"cannot read {text!r}: a port is FILE.py:NAME or MODULE:NAME, like my_port.py:split_heads")
        settings = dict(pair.partition("=")[::2] for pair in others)
        names = tuple(sorted((ours, theirs) for ours, theirs in settings.items() if ours not in SETTINGS))
        if any(not theirs for theirs in settings.values()):
            raise GPT2Error(f"cannot read {text!r}: settings are NAME=VALUE, separated by semicolons")
        chosen = cls(place, function, settings.get("framework", ""), settings.get("as", ""), names)
        for what, value, known in (("framework", chosen.framework, FRAMEWORKS), ("preset", chosen.preset, PRESETS)):
            if value and value not in known:
                raise GPT2Error(f"unknown {what} {value!r}: choose one of {', '.join(known)}")
        return chosen

    def __str__(self) -> str:
        settings = {"framework": self.framework, "as": self.preset} | dict(self.names)
        first = f"{self.function}={self.place}" if self.function else self.place
        return ";".join([first, *(f"{name}={value}" for name, value in settings.items() if value)])

    @classmethod
    def at(cls, place: str, **settings: Any) -> "PortSource":
        """The port at a place, with settings. Raises GPT2Error if it cannot be written as text."""
        for character in ";=":
            if character in place:
                raise GPT2Error(f"the place of a port, {place!r}, cannot have a {character!r} in it: rename the file")
        return cls.read(str(cls(place, **settings)))

    def load(self, anew: bool = False) -> tuple[Any, ModuleType]:
        """What is there, and its module; `anew`: of a file, imported again as another module.

        Raises GPT2Error, one line, if it is not there or cannot be imported.
        """
        where, _, name = self.place.rpartition(":")
        module = _from_file(Path(where), anew) if where.endswith(".py") else _from_module(where)
        found: Any = module
        for step in name.split("."):
            if not hasattr(found, step):
                there = [each for each in vars(module) if not each.startswith("_")]
                near = difflib.get_close_matches(name, there, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there) or 'nothing'}"
                raise GPT2Error(f"{where} has no {name!r}: {hint}")
            found = getattr(found, step)
        if not callable(found):
            raise GPT2Error(f"{self.place} is of type {type(found).__name__}: expected a function or a class")
        return found, module


def _from_file(path: Path, anew: bool = False) -> ModuleType:
    if not path.is_file():
        raise GPT2Error(f"{path} does not exist: --with takes FILE.py:NAME, with the file's path from here")
    file = path.resolve()
    for known in [] if anew else list(sys.modules.values()):
        if getattr(known, "__file__", None) == str(file):
            return known
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_{'again' if anew else 'port'}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise GPT2Error(f"{path} cannot be imported: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # files beside it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise GPT2Error(f"{path} cannot be imported: {described(error, file)}") from error
    if anew:
        del sys.modules[name]
    return module


def _from_module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise GPT2Error(f"module {name!r} cannot be imported: {described(error)}") from error


def parameters_of(target: Any) -> list[inspect.Parameter] | None:
    """The parameters of a function or module, in order; None if Python cannot say, as of one that is written in C."""
    target = getattr(target, "forward", None) or getattr(target, "construct", None) or target  # modules take anything
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
