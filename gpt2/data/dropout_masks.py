"""Dropout masks, drawn on the host: the same on every machine and for every backend."""

import hashlib
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from reference.config import GPT2Config, keep_axes, nest

# The configuration field with the dropout rate, by the last word of a mask's name.
RATES = {"embeddings": "embd_pdrop", "attn_weights": "attn_pdrop", "c_proj": "resid_pdrop"}


def draw_keep(config: GPT2Config, batch_size: int, tokens: int, seed: int, step: int) -> Any:
    """Dropout masks of one micro-batch: a tree of `reference.config.keep_axes`, bool, True where the value is kept.

    An element is True with probability 1 - rate, to 16 bits; rates are those of config. None if all rates are 0.
    The masks depend only on the seed and on step, the number of the micro-batch, not on earlier draws.
    Raises GPT2Error if seed or step is not between 0 and 2**64 - 1.
    """
    for what, number in (("seed", seed), ("step", step)):
        if not 0 <= number < 2**64:
            raise GPT2Error(f"the {what} of dropout must be an integer from 0 to 2**64 - 1, but is {number}")
    if not any(getattr(config, field) for field in RATES.values()):
        return None
    sizes = {"B": batch_size, "T": tokens, "S": tokens, "C": config.n_embd, "H": config.n_head}
    masks = {}
    for name, axes in keep_axes(config).items():
        shape = tuple(sizes[axis] for axis in axes.split(", "))
        masks[name] = _draw(name, shape, dropout_rate(config, name), seed, step)
    return nest(masks)


def dropout_rate(config: GPT2Config, name: str) -> float:
    """The probability that dropout drops an element of the mask of this name, such as "h.0.attn.c_proj"."""
    return getattr(config, RATES[name.rpartition(".")[2]])


def _draw(name: str, shape: tuple[int, ...], rate: float, seed: int, step: int) -> NDArray[np.bool_]:
    """One mask. Uses Philox's raw integers, as a Generator's numbers may change with the NumPy version.

    Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    numbers = np.random.Philox(key=seed | stream << 64, counter=step << 192)  # 2**192 blocks between two steps
    size = math.prod(shape)
    words = numbers.random_raw(-(-size // 4)).astype("<u8", copy=False).view("<u2")[:size]  # 16 bits, four per integer
    return (words >= np.uint16(min(round(rate * 2**16), 2**16 - 1))).reshape(shape)
