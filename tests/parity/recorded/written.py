"""Small dumps as msprobe writes them, written without it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpt2.model.torch_files import save, tensor

SPELLED = {"float32": "Float32", "int64": "Int64", "bool": "Bool", "bfloat16": "BFloat16"}


class Dump:
    """A dump of one step on one device, to which calls are added; `write` writes it."""

    def __init__(self, folder: Path, framework: str = "mindspore") -> None:
        self.folder, self.framework = folder, framework
        self.data: dict[str, Any] = {}
        self.json: dict[str, Any] = {"task": "tensor", "level": "mix", "framework": framework, "dump_data_dir": "/away"}
        (folder / "dump_tensor_data").mkdir(parents=True)

    def tensor(self, x: NDArray[Any], name: str) -> dict[str, Any]:
        """The entry of a tensor, whose file is written."""
        if self.framework == "pytorch":
            file, kind, dtype = f"{name}.pt", "torch.Tensor", f"torch.{x.dtype.name}"
            save(self.file(file), tensor(x, "0"))
        else:
            file, kind, dtype = f"{name}.npy", "mindspore.Tensor", SPELLED[x.dtype.name]
            np.save(self.file(file), x.astype(np.float32) if x.dtype.name == "bfloat16" else x)
        statistics = {"Max": None, "Min": None, "Mean": None, "Norm": None}
        return {"type": kind, "dtype": dtype, "shape": list(x.shape), **statistics, "data_name": file}

    def file(self, name: str) -> Path:
        """A file of numbers."""
        return self.folder / "dump_tensor_data" / name

    def call(self, name: str, x: NDArray[Any], y: NDArray[Any], *plain: Any, **parameters: NDArray[Any]) -> None:
        """Add a forward call of one tensor and plain values."""
        self.data[name] = {
            "input_args": [self.tensor(x, f"{name}.input.0"), *plain],
            "input_kwargs": {},
            "output": [self.tensor(y, f"{name}.output.0")],
            "parameters": {key: self.tensor(z, f"{name}.parameters.{key}") for key, z in parameters.items()},
        }

    def write(self, parents: Mapping[str, Any] | None = None, stacks: Mapping[str, Any] | None = None) -> Path:
        """Write the three files; the folder."""
        for file, content in (
            ("dump.json", self.json | {"data": self.data}),
            ("construct.json", parents or {}),
            ("stack.json", stacks or {}),
        ):
            (self.folder / file).write_text(json.dumps(content), encoding="utf-8")
        return self.folder


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Some numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear_dump(folder: Path, framework: str = "mindspore") -> Dump:
    """A linear layer's dump: the module, and the operator that is a part of it."""
    dump = Dump(folder, framework)
    x, weight = numbers(2, 3), numbers(3, 4)
    module = "Module.h.0.c_fc.Conv1D.forward.0" if framework == "pytorch" else "Cell.h.0.c_fc.Conv1D.forward.0"
    dump.call("Functional.matmul.0.forward", x, x @ weight, {"type": "int", "value": 1})
    dump.call(module, x, x @ weight, weight=weight)
    frames = [
        "File /home/me/run.py, line 7, in forward, \n y = self.c_fc(x)",
        "File /home/me/run.py, line 9, in <module>, \n m(x)",
    ]
    dump.write({"Functional.matmul.0.forward": module, module: None}, {"0": [[module], frames]})
    return dump
