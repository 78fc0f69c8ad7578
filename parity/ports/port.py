"""Make a backend of what a person points to: `gpt2 check --with my_port.py:split_heads`."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from gpt2.backends import Backend
from gpt2.errors import GPT2Error
from parity.cases.contracts import contracts
from parity.cases.supports import PRESETS, UNKNOWN, Supports
from parity.ports.frameworks import framework, guessed
from parity.ports.function_port import FunctionPort
from parity.ports.model_port import ModelPort
from parity.ports.source import PortSource, parameters_of

# How a function that builds a whole model begins.
BUILDS = ["config", "parameters"]


def get_port(
    text: str = "", device: str | None = None, dtype: str = "float32", mode: str | None = None, anew: bool = False
) -> Backend:
    """The backend for a port, as `PortSource` reads it; `anew`: of a file that is imported again.

    A class with the methods of a backend is one, a function of (config, parameters) builds a whole model, any other is
    the function of the mirror that the text, or its own name, says. Raises GPT2Error for what it cannot be.
    """
    source = PortSource.read(text)
    found, module = source.load(anew)
    if inspect.isclass(found):
        return _of_class(source, found, {"device": device, "dtype": dtype, "mode": mode})
    if mode not in (None, "eager"):
        raise GPT2Error(f"a port has no mode {mode!r}: leave --mode out")
    file = source_file(found) or Path(module.__file__ or "").resolve()
    used = framework(source.framework or guessed(Path(module.__file__ or file), file), device)
    supports = _supports(source, found, module)
    if _builds(found):
        return ModelPort(source, found, used, dtype, supports, file)
    return FunctionPort(_with_function(source), found, used, dtype, supports, file)


def _of_class(source: PortSource, found: Any, options: dict[str, Any]) -> Backend:
    if not hasattr(found, "call") or not hasattr(found, "model"):
        raise GPT2Error(
            f"{source.place} is a class without the methods `call` and `model` of a backend: for a module of layers, "
            "write build(config, parameters) that returns one with these weights"
        )
    backend: Backend = found(**{name: value for name, value in options.items() if value is not None})
    backend.name = f"port:{source}"
    return backend


def source_file(found: Any) -> Path | None:
    """The file that a function is written in; None for one that is no function of Python's."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(found))
    except TypeError:
        return None
    return Path(file).resolve() if file else None


def _builds(found: Any) -> bool:
    return [each.name for each in parameters_of(found) or ()][:2] == BUILDS


def _supports(source: PortSource, found: Any, module: ModuleType) -> Supports:
    """What the function, or its file, declares in `supports`; the preset for what that does not name."""
    declared = getattr(found, "supports", None) or getattr(module, "supports", None) or {}
    if not isinstance(declared, Mapping):
        raise GPT2Error(f"supports must be a dict of names and values, but is a {type(declared).__name__}")
    return Supports.read(UNKNOWN | PRESETS.get(source.preset, {}) | dict(declared))


def _with_function(source: PortSource) -> PortSource:
    """The source with its function: the one it names, or that of its own name."""
    if source.function:
        return source
    name = source.place.rpartition(":")[2].rpartition(".")[2]
    named = [function for function in contracts() if function.partition(".")[2] == name]
    if len(named) != 1:
        raise GPT2Error(
            f"{source.place} is no build(config, parameters), which makes a whole model, and has no name of a function "
            f"here: say which one it is, as in gpt2 check attention.split_heads --with {source.place}"
        )
    return PortSource(source.place, named[0], source.framework, source.preset, source.names)


def port_for(place: str, functions: Sequence[str] = (), **settings: Any) -> PortSource:
    """The port at a place, for the functions that are to be checked: one of them, by name, is what it stands for.

    settings: framework, preset and names, as in PortSource. Raises GPT2Error if it cannot be imported.
    """
    source = PortSource.at(place, **settings)
    found, _ = source.load()
    if inspect.isclass(found) or _builds(found):
        return source
    named = [name for word in functions for name in contracts() if word in (name, name.partition(".")[2])]
    return PortSource(place, named[0] if len(named) == 1 else "", **settings)
