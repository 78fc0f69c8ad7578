"""Files as `torch.save` writes them, written without PyTorch."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from gpt2.model.pytorch_bin import LEGACY

KINDS = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "bfloat16": "BFloat16Storage"}
KINDS |= {"int64": "LongStorage", "bool": "BoolStorage", "uint8": "ByteStorage"}


class Storage:
    """A row of numbers that several tensors may share."""

    def __init__(self, x: NDArray[Any], key: str) -> None:
        self.numbers, self.key = x.reshape(-1), key


class Tensor:
    """What is pickled as a tensor of PyTorch is: as a call of _rebuild_tensor_v2."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Parameter(Tensor):
    """A tensor that is trained."""

    def __reduce__(self) -> Any:
        return sys.modules["torch._utils"]._rebuild_parameter, (Tensor(*self.arguments[:4]), True, {})


def tensor(x: NDArray[Any], key: str, kind: type[Tensor] = Tensor) -> Tensor:
    """A tensor with a storage of its own."""
    strides = tuple(stride // x.itemsize for stride in x.strides)
    numbers = x if x.flags.c_contiguous else np.asarray(x.T, order="C")
    return kind(Storage(numbers, key), 0, x.shape, strides)


def state(tensors: Mapping[str, NDArray[Any]]) -> collections.OrderedDict[str, Tensor]:
    """What a model's state_dict() is, with the attribute that it has."""
    made = collections.OrderedDict((name, tensor(x, str(i))) for i, (name, x) in enumerate(tensors.items()))
    made._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    return made


@contextmanager
def torch_by_name() -> Iterator[None]:
    """Let pickle find the names of PyTorch."""
    utils, torch = types.ModuleType("torch._utils"), types.ModuleType("torch")
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    for name in KINDS.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        yield


class _Pickler(pickle.Pickler):
    def __init__(self, file: Any, protocol: int, view: bool) -> None:
        super().__init__(file, protocol)
        self.storages: dict[str, Storage] = {}
        self._view = view

    def persistent_id(self, thing: Any) -> Any:
        if not isinstance(thing, Storage):
            return None
        self.storages[thing.key] = thing
        kind = getattr(sys.modules["torch"], KINDS[thing.numbers.dtype.name])
        return ("storage", kind, thing.key, "cpu", thing.numbers.size) + ((None,) if self._view else ())


def pickled(tree: Any, protocol: int = 2, view: bool = False) -> tuple[bytes, dict[str, Storage]]:
    """The pickle of a tree with tensors, and the storages that it names."""
    file = io.BytesIO()
    with torch_by_name():
        pickler = _Pickler(file, protocol, view)
        pickler.dump(tree)
    return file.getvalue(), pickler.storages


def save(path: Path, tree: Any, protocol: int = 2, **entries: bytes) -> Path:
    """A file as PyTorch has written them since 1.6. entries: files of the archive to add or replace, by name."""
    data, storages = pickled(tree, protocol)
    files = {"data.pkl": data, "byteorder": b"little", "version": b"3\n"}
    files |= {f"data/{key}": storage.numbers.tobytes() for key, storage in storages.items()}
    write_archive(path, files | entries)
    return path


def write_archive(path: Path, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """The archive around these files."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}", content)


def save_as_of_old(path: Path, tree: Any) -> Path:
    """A file as PyTorch wrote them before 1.6."""
    data, storages = pickled(tree, view=True)
    parts = [pickle.dumps(number, 2) for number in LEGACY]
    parts += [pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2), data]
    parts.append(pickle.dumps(sorted(storages), 2))
    for key in sorted(storages):
        numbers = storages[key].numbers
        parts += [struct.pack("<q", numbers.size), numbers.tobytes()]
    path.write_bytes(b"".join(parts))
    return path
