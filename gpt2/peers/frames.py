"""Frames: how a tree of values passes a pipe. JSON says what it is; the numbers of its arrays follow as they are.

A frame is MAGIC, the length of the text and that of all arrays (HEAD), the text, then the arrays. The text is JSON
with `value`, the tree, and `arrays`, the dtype and shape of each. An object in the tree has one key, which tells what
it stands for: {"array": 0}, {"tuple": [...]}, {"dict": {...}}, {"dtype": "float32"}, {"GPT2Config": {...}}.

The process of a peer runs this very file, in an environment of its own: it needs Python 3.9 and any NumPy, no more.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any, Callable, Mapping

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:  # two bytes that NumPy has no name for
    bfloat16 = [("bfloat16", "<u2")]

PROTOCOL = 1
MAGIC = b"GP\x00" + bytes([PROTOCOL])
HEAD = struct.Struct("<4sIQ")
LONGEST_TEXT = 2**26
LARGEST_ARRAYS = 2**36
BFLOAT16 = np.dtype(bfloat16)
_NAMES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
DTYPES = {**{name: np.dtype(name) for name in _NAMES.split()}, "bfloat16": BFLOAT16}
_KNOWN = {dtype: name for name, dtype in DTYPES.items()}


class FrameError(ValueError):
    """Bytes that are no frame, or a frame that says something impossible."""


def dtype_name(dtype: Any) -> str:
    """The name of a dtype in DTYPES. Raises TypeError for any other."""
    if dtype not in _KNOWN:
        raise TypeError(f"arrays of dtype {dtype} do not pass to another process")
    return _KNOWN[dtype]


def to_frame(tree: Any, remote: Callable[[Any], tuple[str, Any]] | None = None) -> list[memoryview]:
    """The buffers of a frame, in order: head and text, then the arrays, which are not copied if they are contiguous.

    remote: called with a value that is nothing of the above, says what stands for it: ("handle", 7).
    """
    arrays: list[Any] = []
    value = _packed(tree, arrays, remote)
    described = [[dtype_name(x.dtype), x.shape] for x in arrays]
    text = json.dumps({"value": value, "arrays": described}, separators=(",", ":")).encode("ascii")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{len(text)} bytes of text are too many for a frame")
    head = HEAD.pack(MAGIC, len(text), sum(x.nbytes for x in arrays))
    return [memoryview(head + text), *(_bytes_of(x) for x in arrays if x.nbytes)]


def _bytes_of(x: Any) -> memoryview:
    return memoryview(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)


def _packed(tree: Any, arrays: list[Any], remote: Callable[[Any], tuple[str, Any]] | None) -> Any:
    if tree is None or (isinstance(tree, (bool, int, float, str)) and not isinstance(tree, np.generic)):
        return tree
    if isinstance(tree, (np.ndarray, np.generic)):
        arrays.append(np.asarray(tree))
        return {"array": len(arrays) - 1} if isinstance(tree, np.ndarray) else {"number": len(arrays) - 1}
    if isinstance(tree, dict):
        return {"dict": {name: _packed(x, arrays, remote) for name, x in tree.items()}}
    if isinstance(tree, list):
        return [_packed(x, arrays, remote) for x in tree]
    if isinstance(tree, tuple):
        return {"tuple": [_packed(x, arrays, remote) for x in tree]}
    if isinstance(tree, np.dtype):
        return {"dtype": dtype_name(tree)}
    if dataclasses.is_dataclass(tree):
        return {type(tree).__name__: {name: _packed(x, arrays, remote) for name, x in vars(tree).items()}}
    if remote is None:
        raise TypeError(f"{type(tree).__name__} does not pass to another process")
    kind, value = remote(tree)
    return {kind: value}


def from_frame(fill: Callable[[memoryview], Any], kinds: Mapping[str, Callable[..., Any]]) -> Any:
    """Read a frame. fill(view) fills a buffer with the next bytes; kinds: what makes a value of an object in the tree.

    Raises FrameError, and what `fill` raises. No more memory is filled than bytes have come.
    """
    head = bytearray(HEAD.size)
    fill(memoryview(head))
    magic, length, size = HEAD.unpack(head)
    if magic[:3] != MAGIC[:3]:
        raise FrameError(f"{bytes(head)!r}")
    if magic != MAGIC:
        raise FrameError(f"a frame of protocol {magic[3]}, not {PROTOCOL}")
    if length > LONGEST_TEXT or size > LARGEST_ARRAYS:
        raise FrameError(f"a frame of {length} and {size} bytes")
    text = bytearray(length)
    fill(memoryview(text))
    try:
        said = json.loads(text)
        arrays = _arrays(said["arrays"], size)
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise FrameError(f"a text of {length} bytes that is none of a frame: {error}") from error
    for x in arrays:
        if x.nbytes:
            fill(memoryview(x.reshape(-1).view(np.uint8)))
    try:
        return _unpacked(said["value"], arrays, kinds)
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise FrameError(f"a tree that cannot be read: {error!r}") from error


def _arrays(described: Any, size: int) -> list[Any]:
    """Arrays to fill, of `size` bytes together: the system gives memory to what is filled alone."""
    total = 0
    for name, shape in described:
        count = DTYPES[name].itemsize
        for length in shape:
            if type(length) is not int or length < 0:
                raise ValueError(f"the shape {shape}")
            count *= length
        total += count
    if total != size:
        raise ValueError(f"arrays of {total} bytes where {size} were announced")
    return [np.empty(shape, DTYPES[name]) for name, shape in described]


def _unpacked(tree: Any, arrays: list[Any], kinds: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(x, arrays, kinds) for x in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise KeyError(f"an object with {len(tree)} keys")
    ((kind, value),) = tree.items()
    if kind == "array":
        return arrays[value]
    if kind == "number":
        return arrays[value][()]
    if kind == "tuple":
        return tuple(_unpacked(x, arrays, kinds) for x in value)
    if kind == "dict":
        return {name: _unpacked(x, arrays, kinds) for name, x in value.items()}
    if kind == "dtype":
        return DTYPES[value]
    if isinstance(value, dict):
        return kinds[kind](**{name: _unpacked(x, arrays, kinds) for name, x in value.items()})
    return kinds[kind](value)
