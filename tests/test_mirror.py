"""The mirror: what `reference` has, `ms_backend` has under the same name, with the same arguments and first line.

Gradients (`..._vjp`) alone are derived by hand on one side and found by MindSpore on the other: there, only the
function that they are the gradient of has a twin.
"""

import importlib
import inspect
import pkgutil
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from parity.cases.contracts import contracts, files, public_functions
from reference import gradients

ms = pytest.importorskip("mindspore", reason="MindSpore is not installed: there is no twin to compare with")

# Built up of what the others promise, or of trees whose form no shape can say; held by the engine's own checks, and
# what trains by the laws and comparisons of whole runs. What reads data computes nothing that could be rounded: its own
# tests ask for the same arrays, bit for bit (tests/ms_backend/test_data.py).
WITHOUT_SHAPES = {
    "data.batches",
    "data.merge_and_pad",
    "data.merge_rows",
    "data.order",
    "data.pad_rows",
    "data.windows",
    "fast.adamw_fast",
    "fast.fast_parameters",
    "fast.make_cache",
    "generate.continue_greedily",
    "train.loss_scaler",
    "train.train_step",
}


def twin(file: str) -> ModuleType:
    """The file of that name in ms_backend."""
    return importlib.import_module(f"ms_backend.{file}")


def arguments(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Name, kind and default of every argument; the types are those of the room."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def public_classes(module: ModuleType) -> dict[str, type]:
    """The public classes that a file defines, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def methods(kind: type) -> dict[str, Any]:
    """What a class defines itself that is public, and how it is made and called; MindSpore calls __call__ construct."""
    named = {"construct" if name == "__call__" else name: value for name, value in vars(kind).items()}
    return {name: value for name, value in named.items() if name == "__init__" or not name.startswith("_")}


def called(value: Any) -> Any:
    """What stands behind a property."""
    return value.fget if isinstance(value, property) else value


MIRRORED = [
    (file, name) for file in [*files(), "stages"] for name in public_functions(file) if not name.endswith("_vjp")
]
CLASSES = [(file, name) for file in files() for name in public_classes(importlib.import_module(f"reference.{file}"))]


@pytest.mark.parametrize(("file", "name"), MIRRORED, ids=lambda value: value)
def test_a_function_has_a_twin_with_the_same_arguments(file: str, name: str) -> None:
    assert arguments(public_functions(file)[name]) == arguments(getattr(twin(file), name))


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
    assert public == {name for name in public_functions(file) if not name.endswith("_vjp")}


@pytest.mark.parametrize("file", [module.name for module in pkgutil.iter_modules(gradients.__path__)])
def test_a_file_of_gradients_has_those_of_the_file_of_its_name_in_its_order(file: str) -> None:
    module = importlib.import_module(f"reference.gradients.{file}")
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    public = [name for name in own if not name.startswith("_")]
    assert public == [name for name in public_functions(file) if name.endswith("_vjp")]
    assert public


@pytest.mark.parametrize("name", [name for name in contracts() if name.endswith("_vjp")])
def test_a_gradient_takes_the_arguments_of_its_function_but_a_past(name: str) -> None:
    file, function = name.removesuffix("_vjp").split(".")
    own = arguments(public_functions(file)[f"{function}_vjp"])
    assert own[0][0] == "grad"
    assert own[1:] == [argument for argument in arguments(public_functions(file)[function]) if argument[0] != "past"]


@pytest.mark.parametrize("file", files())
def test_files_have_the_same_classes(file: str) -> None:
    own = importlib.import_module(f"reference.{file}")
    assert public_classes(own).keys() == public_classes(twin(file)).keys()


@pytest.mark.parametrize(("file", "name"), CLASSES, ids=lambda value: value)
def test_a_class_has_a_twin_with_the_same_methods(file: str, name: str) -> None:
    own, other = (getattr(module, name) for module in (importlib.import_module(f"reference.{file}"), twin(file)))
    assert methods(own).keys() == methods(other).keys()
    for method, value in methods(own).items():
        if callable(called(value)):
            assert arguments(called(value)) == arguments(called(methods(other)[method])), method
    assert (inspect.getdoc(own) or "").partition("\n")[0] == (inspect.getdoc(other) or "").partition("\n")[0]


@pytest.mark.parametrize("stages", [importlib.import_module("reference.stages"), twin("stages")])
def test_an_observer_sees_its_own_thread_alone(stages: Any) -> None:
    other: list[int] = []
    with stages.observing(lambda name, x: x + 1):
        thread = threading.Thread(target=lambda: other.append(stages.observe("embeddings", 1)))
        thread.start()
        thread.join()
        assert [stages.observe("embeddings", 1), *other] == [2, 1]


def test_every_function_promises_its_shapes() -> None:
    named = {f"{file}.{name}" for file in files() for name in public_functions(file)}
    assert named - set(contracts()) == WITHOUT_SHAPES
