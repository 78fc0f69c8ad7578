"""The tensors of a model folder by name, each of them read when it is asked for."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gpt2.errors import GPT2Error
from gpt2.json_input import read_json
from gpt2.model.pytorch_bin import open_pickle

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# What torch.compile, DistributedDataParallel and transformers put before the name of a parameter.
PREFIX = re.compile(r"(?:_orig_mod\.|module\.)*(?:transformer\.)?")
# Constants that old checkpoints store: the causal mask and its fill value. transformers passes over them, too.
BUFFER = re.compile(r"h\.\d+\.(?:cross)?att(?:n|ention)\.(?:bias|masked_bias)")
# Pickles that transformers' Trainer writes beside the weights.
NO_WEIGHTS = re.compile(r"training_args\.bin|optimizer\.(bin|pt)|scheduler\.(bin|pt)|scaler\.pt|rng_state.*\.pth")
Array = NDArray[Any]
Tensors = dict[str, Callable[[], Array]]


def open_folder(folder: Path) -> Tensors:
    """The tensors of a folder: model.safetensors or pytorch_model.bin, whole or in shards, or one .bin, .pt or .pth.

    Names are those of `reference.config.parameter_shapes`, whatever prefix they had; buffers are left out. Nothing in a
    pickle is executed. Raises GPT2Error if there are no weights, or if a file is missing, damaged or holds code.
    """
    found: Tensors = {}
    files = weight_files(folder)
    if not files:
        raise GPT2Error(
            f"no {WEIGHTS} in {folder}: expected the weights there, in {PICKLED}, or in shards with {INDEX}; `gpt2 "
            "convert` reads what other projects write"
        )
    for path in files:
        for name, read in named_plainly(open_file(path), path).items():
            if name in found:
                raise GPT2Error(f"{path}: {name} is there twice, in two files or with and without 'transformer.'")
            found[name] = read
    return found


def named_plainly(tensors: Tensors, path: Path) -> Tensors:
    """The tensors without prefixes and without buffers. Raises GPT2Error if two of them have the same name then."""
    found: Tensors = {}
    for full, read in tensors.items():
        name = full[PREFIX.match(full).end() :]  # type: ignore[union-attr]
        if name in found:
            raise GPT2Error(f"{path}: {name} is there twice, in two files or with and without 'transformer.'")
        if not BUFFER.fullmatch(name):
            found[name] = read
    return found


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights, or none. Raises GPT2Error if it is unclear which."""
    for name, index in ((WEIGHTS, INDEX), (PICKLED, PICKLED_INDEX)):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / name).exists():
            raise GPT2Error(f"{folder / name} is not a file: expected the weights there")
        if (folder / index).is_file():
            return _shards(folder / index)
    pickled = [path for kind in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(kind))]
    others = [path for path in pickled if not NO_WEIGHTS.fullmatch(path.name)]
    if len(others) > 1:
        names = ", ".join(path.name for path in others[:3])
        raise GPT2Error(
            f"{folder} holds {len(others)} files that may be the weights ({names}): rename one to {PICKLED}"
        )
    return others


def _shards(index: Path) -> list[Path]:
    shards = sorted(set(read_json(index, _Index).weight_map.values()))
    if not shards:
        raise GPT2Error(f"{index}: 'weight_map' names no tensors, expected the file of each")
    outside = [name for name in shards if Path(name).name != name or name in ("", "..")]
    if outside:
        raise GPT2Error(f"{index} points outside its folder: {outside[0]!r}")
    missing = [index.parent / name for name in shards if not (index.parent / name).is_file()]
    if missing:
        raise GPT2Error(f"{missing[0]} is missing: the index names it as one of the weight files")
    return [index.parent / name for name in shards]


def open_file(path: Path) -> Tensors:
    """The tensors of one file, safetensors or a pickle of PyTorch. Raises GPT2Error if it is damaged or holds code."""
    return _open_safetensors(path) if path.suffix == ".safetensors" else open_pickle(path)


def _open_safetensors(path: Path) -> Tensors:
    try:
        with path.open("rb"):  # the library says of every file that cannot be opened that it does not exist
            pass
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
    try:
        file = safe_open(path, framework="numpy")
        names: list[str] = file.keys()  # type: ignore[no-untyped-call]
        return {name: functools.partial(_tensor, file, name, path) for name in names}
    except (SafetensorError, OSError) as error:
        raise GPT2Error(f"{path} is not a readable safetensors file ({error}): fetch or save it again") from error


def read_tensors(path: Path) -> Iterator[tuple[str, Array]]:
    """Every (name, array) of a safetensors file. Raises GPT2Error if it is damaged or truncated."""
    return ((name, read()) for name, read in _open_safetensors(path).items())


def _tensor(file: Any, name: str, path: Path) -> Array:
    import ml_dtypes

    try:
        x = file.get_tensor(name)
    except (SafetensorError, TypeError, AttributeError) as error:  # raised for a dtype that NumPy lacks
        dtype = file.get_slice(name).get_dtype()
        raise GPT2Error(f"{path}: {name} holds {dtype}, expected F32, F16, BF16 or F64") from error
    # NumPy looks bfloat16 up by its name, and MindSpore has its own type of that name.
    return x.view(ml_dtypes.bfloat16) if x.dtype.name == "bfloat16" else x


def some(names: Iterable[str]) -> str:
    """The first names of many, for a message."""
    first, rest = sorted(names)[:3], len(set(names)) - 3
    return ", ".join(first) + (f" and {rest} more" if rest > 0 else "")
