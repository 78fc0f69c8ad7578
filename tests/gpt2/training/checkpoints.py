"""Small checkpoints, and what is compared of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from gpt2 import GPT2Error
from gpt2.training.checkpoint import Checkpoint

Arrays = dict[str, NDArray[Any]]
DTYPES = [*map(np.dtype, ("float64", "float32", "float16", "int64", "int32", "bool")), np.dtype(ml_dtypes.bfloat16)]


def small(step: int = 100) -> Checkpoint:
    """A checkpoint that differs from those of other steps in every part."""
    weights = {"wte.weight": np.arange(6, dtype=np.float32).reshape(2, 3) + step}
    state = {"step": np.array(step), "m.wte.weight": np.full((2, 3), step, np.float32)}
    return Checkpoint(step, 4 * step, weights, state, {"seed": step, "text": "né\n\"'", "deep": [None, {"rate": 0.1}]})


def content(read: Checkpoint) -> Any:
    """All there is to know of a checkpoint, to compare."""
    arrays = {
        (kind, name): (x.dtype, x.shape, x.tobytes())
        for kind, group in (("model", read.parameters), ("state", read.state))
        for name, x in group.items()
    }
    return read.step, read.micro_batch, arrays, read.facts


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def one_line_and_nothing_lost(folder: Path, reason: str) -> Iterator[None]:
    """What is run here must be refused for that reason, and leave the folder as it is."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(GPT2Error, match=reason) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert "what was there before is unharmed" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
