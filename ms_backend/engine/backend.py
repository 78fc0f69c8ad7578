"""The MindSpore engine under the protocol of gpt2/backends/protocol.py: functions, models and trainers on a device."""

import functools
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter

from ms_backend.autodiff import Gradients
from ms_backend.engine.device import DTYPES, LOCK, Array, MindSporeDevice, MindSporeError
from ms_backend.engine.model import MindSporeModel
from ms_backend.engine.runner import Kept, Runner, form
from ms_backend.engine.trainer import MindSporeTrainer
from reference.config import GPT2Config, TrainingConfig, map_tree

MIRROR = __package__.rpartition(".")[0]  # `ms_backend`, or a copy of it that the judge has made

# Arguments that a function writes to, or takes as Parameters.
CHANGED = {"fast.adamw_fast": ("param", "m", "v"), "train.loss_and_gradients": ("params",)}

COMPILED = Kept(64)  # graphs of functions: compiling one takes up to seconds, new numbers in it next to nothing


class MindSporeBackend(MindSporeDevice):
    """The twin on `device`, in `dtype`, compiled ("graph") or op by op ("pynative").

    Raises MindSporeError for an unknown or absent device, dtype or mode.
    """

    name = "mindspore"
    sources = Path(__file__).parents[1]

    @functools.cached_property
    def compiled(self) -> "MindSporeBackend":
        """The same backend with its functions compiled. Raises AttributeError if they are already."""
        if self.mode == "graph":
            raise AttributeError("compiled")
        return MindSporeBackend(self.device, self.dtype, "graph")

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror on (trees of) NumPy arrays.

        For a name in _vjp MindSpore differentiates; training functions, and those that change their arguments, take
        Parameters, and run op by op in any mode.
        """
        file, name = function.split(".")
        target = getattr(importlib.import_module(f"{MIRROR}.{file}"), name.removesuffix("_vjp"))
        tensors, constants = {}, {}
        for key, value in arguments.items():
            if isinstance(value, np.dtype):
                constants[key] = DTYPES[self.dtype]
            elif isinstance(value, np.ndarray | dict | list | tuple):
                tensors[key] = _map(self.place, value)
            else:
                constants[key] = value
        changed = CHANGED.get(function, ())
        mode = "pynative" if changed else self.mode
        for key in changed:
            tensors[key] = map_tree(_parameter, tensors[key])
        kind = Gradients if name.endswith("_vjp") else Runner
        with LOCK:
            if mode == "pynative":
                return _map(self.fetch, kind(target, constants, mode)(**tensors))
            purpose = kind, target, form(constants), form(tensors)
            run = COMPILED.take(purpose) or kind(target, constants, mode)
            returned = _map(self.fetch, run(**tensors))
            COMPILED.give(purpose, run)  # not after an error: a graph that failed once fails again
            return returned

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> MindSporeModel:
        """Make a model with these parameters."""
        return MindSporeModel(self, config, parameters)

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> Any:
        """Start training. Raises MindSporeError unless the backend's dtype, that of the weights, is float32."""
        if self.dtype != "float32":
            raise MindSporeError(
                f"weights are trained in float32, not in {self.dtype}: use --dtype float32 and a level from O1 to O3"
            )
        return MindSporeTrainer(self, config, parameters, settings)


def _parameter(name: str, x: Any) -> Parameter:
    return Parameter(x, name=name or "parameter")


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_map(function, value) for value in tree)
    return function(tree)
