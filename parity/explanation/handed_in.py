"""Explain one result that somebody hands in: the arguments of a function, and what came out."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from parity.cases.cases import Case
from parity.cases.contracts import Contract, Item, contracts
from parity.check import rules
from parity.explanation.explain import SECONDS_OF_MODELS, Search
from parity.mutants.mistake import Explanation
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict
from reference.config import GPT2Config, axis_sizes, nest

Array = NDArray[Any]
DTYPES = ("float32", "float16", "bfloat16")


class HandedIn:
    """A backend that gives the values that were handed in, whatever it is asked."""

    name, device, mode = "the result", "CPU", "eager"
    accuracy: Mapping[str, float] = {}

    def __init__(self, values: list[Array], dtype: str) -> None:
        self.values, self.dtype = values, dtype

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """The values."""
        return tuple(self.values)


def trial_of(function: str, arrays: Mapping[str, Array], options: Mapping[str, Any], values: list[Array]) -> Trial:
    """The trial of a result: function is "ops.layer_norm", arrays its arguments by name, options the others.

    A tree of parameters is given by the names of its leaves: "params.c_attn.weight". An option that is a field of the
    configuration is put into it.
    Raises GPT2Error, which says what was expected, for what does not fit the function's docstring.
    """
    contract = contracts().get(function)
    if contract is None:
        near = [name for name in contracts() if name.endswith(f".{function}")]
        raise GPT2Error(
            f"no function is called {function!r}: {f'did you mean {near[0]}?' if near else 'see gpt2 check'}"
        )
    arguments, config = _arguments(contract, arrays, options)
    floats = [x.dtype.name for x in arrays.values() if x.dtype.name in DTYPES]
    dtype = floats[0] if floats else "float32"
    absent = frozenset(item.name for item in contract.inputs if item.name not in arguments)
    sizes = dict.fromkeys("BTPSCHDNIVLK", 1) | (axis_sizes(config) if config is not None else {})
    sizes["H"] = int(options.get("n_head", sizes["H"]))
    for item in contract.inputs:
        if item.axes is not None and item.name in arguments:
            _read_sizes(item, np.shape(arguments[item.name]), sizes)
    scalars = {name: arguments[name] for name in contract.scalars if name in arguments}
    case = Case(contract, sizes, scalars, absent, "none", "live", 0)
    backend: Any = HandedIn(values, dtype)
    try:
        trial = Trial(case, backend, {"arguments": arguments})
        trial.references()
    except Exception as error:
        raise GPT2Error(f"{function} does not run on these inputs: {error}") from error
    return trial


def explain_result(trial: Trial, seconds: float = SECONDS_OF_MODELS) -> tuple[list[Verdict], Explanation | None]:
    """The verdicts on a result that was handed in, and what explains it; None if it agrees with the reference."""
    verdicts = list(trial.compare())
    if all(verdict.agrees for verdict in verdicts):
        return verdicts, None
    rule = rules()[trial.case.contract.function]
    return verdicts, Search(rule, trial, time.monotonic() + seconds).explain(())


def _arguments(
    contract: Contract, arrays: Mapping[str, Array], options: Mapping[str, Any]
) -> tuple[dict[str, Any], GPT2Config | None]:
    """All arguments by name, with the trees put together, and the configuration, if there is one."""
    arguments: dict[str, Any] = {name: x for name, x in arrays.items() if "." not in name} | dict(options)
    for tree in {name.partition(".")[0] for name in arrays if "." in name}:
        leaves = {name.partition(".")[2]: x for name, x in arrays.items() if name.startswith(f"{tree}.")}
        nested = nest(leaves)
        arguments[tree] = nested if nested["h"] else {name: x for name, x in nested.items() if name != "h"}
    config = None
    if "config" in contract.scalars:
        known = {field.name for field in dataclasses.fields(GPT2Config)}
        fields = {name: value for name, value in options.items() if name in known}
        config = GPT2Config(**fields)
        arguments = {name: x for name, x in arguments.items() if name not in fields} | {"config": config}
    names = [item.name for item in contract.inputs] + contract.scalars
    wrong = [name for name in arguments if name not in names]
    if wrong:
        raise GPT2Error(f"{contract.function} has no argument {wrong[0]!r}: it has {', '.join(names)}")
    missing = [
        item.name for item in contract.inputs if item.name not in arguments and item.name not in contract.optional
    ]
    if missing:
        raise GPT2Error(f"{contract.function} needs {missing[0]!r}: name it so in the .npz file")
    return arguments, config


def _read_sizes(item: Item, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Read the sizes of axes from a shape: a letter alone, or the last unknown letter of a product."""
    axes = item.axes or ()
    if len(axes) != len(shape):
        raise GPT2Error(f"{item.name} must have the axes ({', '.join(axes)}), but has the shape {shape}")
    for axis, size in zip(axes, shape, strict=True):
        if axis in sizes:
            sizes[axis] = size
        else:
            *others, last = axis.split("*")
            rest = math.prod(int(x) if x.isdigit() else sizes[x] for x in others)
            sizes[last] = max(size // max(rest, 1), 1)
