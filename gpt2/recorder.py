"""Record one forward pass of somebody's PyTorch module or MindSpore cell, to be judged by `gpt2 judge` anywhere.

with gpt2.record(model, "recorded"):
    model(ids)

The folder then holds only .npy files without pickles, and calls.json:
* format ("gpt2.record"), version (1), framework ("pytorch", "mindspore");
* calls, in the order in which they ended, each with name ("Module.h.0.attn.Attention.forward.0", Cell for MindSpore),
  path ("h.0.attn"; "" for the model itself), class, number (how often it had been called before), parent (the name of
  the call that it was part of, or ""), arguments (a list), keywords and parameters (objects), results (a list);
* a tensor is {"file": "12.npy", "dtype": "float32", "shape": [2, 8]}; bfloat16, for which NumPy has no name, is kept as
  its bits, in uint16; a dict or named tuple is {"fields": {...}}; what is none of these, nor a list, number, text or
  null, is {"text": "its class"}.
"""

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.errors import GPT2Error
from gpt2.files import write_folder_whole

INDEX = "calls.json"
FORMAT, VERSION = "gpt2.record", 1
KINDS = {"pytorch": "Module", "mindspore": "Cell"}
BASES = {("torch.nn.modules.module", "Module"): "pytorch", ("mindspore.nn.cell", "Cell"): "mindspore"}
DEEPEST = 32  # lists within lists
NUMBERS = "?bhilqBHILQefdFD"  # NumPy's codes of what is kept: numbers, no objects


class _GivenUpError(Exception):
    """The block raised: what was recorded until then is removed."""


@contextlib.contextmanager
def record(model: Any, folder: str | Path) -> Iterator[None]:
    """Record what every submodule is given and returns, and its own parameters, while the block runs.

    model: a torch.nn.Module or a mindspore.nn.Cell (PyNative mode). The folder is written whole at the end, or not at
    all if the block raises. Raises GPT2Error for a model of another kind, a folder that holds anything, a disk that is
    full, and if no forward pass ran.
    """
    framework = _framework(model)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GPT2Error(f"{folder} exists and is not an empty folder: name a new one for the recording")
    raised: BaseException | None = None
    with contextlib.suppress(_GivenUpError), write_folder_whole(folder) as part:
        recorder = _Recorder(framework, part)
        handles = recorder.hooked(model)
        try:
            yield
        except BaseException as error:  # an OSError of the block must not look as if the folder could not be written
            raised = error
            raise _GivenUpError from error
        finally:
            for handle in handles:
                handle.remove()
        recorder.write_index()
    if raised is not None:
        raise raised


def _framework(model: Any) -> str:
    for base in type(model).__mro__:
        if (base.__module__, base.__name__) in BASES:
            return BASES[base.__module__, base.__name__]
    raise GPT2Error(f"can record a torch.nn.Module or a mindspore.nn.Cell, not a {type(model).__name__}")


@dataclasses.dataclass
class _Open:
    """A call that has begun."""

    module: Any
    name: str
    entry: dict[str, Any]


class _Recorder:
    """Writes the tensors of the calls to a folder as they come."""

    def __init__(self, framework: str, folder: Path) -> None:
        self._framework, self._folder = framework, folder
        self._tensor = sys.modules["torch" if framework == "pytorch" else "mindspore"].Tensor
        self._calls: list[dict[str, Any]] = []
        self._open: list[_Open] = []
        self._times: dict[str, int] = {}
        self._parameters: dict[str, dict[str, Any]] = {}
        self._files = 0

    def hooked(self, model: Any) -> list[Any]:
        """Hook every submodule; the handles that remove the hooks."""
        named = model.named_modules() if self._framework == "pytorch" else model.cells_and_names()
        return [handle for path, module in named for handle in self._hook(path, module)]

    def _hook(self, path: str, module: Any) -> list[Any]:
        # MindSpore before 2.6 gives a hook no keywords.
        named = {"with_kwargs": True} if "with_kwargs" in signature(module.register_forward_hook).parameters else {}

        def before(module: Any, arguments: Any, keywords: Mapping[str, Any] | None = None) -> None:
            self._begin(path, module, arguments, keywords or {})

        def after(module: Any, _: Any, *rest: Any) -> None:
            self._end(module, rest[-1])

        return [module.register_forward_pre_hook(before, **named), module.register_forward_hook(after, **named)]

    def _begin(self, path: str, module: Any, arguments: Any, keywords: Mapping[str, Any]) -> None:
        number = self._times.get(path, 0)
        self._times[path] = number + 1
        place = ".".join(filter(None, (KINDS[self._framework], path, type(module).__name__)))
        if path not in self._parameters:
            own = self._own_parameters(module)
            self._parameters[path] = {name: self._kept(x) for name, x in own.items()}
        entry = {
            "name": f"{place}.forward.{number}",
            "path": path,
            "class": type(module).__name__,
            "number": number,
            "parent": self._open[-1].name if self._open else "",
            "arguments": self._kept(arguments if isinstance(arguments, tuple) else (arguments,)),
            "keywords": {name: self._kept(x) for name, x in keywords.items()},
            "parameters": self._parameters[path],
        }
        self._open.append(_Open(module, entry["name"], entry))

    def _end(self, module: Any, results: Any) -> None:
        while self._open:  # a call that raised, within one that went on, did not end
            call = self._open.pop()
            if call.module is module:
                kept = results if isinstance(results, tuple) and not hasattr(results, "_fields") else (results,)
                self._calls.append(call.entry | {"results": self._kept(kept)})
                return

    def _own_parameters(self, module: Any) -> dict[str, Any]:
        if self._framework == "pytorch":
            return dict(module.named_parameters(recurse=False))
        return dict(module.parameters_and_names(expand=False))

    def _kept(self, value: Any, depth: int = 0) -> Any:
        """The value as calls.json has it; its tensors are written."""
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"text": repr(value)}
        if isinstance(value, self._tensor):
            return self._written(value)
        if depth < DEEPEST and isinstance(value, tuple) and hasattr(value, "_fields"):
            value = dict(zip(value._fields, value, strict=True))
        if depth < DEEPEST and isinstance(value, Mapping):
            return {"fields": {str(name): self._kept(x, depth + 1) for name, x in value.items()}}
        if depth < DEEPEST and isinstance(value, list | tuple):
            return [self._kept(x, depth + 1) for x in value]
        return {"text": type(value).__name__}

    def _written(self, tensor: Any) -> dict[str, Any]:
        dtype = str(tensor.dtype).rpartition(".")[2].lower()
        numbers = (_of_pytorch if self._framework == "pytorch" else _of_mindspore)(tensor, dtype)
        if numbers is None or numbers.dtype.char not in NUMBERS:
            return {"text": f"{dtype} tensor of shape {list(tensor.shape)}"}
        file = f"{self._files}.npy"
        self._files += 1
        np.save(self._folder / file, numbers, allow_pickle=False)
        return {"file": file, "dtype": dtype, "shape": list(numbers.shape)}

    def write_index(self) -> None:
        """Write calls.json. Raises GPT2Error if there were no calls."""
        if not self._calls:
            hint = " (in PyNative mode: a graph calls no hooks)" if self._framework == "mindspore" else ""
            raise GPT2Error(f"no forward pass was recorded: call the model within the block{hint}")
        index = {"format": FORMAT, "version": VERSION, "framework": self._framework, "calls": self._calls}
        (self._folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _of_pytorch(tensor: Any, dtype: str) -> np.ndarray | None:
    """The numbers; None for a tensor that NumPy cannot hold, such as a sparse one."""
    try:
        dense = tensor.detach().cpu().contiguous()
        if dtype == "bfloat16":
            return dense.view(sys.modules["torch"].int16).numpy().view(np.uint16)
        return dense.numpy()
    except (TypeError, RuntimeError):
        return None


def _of_mindspore(tensor: Any, dtype: str) -> np.ndarray | None:
    if dtype == "bfloat16":  # the upper half of a float32
        wide = np.ascontiguousarray(tensor.astype(sys.modules["mindspore"].float32).asnumpy())
        return (wide.view(np.uint32) >> 16).astype(np.uint16)
    try:
        return np.asarray(tensor.asnumpy())
    except (TypeError, RuntimeError):
        return None
