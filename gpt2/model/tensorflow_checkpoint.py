"""Read OpenAI's own GPT-2 folder: hparams.json, and TensorFlow's checkpoint model.ckpt.index with model.ckpt.data-*.

The index is a sorted table of LevelDB: blocks of entries, each with a key that shares its beginning with the last.
A key is the name of a tensor, its value a protocol buffer that says where in the data files the numbers lie. Nothing of
TensorFlow is needed. Checksums are not compared.
Source: tensor_bundle.h and .proto, table_format.txt of TensorFlow and LevelDB; encoder and model of OpenAI's GPT-2.
"""

import dataclasses
import functools
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from gpt2.json_input import read_json
from gpt2.model.tensors import Tensors

HPARAMS = "hparams.json"
VOCABULARY = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}  # OpenAI's names, and Hugging Face's
MOST_SHARDS, LONGEST_KEY = 10_000, 10_000
FOOTER, MAGIC = 48, 0xDB4775248B80FB57
# The numbers of dtypes in TensorFlow's types.proto.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype("<f2"),
}
FIELDS = {"n_vocab": "vocab_size", "n_ctx": "n_positions", "n_embd": "n_embd", "n_head": "n_head", "n_layer": "n_layer"}
LAYER = re.compile(r"model/h(\d+)/(ln_1|ln_2|attn/c_attn|attn/c_proj|mlp/c_fc|mlp/c_proj)/(g|b|w)")
OTHERS = {
    "model/wte": "wte.weight",
    "model/wpe": "wpe.weight",
    "model/ln_f/g": "ln_f.weight",
    "model/ln_f/b": "ln_f.bias",
}
Message = dict[int, list[Any]]


def read_folder(index: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a checkpoint by our names, and the fields of hparams.json beside it by Hugging Face's names.

    Raises GPT2Error if a file is missing or damaged.
    """
    hparams = index.parent / HPARAMS
    known = read_json(hparams, dict[str, Any]) if hparams.is_file() else {}
    fields = {FIELDS[name]: value for name, value in known.items() if name in FIELDS}
    return {_plain_name(name): read for name, read in open_checkpoint(index).items()}, fields


def find_index(folder: Path) -> Path:
    """The index of the checkpoint in a folder: the one that its file `checkpoint` names, or the only one.

    Raises GPT2Error if it is unclear which.
    """
    listed = folder / "checkpoint"
    said = re.search(r'model_checkpoint_path: "(.*)"', listed.read_text(errors="replace")) if listed.is_file() else None
    if said and (folder / f"{Path(said[1]).name}.index").is_file():
        return folder / f"{Path(said[1]).name}.index"
    found = sorted(folder.glob("*.index"))
    if len(found) != 1:
        raise GPT2Error(
            f"{folder} holds {len(found)} checkpoints of TensorFlow (*.index), expected one: name its index"
        )
    return found[0]


def _plain_name(name: str) -> str:
    """The name of a parameter; that of another tensor, such as the moments of Adam, stays."""
    layer = LAYER.fullmatch(name)
    if layer is None:
        return OTHERS.get(name, name)
    leaf = "bias" if layer[3] == "b" else "weight"
    return f"h.{layer[1]}.{layer[2].replace('/', '.')}.{leaf}"


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Where a tensor lies."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def open_checkpoint(index: Path) -> Tensors:
    """The tensors of a checkpoint, each read when it is asked for. Raises GPT2Error if a file is damaged."""
    try:
        entries = list(_entries(index.read_bytes()))
        shards = _varint_field(_message(entries[0][1]), 1)
        if not 1 <= shards <= MOST_SHARDS:
            raise ValueError(f"it has {shards} data files")
        found = {name.decode(): _entry(_message(value)) for name, value in entries[1:]}
    except OSError as error:
        raise GPT2Error(f"cannot read {index}: {error.strerror}") from error
    except (ValueError, IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
        raise GPT2Error(f"{index} is not a readable checkpoint of TensorFlow ({error}): fetch it again") from error
    data = [index.with_suffix(f".data-{i:05}-of-{shards:05}") for i in range(shards)]
    missing = [path for path in data if not path.is_file()]
    if missing:
        raise GPT2Error(f"{missing[0]} is missing: {index.name} says that the numbers lie there")
    return {name: functools.partial(_read, data, name, entry) for name, entry in found.items()}


def _read(data: list[Path], name: str, entry: _Entry) -> NDArray[Any]:
    if entry.shard >= len(data) or entry.size != math.prod(entry.shape) * entry.dtype.itemsize:
        raise GPT2Error(f"{data[0]}: the size of {name} does not fit its shape {entry.shape}: fetch it again")
    path = data[entry.shard]
    try:
        if entry.offset + entry.size > path.stat().st_size:
            raise GPT2Error(f"{path} ends within {name}: fetch it again")
        with path.open("rb") as file:
            file.seek(entry.offset)
            raw = bytearray(file.read(entry.size))
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
    try:
        x = np.frombuffer(raw, entry.dtype).reshape(entry.shape)
    except (ValueError, OverflowError) as error:  # a size of 0, and others that NumPy cannot hold
        raise GPT2Error(f"{path}: {name} cannot have the shape {entry.shape}: fetch it again") from error
    # OpenAI's affine maps are convolutions of width 1
    return x[0] if x.ndim == 3 and x.shape[0] == 1 else x


def _entry(fields: Message) -> _Entry:
    number = _varint_field(fields, 1)
    if number not in DTYPES:
        raise ValueError(f"a tensor has the dtype number {number}")
    shape = [_varint_field(_message(size), 1) for size in _message(fields.get(2, [b""])[0]).get(2, [])]
    if fields.get(7):
        raise ValueError("a tensor is stored in slices")
    return _Entry(DTYPES[number], tuple(shape), *(_varint_field(fields, field) for field in (3, 4, 5)))


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every (key, value) of a table."""
    footer = table[-FOOTER:]
    if len(footer) < FOOTER or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("it does not end as a table does")
    _, place = _handle(footer, 0)  # of the metaindex, which says nothing here
    end = 0
    for _, handle in _block(table, *_handle(footer, place)[0]):
        offset, size = _handle(handle, 0)[0]
        if offset < end:  # a small file could name the same block again and again
            raise ValueError("its blocks overlap")
        yield from _block(table, offset, size)
        end = offset + size


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the place after them."""
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size >= len(table):
        raise ValueError("a block lies beyond its end")
    if table[offset + size] != 0:
        raise ValueError("it is compressed")
    block = table[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    key, place, end = b"", 0, len(block) - 4 * (restarts + 1)
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared + fresh > LONGEST_KEY:
            raise ValueError("a name is too long")
        key = key[:shared] + block[place : place + fresh]
        place += fresh
        yield key, block[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("a number is too long")


def _message(data: bytes) -> Message:
    """The fields of a protocol buffer by number: numbers, and bytes for what has a length."""
    fields: Message = {}
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        value: Any
        if kind == 0:
            value, place = _varint(data, place)
        elif kind == 2:
            length, place = _varint(data, place)
            value, place = data[place : place + length], place + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, place = data[place : place + length], place + length
        else:
            raise ValueError(f"a field has the kind {kind}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint_field(fields: Message, number: int) -> int:
    """The last value of a number field; 0 if it is absent."""
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value
