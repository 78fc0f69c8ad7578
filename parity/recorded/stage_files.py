"""Read arrays that are named by the reference's stages: a folder of h.0.attn.q.npy, ..., or one .npz of such.

Beside the stages there may be what the model was given: input_ids (or ids), attention_mask, position_ids.
"""

import difflib
import functools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gpt2.errors import GPT2Error
from parity.recorded.files import (
    AGAIN,
    Array,
    as_numbers,
    dtype_named,
    npy_header,
    quoted,
    read_npy,
    require_inside,
    tensor_in,
)
from parity.recorded.recording import RecordedRun, RecordedTensor, Recording, Statistics
from parity.verdict.stages import STAGE_AXES
from reference.config import ACTIVATIONS

GIVEN = {"input_ids": "ids"} | {name: name for name in ("ids", "attention_mask", "position_ids")}
OUTSIDE = ("wte", "wpe", "embeddings", "ln_f", "logits", "score", "label_logits")  # of the layers
INSIDE = frozenset(STAGE_AXES).difference(OUTSIDE).union(f"mlp.{name}" for name in ACTIVATIONS)
MOST_UNPACKED = 2**30  # bytes of one compressed array: a small file could otherwise fill the memory
MOST_NAMED = 3  # unknown names in a note


def read_stage_files(path: Path) -> Recording:
    """The recording of such a folder or .npz. Raises GPT2Error if nothing in it is named by a stage."""
    found = from_npz(path) if path.is_file() else from_folder(path)
    stages, notes = by_stage(found)
    if all(map(is_given, stages)):
        raise GPT2Error(
            f"{path} holds no array that is named by a stage, such as h.0.attn.q: {'; '.join(notes) or 'it is empty'}"
        )
    return Recording(path, "stages", (RecordedRun(task="tensor", stages=stages),), tuple(notes))


def by_stage(found: Mapping[str, RecordedTensor]) -> tuple[dict[str, RecordedTensor], list[str]]:
    """Those that are named by a stage or by what the model was given, and notes on the others, with what is near."""
    named = {name: GIVEN.get(name, name) for name in found if name in GIVEN or is_stage(name)}
    unknown = [name for name in found if name not in named]
    notes = [_nearest(name) for name in unknown[:MOST_NAMED]] if unknown else []
    if len(unknown) > MOST_NAMED:
        notes.append(f"{len(unknown) - MOST_NAMED:,} more arrays are named by no stage")
    return {named[name]: found[name] for name in named}, notes


def is_given(name: str) -> bool:
    """Whether it is what the model was given, not a stage."""
    return name in GIVEN


def is_stage(name: str) -> bool:
    """Whether the reference has a stage of that name, in some layer."""
    parts = name.split(".", 2)
    in_layer = len(parts) == 3 and parts[0] == "h" and parts[1].isascii() and parts[1].isdigit()
    return parts[2] in INSIDE if in_layer else name in OUTSIDE


def _nearest(name: str) -> str:
    layer = next((part for part in name.split(".") if part.isascii() and part.isdigit()), "0")
    known = [*OUTSIDE, *GIVEN, *(f"h.{layer}.{role}" for role in sorted(INSIDE))]
    near = difflib.get_close_matches(name, known, n=1)
    return f"{quoted(name)} is no stage" + (f": is {near[0]!r} meant?" if near else "")


def from_folder(folder: Path) -> dict[str, RecordedTensor]:
    """The arrays of a folder's .npy files, by name; the numbers are read when they are asked for."""
    root = folder.resolve()
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npy" and path.is_file():
            found[path.stem] = npy_tensor(path, root)
    return found


def npy_tensor(path: Path, root: Path) -> RecordedTensor:
    """The tensor in a .npy, of the dtype and shape that its header says."""
    require_inside(path, root)
    try:
        with path.open("rb") as file:
            dtype, shape, _ = npy_header(file, path)
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror or error}") from error
    return tensor_in(path.parent, path.name, root, _dtype(dtype, path), shape, Statistics())


def _dtype(dtype: np.dtype[Any], path: Path) -> str:
    name = "bfloat16" if dtype.kind == "V" else dtype.name  # NumPy has no name for it
    if dtype_named(name) is None:
        raise GPT2Error(f"{path} holds {quoted(dtype.name)}, which is not read here: save numbers, such as float32")
    return name


def from_npz(path: Path) -> dict[str, RecordedTensor]:
    """The arrays of a .npz, by name; the numbers are read when they are asked for."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise GPT2Error(f"{path} has an array twice: {AGAIN}")
            found = {}
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > MOST_UNPACKED:
                    raise GPT2Error(f"{path} has compressed arrays of more than 1 GiB: save it by numpy.savez")
                with archive.open(entry) as file:
                    dtype, shape, _ = npy_header(cast(BinaryIO, file), path)
                name = entry.filename.removesuffix(".npy")
                read = functools.partial(_numbers, path, entry.filename)
                found[name] = RecordedTensor(_dtype(dtype, path), shape, source=f"{path.name}:{name}", read=read)
            return found
    except GPT2Error:
        raise
    except OSError as error:
        raise GPT2Error(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive can fail anywhere in it
        raise GPT2Error(f"{path} is not a readable .npz: {AGAIN}") from error


def _numbers(path: Path, name: str) -> Array:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            x = read_npy(cast(BinaryIO, file), path)
    except GPT2Error:
        raise
    except Exception as error:  # as above
        raise GPT2Error(f"{path} is damaged in {quoted(name)}: {AGAIN}") from error
    return as_numbers(x)
