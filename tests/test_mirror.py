"""The mirror: what `reference` has, `ms_backend` has under the same name, with the same arguments and first line."""

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType

import pytest

from parity.contracts import contracts, files, public_functions

ms = pytest.importorskip("mindspore", reason="MindSpore is not installed: there is no twin to compare with")

# Built up of what the others promise, or of trees whose form no shape can say; held by the engine's own checks.
WITHOUT_SHAPES = {"fast.fast_parameters", "fast.make_cache"}


def twin(file: str) -> ModuleType:
    """The file of that name in ms_backend."""
    return importlib.import_module(f"ms_backend.{file}")


def arguments(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Name, kind and default of every argument; the types are those of the room."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


MIRRORED = [(file, name) for file in [*files(), "stages"] for name in public_functions(file)]


@pytest.mark.parametrize(("file", "name"), MIRRORED, ids=lambda value: value)
def test_a_function_has_a_twin_with_the_same_arguments(file: str, name: str) -> None:
    own, other = public_functions(file)[name], getattr(twin(file), name)
    ours, theirs = inspect.signature(own).parameters, inspect.signature(other).parameters
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


@pytest.mark.parametrize(("file", "name"), MIRRORED, ids=lambda value: value)
def test_twins_introduce_themselves_alike(file: str, name: str) -> None:
    first, second = inspect.getdoc(public_functions(file)[name]), inspect.getdoc(getattr(twin(file), name))
    assert first is not None
    assert second is not None
    assert first.splitlines()[0].rstrip(".") == second.splitlines()[0].rstrip(".")


@pytest.mark.parametrize("file", [*files(), "stages"])
def test_a_twin_adds_no_public_function_of_its_own(file: str) -> None:
    module = twin(file)
    public = {
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == set(public_functions(file))


def test_every_function_promises_its_shapes() -> None:
    named = {f"{file}.{name}" for file in files() for name in public_functions(file)}
    assert named - set(contracts()) == WITHOUT_SHAPES
