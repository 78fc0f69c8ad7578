"""Read what `torch.save` wrote, without PyTorch and without executing anything: `pytorch_model.bin`, `.pt`, `.pth`.

Such a file is a program for Python's pickle machine, which can call any function. Here `pickletools` decodes it, and a
small machine of our own obeys the few instructions that plain tensors need. A name in the file is only looked up in a
fixed table; no module is imported, no class is made, no attribute is set. Anything else is refused by its name.
Source of the two layouts: `_save` and `_legacy_save` in PyTorch's torch/serialization.py.
"""

import dataclasses
import functools
import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error

Array = NDArray[Any]
LEGACY = (0x1950A86A20F9469CFC6C, 1001)  # the first two pickles of a file from before PyTorch 1.6
MOST_BITS, MOST_SIZES = 80, 64  # of a number, that of LEGACY is the longest; of a shape, more than NumPy has
MOST_COPIED = 10**6  # entries that calls may copy, as a small file can ask for it again and again
STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
PUSHED = {f"{size}{kind}" for kind in ("BINUNICODE", "BINSTRING", "BINBYTES") for size in ("", "SHORT_")}
PUSHED |= {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "STRING"}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
# Where a file of several parts keeps the weights: nanoGPT; PyTorch Lightning; many scripts; DeepSpeed.
PLACES = ("model", "state_dict", "model_state_dict", "module")


class _RefusedError(Exception):
    """Something that plain tensors do not need; its name."""


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name that the file asks for, such as "torch.FloatStorage": never looked up in a module."""

    name: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A row of numbers in the file."""

    dtype: np.dtype
    key: str
    numbers: int


@dataclasses.dataclass(frozen=True)
class Pickled:
    """A tensor in the file: so many numbers of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In numbers, not in bytes."""


def read_pickle(path: Path) -> tuple[Any, Callable[[Pickled], Array]]:
    """What a file holds, dicts and lists with `Pickled` for tensors, and the function that reads one of these.

    Raises GPT2Error, naming it, if the file asks for anything but plain tensors, or if it is damaged.
    """
    try:
        with path.open("rb") as file:
            read_storage, tree = (_zipped if file.read(4) == b"PK\x03\x04" else _legacy)(path, file)
    except _RefusedError as error:
        raise GPT2Error(
            f"{path} asks for {error}, which plain tensors do not need and which could run code; nothing was run: save "
            "the state_dict() alone, or the model as safetensors"
        ) from error
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can fail anywhere in it
        raise GPT2Error(f"{path} is not a readable file of torch.save ({error}): fetch or save it again") from error

    def read(tensor: Pickled) -> Array:
        try:
            return _array(tensor, read_storage(tensor.storage))
        except Exception as error:
            raise GPT2Error(f"{path} is damaged in its tensors ({error}): fetch or save it again") from error

    return tree, read


def open_pickle(path: Path) -> dict[str, Callable[[], Array]]:
    """The tensors of the model in a file of `torch.save`, each read when it is asked for. Raises GPT2Error."""
    tree, read = read_pickle(path)
    state = state_of(tree)
    if state is None:
        keys = ", ".join(map(repr, list(tree)[:5])) if isinstance(tree, dict) else type(tree).__name__
        raise GPT2Error(f"{path} holds no tensors by name, but {keys}: save the model's state_dict()")
    return {name: functools.partial(read, tensor) for name, tensor in state.items()}


def state_of(tree: Any) -> dict[str, Pickled] | None:
    """The tensors by name in what was saved: there, or under one of the names in PLACES; None if there are none."""
    if not isinstance(tree, dict):
        return None
    parts = [tree.get(place) for place in PLACES]
    for part in [*parts, tree]:
        state = {name: x for name, x in part.items() if isinstance(x, Pickled)} if isinstance(part, dict) else {}
        if state and all(isinstance(name, str) for name in state):
            return state
    return None


def _zipped(path: Path, file: BinaryIO) -> tuple[Callable[[_Storage], bytes], Any]:
    """The layout since PyTorch 1.6: a zip archive, not compressed, of a pickle and of one file for every storage."""
    archive = zipfile.ZipFile(path)  # stays open for the tensors, which are read later
    entries = {entry.filename: entry for entry in archive.infolist()}
    (pickle,) = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    folder = pickle.removesuffix("data.pkl")
    for entry in entries.values():
        read = entry.filename.startswith((pickle, f"{folder}data/", f"{folder}byteorder"))
        if read and entry.compress_type != zipfile.ZIP_STORED:  # it could fill the memory when it is unpacked
            raise ValueError(f"{entry.filename} is compressed")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    tree = _run(io.BytesIO(archive.read(pickle)))
    return (lambda storage: archive.read(f"{folder}data/{storage.key}")), tree


def _legacy(path: Path, file: BinaryIO) -> tuple[Callable[[_Storage], bytes], Any]:
    """The older layout: five pickles, the third says how numbers are stored; then the length and bytes of storages."""
    file.seek(0)
    if (_run(file), _run(file)) != LEGACY:
        raise ValueError("it does not begin as such a file does")
    if not _run(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    storages: dict[str, _Storage] = {}
    tree = _run(file, storages)
    places: dict[str, tuple[int, int]] = {}
    for key in _run(file):
        _require(key, str)  # a tuple of tuples could take for ever to be looked up, or to be printed
        (numbers,) = struct.unpack("<q", file.read(8))
        if numbers != storages[key].numbers:
            raise ValueError(f"storage {key} has {numbers} numbers, not {storages[key].numbers}")
        places[key] = file.tell(), numbers * storages[key].dtype.itemsize
        file.seek(places[key][1], io.SEEK_CUR)

    def read(storage: _Storage) -> bytes:
        start, length = places[storage.key]
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    return read, tree


def _array(tensor: Pickled, data: bytes) -> Array:
    storage = tensor.storage
    if len(data) != storage.numbers * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key} is cut off")
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    whole = np.frombuffer(data, storage.dtype)
    if math.prod(tensor.shape) == 0:
        return np.zeros(tensor.shape, storage.dtype)
    if last >= storage.numbers or math.prod(tensor.shape) > storage.numbers:
        raise ValueError(f"a tensor of shape {tensor.shape} exceeds storage {storage.key}")
    strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(whole[tensor.offset :], tensor.shape, strides)
    return np.array(view, order="C")  # a copy: it may be written to, and keeps no storage that others share


def _run(file: BinaryIO, storages: dict[str, _Storage] | None = None) -> Any:
    """The value of the next pickle in a file. storages: collects those that it names."""
    machine = _Machine({} if storages is None else storages)
    for code, argument, _ in pickletools.genops(file):
        machine.obey(code.name, argument)
    return machine.result()


class _Machine:
    """Obeys the instructions of a pickle: builds numbers, texts, tuples, lists, dicts and `Pickled`, nothing else."""

    def __init__(self, storages: dict[str, _Storage]) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storages = storages
        self._copied = 0

    def result(self) -> Any:
        """The only value that is left. Raises ValueError if there are more."""
        (value,) = self._stack
        return value

    def obey(self, code: str, argument: Any) -> None:
        """Execute one instruction. Raises _RefusedError for one that plain tensors do not need."""
        stack = self._stack
        if code in PUSHED:
            if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
                raise ValueError(f"a number has {argument.bit_length()} bits")
            stack.append(argument)
        elif code in CONSTANTS:
            stack.append(CONSTANTS[code]())
        elif code == "MARK":
            self._marks.append(len(stack))
        elif code in ("TUPLE", "LIST"):
            stack.append((tuple if code == "TUPLE" else list)(self._since_mark()))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._pop(int(code[-1]))))
        elif code in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if code == "MEMOIZE" else argument] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif code in ("SETITEM", "SETITEMS", "DICT"):
            items = self._pop(2) if code == "SETITEM" else self._since_mark()
            if code == "DICT":
                stack.append({})
            self._set(stack[-1], items)
        elif code in ("APPEND", "APPENDS"):
            items = self._pop(1) if code == "APPEND" else self._since_mark()
            _require(stack[-1], list).extend(items)
        elif code == "GLOBAL":
            stack.append(_named(argument.replace(" ", ".")))
        elif code == "STACK_GLOBAL":
            stack.append(_named(".".join(_require(part, str) for part in self._pop(2))))
        elif code == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(self._made(_require(function, _Name).name, _require(arguments, tuple)))
        elif code == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif code == "BUILD":  # an OrderedDict with attributes, such as _metadata: they say nothing of the numbers
            stack.pop()
            _require(stack[-1], dict)
        elif code not in ("PROTO", "FRAME", "STOP"):
            raise _RefusedError(f"the instruction {code}")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("its pickle is damaged")
        popped = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return popped

    def _since_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    @staticmethod
    def _set(target: Any, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _require(target, dict)[_require(key, str, int)] = value

    def _made(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """What a function of the table returns, found here."""
        if name == "collections.OrderedDict":
            made: dict[Any, Any] = {}
            for key, value in self._to_copy(arguments[0]) if arguments else ():
                self._set(made, [key, value])
            return made
        if name == "torch.Size":
            return _sizes(arguments[0])
        if name == "torch._utils._rebuild_parameter":
            return _require(arguments[0], Pickled)
        if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            (offset,) = _sizes(arguments[1:2])
            shape, strides = map(_sizes, arguments[2:4])
            if len(shape) != len(strides):
                raise ValueError(f"a tensor has the shape {shape} and the strides {strides}")
            return Pickled(_require(arguments[0], _Storage), offset, shape, strides)
        raise _RefusedError(f"a call of {name}")

    def _to_copy(self, values: Any) -> Any:
        self._copied += len(_require(values, list, tuple))
        if self._copied > MOST_COPIED:
            raise ValueError(f"it copies more than {MOST_COPIED} entries")
        return values

    def _storage(self, identity: Any) -> _Storage:
        what, kind, key, _, numbers = identity[:5]
        if what != "storage" or any(part is not None for part in identity[5:]):
            raise _RefusedError("a view of a storage")
        dtype = STORAGES[_require(kind, _Name).name.rpartition(".")[2]]
        (numbers,) = _sizes((numbers,))
        found = _Storage(dtype, _require(key, str), numbers)
        return self._storages.setdefault(found.key, found)


KNOWN = {f"{module}.{name}" for name in STORAGES for module in ("torch", "torch.cuda")}
KNOWN |= {f"torch._utils.{name}" for name in ("_rebuild_parameter", "_rebuild_tensor", "_rebuild_tensor_v2")}
KNOWN |= {"collections.OrderedDict", "torch.Size"}


def _sizes(values: Any) -> tuple[int, ...]:
    """The sizes of a tensor, or its strides. What they are is not in the message: it may be too long to be printed."""
    if len(_require(values, list, tuple)) > MOST_SIZES or not all(type(x) is int and x >= 0 for x in values):
        raise ValueError("the sizes of a tensor are no numbers, or too many")
    return tuple(values)


def _named(name: str) -> _Name:
    if name not in KNOWN:
        raise _RefusedError(name)
    return _Name(name)


def _require(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise ValueError("its pickle is damaged")
    return value
