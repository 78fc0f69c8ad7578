"""Read and write MindSpore's checkpoints (.ckpt), through MindSpore itself."""

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.errors import GPT2Error
from gpt2.files import write_whole
from gpt2.model.tensors import Array, Tensors

# MindNLP's first versions and cells of mindspore.nn name these parameters otherwise than transformers does.
OTHER_NAMES = {".gamma": ".weight", ".beta": ".bias", ".embedding_table": ".weight"}
CHECKPOINT = "mindspore.ckpt"  # the file that MindNLP looks for in a folder


def _mindspore() -> Any:
    try:
        return importlib.import_module("mindspore")
    except ImportError as error:
        raise GPT2Error(
            "a .ckpt of MindSpore is read and written by MindSpore: pip install 'gpt2-parity[mindspore]'"
        ) from error


def read_ckpt(path: Path) -> Tensors:
    """The tensors of a checkpoint, by transformers' names for them. Raises GPT2Error if MindSpore cannot read it."""
    mindspore = _mindspore()
    try:
        found = mindspore.load_checkpoint(str(path))
    except Exception as error:  # MindSpore raises errors of many kinds, with several lines each
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GPT2Error(f"MindSpore cannot read {path}: {first}") from error
    tensors: Tensors = {}
    for name, parameter in found.items():
        stem, dot, leaf = name.rpartition(".")
        tensors[f"{stem}{OTHER_NAMES.get(dot + leaf, dot + leaf)}"] = functools.partial(_array, parameter)
    return tensors


def _array(parameter: Any) -> Array:
    import ml_dtypes

    x = parameter.asnumpy().copy()  # asnumpy gives a view
    return x.view(ml_dtypes.bfloat16) if x.dtype.name == "bfloat16" else x


def write_ckpt(path: Path, parameters: Mapping[str, Array]) -> None:
    """Write parameters under the given names, atomically. Raises GPT2Error if the file cannot be written."""
    mindspore = _mindspore()
    tensors = []
    for name, x in parameters.items():
        narrow = x.dtype.name == "bfloat16"  # MindSpore does not know ml_dtypes' type
        tensor = mindspore.Tensor(np.ascontiguousarray(x.astype(np.float32) if narrow else x))
        tensors.append({"name": name, "data": tensor.astype(mindspore.bfloat16) if narrow else tensor})
    with write_whole(path) as part:
        mindspore.save_checkpoint(tensors, str(part))
