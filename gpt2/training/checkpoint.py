"""Checkpoints of training runs: each is one file, written atomically and protected by a checksum."""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gpt2.errors import GPT2Error
from gpt2.files import PART, write_whole
from gpt2.model.hf_folder import save_weights
from gpt2.model.tensors import read_tensors

Array = NDArray[Any]
FORMAT = "gpt2-training/2"
READABLE = ("gpt2-training/1", FORMAT)  # the first has its facts under another name
NAME = re.compile(r"step-(\d+)\.safetensors")
DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # in the file's header, where safetensors keeps metadata


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to resume. Row order and dropout masks follow from seed and micro_batch."""

    step: int
    """Weight updates so far."""
    micro_batch: int
    """The number of the next micro-batch."""
    parameters: dict[str, Array]
    state: dict[str, Array]
    """What `gpt2.backends.Trainer.state` returned."""
    facts: dict[str, Any]
    """What else must not change, for JSON: configuration, recipe, seed, fingerprint of the data."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write folder/step-00000100.safetensors; remove the oldest beyond `keep`, and partial files of killed runs.

    Every file of such a name is complete, whenever the process or the machine stops. Raises GPT2Error, leaving older
    checkpoints in place, if the file cannot be written.
    """
    if keep < 1:
        raise GPT2Error(f"cannot keep {keep} checkpoints: keep 1 or more")
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    tensors = {f"model.{name}": x for name, x in checkpoint.parameters.items()}
    tensors |= {f"state.{name}": x for name, x in checkpoint.state.items()}
    facts = {"step": checkpoint.step, "micro_batch": checkpoint.micro_batch, "facts": checkpoint.facts}
    with write_whole(path) as part:
        _save(tensors, part, {"format": FORMAT, "checkpoint": json.dumps(facts), "sha256": "0" * 64})
        _seal(part)
    remove_old_checkpoints(folder, keep, path)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step in folder, or None. Raises GPT2Error if folder cannot be read."""
    return max(_checkpoints(folder), key=_step, default=None)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote, bit for bit.

    Raises GPT2Error if the file is truncated, has a changed bit anywhere, or is of another format; the message names
    the checkpoint before it.
    """
    try:
        with path.open("rb") as file:
            seal = _checksum(file)
    except OSError as error:
        raise GPT2Error(f"cannot read the checkpoint {path}: {error.strerror}; {_way_out(path)}") from error
    if seal is None:
        raise GPT2Error(f"{path} is damaged, or was not written by a training run: {_way_out(path)}")
    _, actual, expected = seal
    if actual != expected:
        raise GPT2Error(f"{path} is damaged, its contents do not have the checksum it carries: {_way_out(path)}")
    metadata = _metadata(path)
    if metadata.get("format") not in READABLE:
        raise GPT2Error(
            f"{path} has the format {metadata.get('format')!r}, expected {FORMAT!r}: "
            f"resume with the version of this program that wrote it; otherwise, {_way_out(path)}"
        )
    named: dict[str, dict[str, Array]] = {"model": {}, "state": {}}
    for name, x in read_tensors(path):
        kind, _, rest = name.partition(".")
        named[kind][rest] = x
    (facts,) = metadata.keys() - {"format", "sha256"}
    return Checkpoint(parameters=named["model"], state=named["state"], **json.loads(metadata[facts]))


def remove_old_checkpoints(folder: Path, keep: int, newest: Path | None = None) -> None:
    """Remove all checkpoints but `keep`, and the partial files of killed runs.

    newest: kept whatever its step (default: that with the highest). Raises GPT2Error if one cannot be removed.
    """
    oldest_first = sorted(_checkpoints(folder), key=lambda path: (path == newest, _step(path)))
    try:
        for path in oldest_first[:-keep]:
            path.unlink()
    except OSError as error:
        raise GPT2Error(f"cannot remove the old checkpoint {path}: {error.strerror}") from error
    for part in folder.glob(f".step-*{PART}"):
        shutil.rmtree(part, ignore_errors=True)


def write_weights(path: Path, parameters: Mapping[str, Array]) -> None:
    """Write the weights, atomically, as Hugging Face transformers and `gpt2.load` read them.

    Raises GPT2Error if the file cannot be written.
    """
    with write_whole(path) as part:
        save_weights(parameters, part)


def _save(tensors: Mapping[str, Array], path: Path, metadata: dict[str, str]) -> None:
    """Save tensors in C order. (np.ascontiguousarray would turn a 0-d array into a 1-d one.)"""
    save_file({name: np.asarray(x, order="C") for name, x in tensors.items()}, path, metadata=metadata)


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        seal = _checksum(file)
        if seal is None:
            raise OSError(errno.EIO, "it came out damaged")
        place, _, digest = seal
        file.seek(place)
        file.write(digest)


def _checksum(file: BinaryIO) -> tuple[int, bytes, bytes] | None:
    """The place of the stored SHA-256, its value, and the SHA-256 of all other bytes. None if none is stored."""
    head = file.read(8)
    length = int.from_bytes(head, "little")  # length of the JSON header
    if length > os.fstat(file.fileno()).st_size:
        return None
    head += file.read(length)
    match = DIGEST.search(head)
    if match is None:
        return None
    digest = hashlib.sha256(head[: match.start(1)] + head[match.end(1) :])
    while block := file.read(1 << 20):
        digest.update(block)
    return match.start(1), match[1], digest.hexdigest().encode()


def _metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]


def _checkpoints(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise GPT2Error(f"cannot look for checkpoints in {folder}: {error.strerror}") from error


def _step(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _way_out(path: Path) -> str:
    older = max((other for other in _checkpoints(path.parent) if _step(other) < _step(path)), key=_step, default=None)
    if older is None:
        return "remove it and start again, as there is no older one"
    return f"remove it to resume from {older}"
