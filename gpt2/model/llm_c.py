"""Read the .bin files of llm.c: 256 integers, then the numbers of every parameter.

Source: `write_model` in train_gpt2.py and `gpt2_build_from_checkpoint` in train_gpt2.cu of llm.c.
"""

import functools
import math
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gpt2.errors import GPT2Error
from gpt2.model.tensors import Array, Tensors
from reference.config import LAYER_AXES, ConfigError, GPT2Config

MAGIC, HEADER = 20240326, 256
DTYPES: dict[int, np.dtype[Any]] = {3: np.dtype("<f4"), 5: np.dtype(ml_dtypes.bfloat16)}


def is_llm_c(path: Path) -> bool:
    """Whether a file begins as those of llm.c do."""
    with path.open("rb") as file:
        return file.read(4) == struct.pack("<i", MAGIC)


def read_llm_c(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The parameters by name, weights as (in, out), and the fields of the config. Rows that pad the vocabulary are cut.

    Raises GPT2Error for another version of the format, or if the file has not the length that its header says.
    """
    raw = path.read_bytes()
    if len(raw) < 4 * HEADER:
        raise GPT2Error(f"{path} ends within its header: fetch or save it again")
    _, version, context, vocabulary, layers, heads, channels, rows = struct.unpack("<8i", raw[:32])
    if version not in DTYPES:
        raise GPT2Error(f"{path} has version {version} of llm.c's format, expected 3 (float32) or 5 (bfloat16)")
    fields = {
        "vocab_size": vocabulary,
        "n_positions": context,
        "n_layer": layers,
        "n_head": heads,
        "n_embd": channels,
        "activation_function": "gelu_new",
    }
    try:
        GPT2Config(**fields)
    except ConfigError as error:
        raise GPT2Error(f"{path}: {error}") from error
    sizes = {"C": channels, "I": 4 * channels, "3*H*D": 3 * channels, "H*D": channels}
    parts: list[tuple[str, tuple[int, ...]]] = [("wte.weight", (rows, channels)), ("wpe.weight", (context, channels))]
    for name, axes in LAYER_AXES.items():  # llm.c has the same order, and weights as (out, in)
        shape = tuple(sizes[axis] for axis in reversed(axes.split(", ")))
        parts.append((name, (layers, *shape)))
    parts += [("ln_f.weight", (channels,)), ("ln_f.bias", (channels,))]
    dtype = DTYPES[version]
    expected = 4 * HEADER + sum(math.prod(shape) for _, shape in parts) * dtype.itemsize
    if rows < vocabulary or len(raw) != expected:
        raise GPT2Error(f"{path} has {len(raw)} bytes, but its header says {expected}: fetch or save it again")
    tensors: Tensors = {}
    place = 4 * HEADER
    for name, shape in parts:
        count = math.prod(shape)
        x = np.frombuffer(raw, dtype, count, place).reshape(shape)
        place += count * dtype.itemsize
        if name in LAYER_AXES:
            tensors |= {f"h.{i}.{name}": functools.partial(_turned, x[i]) for i in range(layers)}
        else:
            tensors[name] = functools.partial(np.array, x[:vocabulary] if name == "wte.weight" else x)
    return tensors, fields


def _turned(x: Array) -> Array:
    return np.ascontiguousarray(x.T)
