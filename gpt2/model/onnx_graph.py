"""An ONNX file as a graph: which node computes a tensor, which numbers a constant holds. Nothing of it is executed.

Source: onnx.proto and ExternalData.md of ONNX.
"""

import importlib
import math
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from gpt2.errors import GPT2Error
from gpt2.model.tensors import Array

STANDARD = ("", "ai.onnx")
MICROSOFT = "com.microsoft"  # the domain of what onnxruntime's optimiser fuses
# What leaves the numbers as they are at inference; the exporters put them nearly everywhere.
PASSING = {"Identity", "Cast", "Dropout", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand"}


class Graph:
    """The nodes of a file by the tensors that they compute.

    A tensor is named by a string, as in the file. Operators of other domains than ONNX's have it before their names,
    as in "com.microsoft:Attention".
    """

    def __init__(self, path: Path) -> None:
        """Raises GPT2Error if the package onnx is missing, if the file is damaged, or if a node comes too early."""
        self.path = path
        graph = _parsed(path).graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._constants: dict[str, Array] = {}
        self.producers: dict[str, Any] = {}
        self.inputs = {each.name for each in graph.input} - self._initializers.keys()
        self.outputs = [each.name for each in graph.output]
        known = self.inputs | self._initializers.keys()
        for node in graph.node:
            for name in filter(None, node.input):
                # The order that ONNX asks for; it also means that there is no cycle.
                if name not in known:
                    raise GPT2Error(f"{path}: {_named(node)} reads {name!r}, which nothing before it computes")
            for name in filter(None, node.output):
                if name in known:
                    raise GPT2Error(f"{path}: {_named(node)} computes {name!r}, which is there already")
                known.add(name)
                self.producers[name] = node

    def refuse(self, name: str, expected: str) -> NoReturn:
        """Raise GPT2Error that names the node that computes a tensor, where a GPT-2 has something else."""
        node = self.producers.get(name)
        found = f"the tensor {name!r}" if node is None else _named(node)
        raise GPT2Error(f"{self.path}: {found} is unexpected: a GPT-2 has {expected} there")

    def operator(self, name: str) -> str:
        """The operator that computes a tensor; "" for an input or an initializer."""
        node = self.producers.get(name)
        if node is None:
            return ""
        return str(node.op_type) if node.domain in STANDARD else f"{node.domain}:{node.op_type}"

    def arguments(self, name: str) -> list[str]:
        """The tensors that the node of a tensor reads; "" for an optional one that is left out."""
        return list(self.producers[name].input)

    def argument(self, name: str, place: int) -> str:
        """One of them; "" if there are not so many."""
        given = self.arguments(name)
        return given[place] if place < len(given) else ""

    def attribute(self, name: str, attribute: str, default: Any) -> Any:
        """An attribute of the node of a tensor: a number, a string or a list of numbers, as the default is."""
        for found in self.producers[name].attribute:
            if found.name == attribute:
                if isinstance(default, str):
                    return found.s.decode(errors="replace")
                if isinstance(default, list):
                    return list(found.ints)
                return found.f if isinstance(default, float) else found.i
        return default

    def through(self, name: str) -> str:
        """The tensor itself, or the one whose numbers it has in another shape or dtype."""
        while self.operator(name) in PASSING and self.arguments(name):
            name = self.argument(name, 0)
        return name

    def is_constant(self, name: str) -> bool:
        """Whether a tensor's numbers stand in the file, perhaps turned or in another shape or dtype."""
        name = self._origin(name)[0]
        return name in self._initializers or self.operator(name) in ("Constant", "ConstantOfShape")

    def _origin(self, name: str) -> tuple[str, bool]:
        """Where a constant tensor stands, and whether it is turned round on the way."""
        turned = False
        while self.operator(name) in (PASSING - {"Dropout"} | {"Transpose"}) and self.arguments(name):
            turned ^= self.operator(name) == "Transpose"
            name = self.argument(name, 0)
        return name, turned

    def constant(self, name: str) -> Array:
        """The numbers of a constant tensor, in the dtype in which the file holds them. Raises GPT2Error if damaged."""
        origin, turned = self._origin(name)
        if origin not in self._constants:
            self._constants[origin] = self._read(origin)
        x = self._constants[origin]
        return x.T if turned else x

    def scalar(self, name: str) -> float | None:
        """The number of a constant tensor that holds a single one; None for any other tensor."""
        if not self.is_constant(name):
            return None
        x = self.constant(name)
        return float(x.reshape(())) if x.size == 1 and x.dtype.kind in "fiub" else None

    def with_constant(self, name: str) -> tuple[str, str]:
        """The two arguments of the node of a tensor, the constant one behind; two empty strings if neither is."""
        given = self.arguments(name)
        if len(given) == 2 and self.is_constant(given[1]):
            return given[0], given[1]
        return (given[1], given[0]) if len(given) == 2 and self.is_constant(given[0]) else ("", "")

    def _read(self, name: str) -> Array:
        from onnx import numpy_helper

        tensor = self._initializers.get(name)
        if tensor is None:
            return self._of_node(name)
        external = tensor.data_location == tensor.EXTERNAL
        if any(size < 0 for size in tensor.dims):
            raise GPT2Error(f"{self.path}: {name!r} has the shape {tuple(tensor.dims)}: fetch or export it again")
        try:
            return self._external(tensor) if external else np.asarray(numpy_helper.to_array(tensor))
        except GPT2Error:
            raise
        except Exception as error:  # the library raises many kinds of error for damaged tensors
            raise GPT2Error(f"{self.path}: {name!r} cannot be read ({_first(error)}): export it again") from error

    def _of_node(self, name: str) -> Array:
        """The value of a node Constant, or the one number that ConstantOfShape repeats."""
        from onnx import numpy_helper

        for found in self.producers[name].attribute:
            if found.name == "value" and found.t.data_location != found.t.EXTERNAL:
                try:
                    return np.asarray(numpy_helper.to_array(found.t))
                except Exception as error:  # as above
                    raise GPT2Error(f"{self.path}: {name!r} cannot be read ({_first(error)})") from error
            if found.name in ("value_float", "value_int"):
                return np.asarray(found.f if found.name == "value_float" else found.i)
            if found.name in ("value_floats", "value_ints"):
                return np.asarray(found.floats if found.name == "value_floats" else found.ints)
        return np.zeros(1, np.float32)

    def _external(self, tensor: Any) -> Array:
        """The numbers of a tensor that lie in a file beside this one. Links are followed: the folder's owner made them.

        Raises GPT2Error for a place outside the folder, or if there are too few bytes.
        """
        from onnx import helper

        said = {entry.key: entry.value for entry in tensor.external_data}
        place = PurePosixPath(said.get("location", ""))
        if not place.parts or place.is_absolute() or ".." in place.parts or {*"\\:\0"} & {*str(place)}:
            raise GPT2Error(f"{self.path} points outside its folder: the numbers of {tensor.name!r} in {str(place)!r}")
        path, dtype = self.path.parent / place, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        size, offset = math.prod(tensor.dims) * dtype.itemsize, int(said.get("offset", 0))
        if not path.is_file():
            raise GPT2Error(f"{path} is missing: {self.path.name} says that its numbers lie there")
        if offset < 0 or int(said.get("length", size)) != size or offset + size > path.stat().st_size:
            raise GPT2Error(f"{path} does not hold the numbers of {tensor.name!r}: fetch or export it again")
        with path.open("rb") as file:
            file.seek(offset)
            return np.frombuffer(file.read(size), dtype).reshape(tuple(tensor.dims))


def imported_onnx() -> Any:
    """The package onnx. Raises GPT2Error if it is missing."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise GPT2Error("ONNX is read and written by the package onnx: pip install 'gpt2-parity[onnx]'") from error


def _parsed(path: Path) -> Any:
    onnx = imported_onnx()
    try:
        return onnx.load(path, format="protobuf", load_external_data=False)
    except OSError:
        raise
    except Exception as error:  # those of protobuf
        raise GPT2Error(f"{path} is not a readable ONNX file ({_first(error)}): fetch or export it again") from error


def _first(error: BaseException) -> str:
    """The first line of an error, or its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _named(node: Any) -> str:
    """A node for a message: its name, or its first output, and its operator."""
    return f"node {node.name or next(iter(node.output), '')!r} ({node.op_type})"
