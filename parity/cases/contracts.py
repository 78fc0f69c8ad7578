"""Read the shapes that docstrings of `reference` promise: "Shapes: x (B, T, C), weight (C, N) -> (B, T, N)".

From the letters the judge draws inputs and knows the symmetries of a function: an axis without an order (channels,
heads, MLP units, unordered keys) can be permuted in all inputs at once. The output is then permuted in the same way,
or, if it is a sum over that axis, does not change. Braces stand for trees: "params {h.0.mlp}" for
that part of the parameters, "keep {h.0.mlp} keep" for that part of the dropout masks, "-> {}" for all gradients.
A result that is "kept" means nothing at pads.
"""

import dataclasses
import functools
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from typing import Any

import reference
from reference import fast
from reference.config import GPT2Config, keep_axes, nest, parameter_axes

# C channels, H heads, D channels of a head, I MLP units, N outputs or unordered keys. Not B, T, P, S, V, L, K: their
# elements have an order or an identity.
UNORDERED = "CHDIN"
# Files outside the mirror: they have no functions to compare, or theirs are compared with those of another file.
SUPPORT = ("config", "elementary", "forward", "gradients", "precision", "stages")

ITEM = re.compile(r"(?P<name>\w+) ?(?:\((?P<axes>[^)]*)\)|\{(?P<tree>[^}]*)\})(?P<kind>(?: \w+)*)")
OUTPUT = re.compile(r"(?:\((?P<axes>[^)]*)\)|\{(?P<tree>[^}]*)\})(?P<kind>(?: \w+)*)")

Axes = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Item:
    """One argument or result: its axes, or its subtree of parameters or masks, and the words after them."""

    name: str
    axes: Axes | None
    tree: str | None
    kinds: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Contract:
    """A public function of the mirror: "ops.layer_norm", with its arguments and results.

    reference: the function of the reference that it must agree with, if that has another name. A contract without
    results is not about a function: its cases are sizes and a seed (see SEEDED).
    """

    function: str
    inputs: tuple[Item, ...]
    outputs: tuple[Item, ...]
    reference: str = ""

    @property
    def target(self) -> Callable[..., Any]:
        """The function of the reference."""
        return reference.find_function(self.reference or self.function)

    @functools.cached_property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.target).parameters if self.outputs else {}

    @functools.cached_property
    def scalars(self) -> list[str]:
        """Arguments that are not arrays, so they have no shape. (An engine's caches and masks are not counted.)"""
        arrays = {item.name for item in self.inputs} | {"cache", "past", "keep"}
        return [name for name in self._signature if name not in arrays]

    @functools.cached_property
    def optional(self) -> list[str]:
        """Arrays that a call may leave out."""
        defaults = {name: p.default for name, p in self._signature.items()}
        named = [item.name for item in self.inputs if "optional" in item.kinds]
        return [name for name in named if defaults[name] is not inspect.Parameter.empty]

    @property
    def promise(self) -> str:
        """What the function returns, as its docstring says it: "(B, T, C), (B, H, S, D) pair"."""
        axes = [f"({', '.join(item.axes)})" if item.axes is not None else f"{{{item.tree}}}" for item in self.outputs]
        return ", ".join(" ".join([shown, *item.kinds]) for shown, item in zip(axes, self.outputs, strict=True))

    def without(self, *names: str) -> "Contract":
        """The contract without those arguments, which must be optional."""
        return dataclasses.replace(self, inputs=tuple(item for item in self.inputs if item.name not in names))


# What is no function of the mirror, by the name of its laws: these make their own rows and texts from sizes and a seed.
SEEDED = {name: Contract(name, (), ()) for name in ("data", "convert", "evaluation")}


def split_axes(text: str) -> Axes:
    """("B", "T", "3*H*D") of "B, T, 3*H*D"."""
    return tuple(axis.strip() for axis in text.split(",") if axis.strip())


def read_contract(function: str, docstring: str) -> Contract | None:
    """The contract in a docstring, or None if it promises no shapes.

    Raises ValueError if the line does not parse.
    """
    lines = docstring.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip().startswith("Shapes:")), None)
    if start is None:
        return None
    margin = len(lines[start]) - len(lines[start].lstrip())
    text = lines[start].strip().removeprefix("Shapes:")
    for line in lines[start + 1 :]:
        if len(line) - len(line.lstrip()) <= margin:
            break
        text += " " + line.strip()
    promised, arrow, returned = text.partition("->")
    inputs = tuple(_item(match) for match in ITEM.finditer(promised))
    outputs = tuple(_item(match) for match in OUTPUT.finditer(returned))
    brackets = [text.count("(") + text.count("{") for text in (promised, returned)]
    if not arrow or not outputs or brackets != [len(inputs), len(outputs)]:
        raise ValueError(f"{function}: cannot read the docstring's line 'Shapes:{text}'")
    return Contract(function, inputs, outputs)


def _item(match: re.Match[str]) -> Item:
    axes = None if match["axes"] is None else split_axes(match["axes"])
    name = match.groupdict().get("name") or ""  # results have none
    return Item(name, axes, match["tree"], tuple(match["kind"].split()))


def public_functions(file: str) -> dict[str, Callable[..., Any]]:
    """The public functions that reference/{file}.py defines, by name, in the order of the file.

    Behind each stands its gradient, if it has one, as if it were of that file.
    """
    functions = {}
    for name, function in _defined_in(file).items():
        functions[name] = function
        module, gradient = reference.place(f"{file}.{name}_vjp")
        if gradient in _defined_in(module):
            functions[gradient] = _defined_in(module)[gradient]
    return functions


@functools.cache
def _defined_in(file: str) -> dict[str, Callable[..., Any]]:
    if importlib.util.find_spec(f"reference.{file}") is None:
        return {}
    module = importlib.import_module(f"reference.{file}")
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def files() -> list[str]:
    """The files of the mirror."""
    names = {module.name for module in pkgutil.iter_modules(reference.__path__)} - set(SUPPORT)
    lesson = [name for name in ("ops", "activations", "attention", "model") if name in names]
    return lesson + sorted(names - set(lesson))


@functools.cache
def contracts() -> dict[str, Contract]:
    """The contract of every public function of the mirror that has one, by name ("ops.layer_norm")."""
    read = {
        f"{file}.{name}": read_contract(f"{file}.{name}", inspect.getdoc(function) or "")
        for file in files()
        for name, function in public_functions(file).items()
    }
    return {name: contract for name, contract in read.items() if contract is not None}


@functools.cache
def engine_contracts() -> dict[str, Contract]:
    """The contracts of whole models: their fast, compiled and cached paths must agree with the plain reference.

    "engine.logits", "engine.cached" (the prompt's first half read at once, the rest token by token), "engine.classify".
    """
    plain = contracts()
    by_name = {}
    for name, reference_name in (
        ("engine.logits", "model.language_model"),
        ("engine.cached", "model.language_model"),
        ("engine.classify", "model.sequence_classifier"),
    ):
        contract = plain[reference_name].without("past", "keep")
        first = contract.outputs[0]
        kinds = ("kept",) if first.axes is not None and "T" in first.axes else ()
        by_name[name] = Contract(name, contract.inputs, (dataclasses.replace(first, kinds=kinds),), reference_name)
    return by_name


class _Leaf:
    """Stands for an array in a tree, so that the axes of `fast_parameters` come from fast_parameters itself."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes

    @property
    def T(self) -> "_Leaf":  # noqa: N802 (NumPy's name for it)
        return _Leaf(self.axes[::-1])


def tree_axes(item: Item, config: GPT2Config) -> Any:
    """The subtree of parameters or dropout masks that an item names, with the axes of each in place of the array.

    "" is the whole language model, "score" the whole classifier, "h.0.attn" one attention.
    """
    head = "sequence_classifier" if item.tree == "score" else "language_model"
    named = keep_axes(config) if "keep" in item.kinds else parameter_axes(config, head)
    tree: Any = nest({name: _Leaf(split_axes(axes)) for name, axes in named.items()})
    if "fast" in item.kinds:
        tree = fast.fast_parameters(tree)
    for step in (item.tree or "").split(".") if item.tree not in ("", "score") else ():
        tree = tree[int(step) if step.isdigit() else step]
    return _axes_of(tree)


def _axes_of(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _axes_of(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_axes_of(value) for value in tree]
    return tree.axes
