"""Which activation function a part of an ONNX graph computes, in whatever way it is written."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpt2.model.onnx_graph import MICROSOFT, Graph
from gpt2.model.tensors import Array
from reference import activations, elementary, ops
from reference.config import ACTIVATIONS

# Where functions are compared: also far out, where a clipped one would differ.
POINTS = np.linspace(-12, 12, 481)
# Constants that are rounded to float16 change a function less than this.
NEAR = 2.0**-8
MOST_NODES = 40

Affine = tuple[str, Array, str]
UNARY: dict[str, Callable[[Array], Array]] = {
    "Tanh": np.tanh,
    "Erf": elementary.erf,
    "Sigmoid": elementary.sigmoid,
    "Relu": lambda x: np.maximum(x, 0),
    "Exp": np.exp,
    "Log": np.log,
    "Neg": np.negative,
    "Sqrt": np.sqrt,
    "Abs": np.abs,
    "Reciprocal": np.reciprocal,
    "Softplus": lambda x: np.logaddexp(x, 0),
    "Mish": activations.mish,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    f"{MICROSOFT}:Gelu": ops.gelu,
    f"{MICROSOFT}:FastGelu": ops.gelu_new,
    f"{MICROSOFT}:BiasGelu": ops.gelu,
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Max": np.maximum,
    "Min": np.minimum,
}


class Curve:
    """A function of one number, evaluated at some points; `source` is the affine map whose result it is applied to."""

    source: Affine

    def __init__(self, graph: Graph, affine: Callable[[str], Affine | None]) -> None:
        """affine: the affine map that ends with a tensor, if one does."""
        self._graph, self._affine = graph, affine
        self._values: dict[str, Array] = {}
        self._root = ""

    def activation(self, name: str) -> str:
        """The name of the nearest activation function. Refuses the graph if none is near, or if it is no function."""
        with np.errstate(all="ignore"):
            values = self._at(name)
            errors = {each: float(np.abs(getattr(activations, each)(POINTS) - values).max()) for each in ACTIVATIONS}
        nearest = min(errors, key=lambda each: errors[each] if errors[each] == errors[each] else np.inf)
        if not errors[nearest] < NEAR or not self._root:
            self._graph.refuse(self._graph.through(name), "an activation function that GPT-2 is known with")
        return nearest

    def _at(self, name: str) -> Array:
        graph, name = self._graph, self._graph.through(name)
        if name not in self._values:
            if len(self._values) > MOST_NODES:
                graph.refuse(name, "an activation function of a few nodes")
            self._values[name] = POINTS  # a node inside an argument of its own is no case: the graph has an order
            self._values[name] = self._of(name)
        return self._values[name]

    def _of(self, name: str) -> Array:
        graph = self._graph
        operator = graph.operator(name)
        number, found = graph.scalar(name), self._affine(name)
        if number is not None:
            return np.full_like(POINTS, number)
        if found is not None:
            return self._begin(name, found)
        given = graph.arguments(name) if operator else []
        if operator in (f"{MICROSOFT}:FastGelu", f"{MICROSOFT}:BiasGelu") and len(given) == 2 and given[1]:
            found = self._affine(given[0])
            if found is None or found[2] or not graph.is_constant(given[1]):
                graph.refuse(name, "c_fc before its activation function")
            return UNARY[operator](self._begin(graph.through(given[0]), (found[0], found[1], given[1])))
        if operator in UNARY:
            return UNARY[operator](self._at(given[0]))
        vector = any(graph.is_constant(each) and graph.scalar(each) is None for each in given)
        if operator in BINARY and len(given) == 2 and not vector:
            return BINARY[operator](self._at(given[0]), self._at(given[1]))
        if (special := self._special(name, operator)) is not None:
            return special(self._at(given[0]))
        return graph.refuse(name, "c_fc and an activation function")

    def _special(self, name: str, operator: str) -> Callable[[Array], Array] | None:
        """The function of an operator that has an attribute."""
        graph = self._graph
        if operator == "Gelu":
            tanh = graph.attribute(name, "approximate", "none") == "tanh"
            return ops.gelu_new if tanh else ops.gelu
        defaults: dict[str, Any] = {"LeakyRelu": 0.01, "Swish": 1.0, f"{MICROSOFT}:QuickGelu": 1.702}
        if operator not in defaults:
            return None
        alpha = graph.attribute(name, "alpha", defaults[operator])
        if operator == "LeakyRelu":
            return lambda x: np.where(x > 0, x, alpha * x)
        return lambda x: x * elementary.sigmoid(alpha * x)

    def _begin(self, name: str, found: Affine) -> Array:
        """The points themselves, at the affine map that the function is applied to: one and the same everywhere."""
        if self._root not in ("", name):
            self._graph.refuse(name, f"one c_fc, and not {self._root!r} too,")
        self._root, self.source = name, found
        return POINTS
