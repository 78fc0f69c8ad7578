"""The files of a recording, from whoever sent them: nothing is executed, and nothing outside its folder is opened."""

import functools
import os
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from gpt2.model.pytorch_bin import Pickled, read_pickle
from parity.recorded.recording import RecordedTensor, Statistics

Array = NDArray[Any]
NPY = b"\x93NUMPY"
INTEGERS = [f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = frozenset([*INTEGERS, "bool", "bfloat16", "float16", "float32", "float64", "complex64", "complex128"])
SHOWN = 80  # characters of a name in a message
AGAIN = "record or copy it again"


def quoted(name: object) -> str:
    """A name of the dump's for a message: on one line, and short."""
    shown = repr(name)
    return shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."


def dtype_named(name: str) -> str | None:
    """NumPy's name of a dtype that is called torch.float32 or Float32; None if it has no such, as float8."""
    named = name.removeprefix("torch.").removeprefix("mindspore.").lower()
    named = {"bool_": "bool"}.get(named, named)
    return named if named in DTYPES else None


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of one of the names in DTYPES."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def plain_name(name: str, where: Path) -> str:
    """The name of a file, as it is. Raises GPT2Error for one that leads to another folder."""
    if not name or name in (".", "..") or not name.isprintable() or set(name) & set("/\\:"):
        raise GPT2Error(f"{where} names the file {quoted(name)}, which is no plain name; nothing was opened: {AGAIN}")
    return name


def require_inside(path: Path, root: Path) -> None:
    """Raise GPT2Error for a symbolic link that leads out of the root."""
    try:
        inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links, or a name that is too long
        inside = False
    if not inside:
        raise GPT2Error(f"{path} leads out of the recorded folder {root}, it was not opened: copy what it points to")


def tensor_in(
    folder: Path, name: str, root: Path, dtype: str, shape: tuple[int, ...], statistics: Statistics
) -> RecordedTensor:
    """The tensor whose numbers are in a file, which is opened when they are asked for."""

    def read() -> Array:
        path = folder / name
        require_inside(path, root)
        return promised(read_numbers(path), dtype, shape, path)

    return RecordedTensor(dtype, shape, statistics, f"{_within(folder, root)}{name}", read)


@functools.cache
def _within(folder: Path, root: Path) -> str:
    """The folder, from the root, before the name of a file: asked for at each of 100,000 tensors."""
    return os.path.join(os.path.relpath(folder.resolve(), root), "").removeprefix("./")


def read_numbers(path: Path) -> Array:
    """The only array in a .npy, or the only tensor in a .pt. Raises GPT2Error."""
    if not path.is_file():  # a pipe would never end
        what = "is no file" if path.exists() else "is missing"
        raise GPT2Error(f"{path} {what}, though the recording names it: {AGAIN}")
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(NPY)) == NPY
            if is_npy:
                file.seek(0)
                return read_npy(file, path)
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror or error}") from error
    if path.suffix == ".npy":
        raise GPT2Error(f"{path} is not a .npy file, it does not begin as one: {AGAIN}")
    tree, read = read_pickle(path)
    if not isinstance(tree, Pickled):
        raise GPT2Error(f"{path} holds a {type(tree).__name__}, not one tensor: {AGAIN}")
    return read(tree)


def npy_header(file: BinaryIO, path: Path) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The dtype, the shape and whether columns come first, of a .npy at its beginning. Raises GPT2Error."""
    try:
        formats: Any = np.lib.format
        version = formats.read_magic(file)
        read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}[version]
        shape, columns_first, dtype = read(file)
    except Exception as error:  # a damaged header can fail anywhere in it
        raise GPT2Error(f"{path} has a damaged .npy header: {AGAIN}") from error
    if dtype.hasobject:
        raise GPT2Error(f"{path} holds Python objects, a pickle that could run code; nothing was run: save numbers")
    if dtype.kind not in "biufc" and not (dtype.kind == "V" and dtype.fields is None and dtype.itemsize == 2):
        raise GPT2Error(f"{path} holds {quoted(dtype.name)}, which are no numbers: save numbers, such as float32")
    if any(size < 0 for size in shape):
        raise GPT2Error(f"{path} has a damaged .npy header: {AGAIN}")
    return dtype, tuple(shape), columns_first


def read_npy(file: BinaryIO, path: Path) -> Array:
    """The array of a .npy, of which nothing is unpickled. Raises GPT2Error if it is cut off, or too long."""
    dtype, shape, columns_first = npy_header(file, path)
    count = 1
    for size in shape:
        count *= size
    start = file.tell()
    there = file.seek(0, os.SEEK_END) - start
    if there != count * dtype.itemsize:
        raise GPT2Error(
            f"{path} has {there} bytes of numbers, but its shape {shape} needs {count * dtype.itemsize}: {AGAIN}"
        )
    file.seek(start)
    data = np.empty(count, dtype)
    rest = memoryview(data.view(np.uint8).data)
    while rest.nbytes:  # a file in an archive comes in pieces
        read = file.readinto(rest)  # type: ignore[attr-defined]
        if not read:
            raise GPT2Error(f"{path} was cut off while it was read: {AGAIN}")
        rest = rest[read:]
    try:
        return data.reshape(shape[::-1]).T if columns_first else data.reshape(shape)
    except ValueError as error:  # more axes than NumPy has, or sizes of which one is 0 and another has 70 digits
        raise GPT2Error(f"{path} has a shape that no array can have: {AGAIN}") from error


def promised(x: Array, dtype: str, shape: tuple[int, ...], path: Path) -> Array:
    """The array, as it was promised. Raises GPT2Error if dtype or shape are others.

    bfloat16 comes as such, as two bytes that NumPy has no name for, as bits in uint16, or widened to float32, as
    msprobe does in MindSpore, from where it goes back without a change.
    """
    x = as_numbers(x)
    if dtype == "bfloat16" and x.dtype == np.uint16:
        x = x.view(ml_dtypes.bfloat16)
    if dtype == "bfloat16" and x.dtype == np.float32:
        with np.errstate(all="ignore"):
            narrow = x.astype(ml_dtypes.bfloat16)
        if np.array_equal(narrow.astype(np.float32), x, equal_nan=True):
            x = narrow
    if x.dtype != numpy_dtype(dtype) or x.shape != shape:
        raise GPT2Error(
            f"{path} should hold {dtype} of shape {list(shape)}, as the recording says, but holds {x.dtype} of shape "
            f"{list(x.shape)}: {AGAIN}"
        )
    return x


def as_numbers(x: Array) -> Array:
    """The array in this machine's byte order; two bytes that NumPy has no name for are bfloat16."""
    if x.dtype.kind == "V" and x.dtype.itemsize == 2:
        return x.view(ml_dtypes.bfloat16)
    return x.astype(x.dtype.newbyteorder("="), copy=False)
