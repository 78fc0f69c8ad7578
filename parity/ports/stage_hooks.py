"""A stage of the reference, and the form in which a submodule of a port returns it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.verdict.stages import stage_axes
from reference.config import GPT2Config

Array = NDArray[Any]


def to_stage(name: str, x: Array, config: GPT2Config) -> Array:
    """What a submodule returned in the stage's form: heads (B, T, C) are split, a batch that is left out is added."""
    axes = stage_axes(name)
    if len(axes) == 4 and x.ndim == 3:
        return x.reshape(*x.shape[:2], config.n_head, -1).swapaxes(1, 2)
    return x[None] if x.ndim == len(axes) - 1 else x


def from_stage(name: str, stage: Array, like: tuple[int, ...]) -> Array:
    """The stage in the form that a submodule returned it in, by its shape."""
    if len(stage_axes(name)) == 4 and len(like) == 3:
        stage = stage.swapaxes(1, 2)
    return np.broadcast_to(stage, like) if stage.size == 1 else stage.reshape(like)
