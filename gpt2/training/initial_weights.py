"""Initial weights for training."""

import math

import numpy as np
from numpy.typing import NDArray

from reference.config import GPT2Config, parameter_shapes


def initial_parameters(config: GPT2Config, seed: int, head: str = "language_model") -> dict[str, NDArray[np.float32]]:
    """float32 weights by name: normal with standard deviation initializer_range (0.02), biases 0, LayerNorm gains 1.

    Projections into the residual stream are divided by sqrt(2 n_layer), as 2 n_layer of them are summed.
    Source: GPT-2 paper, section 2.3; `_init_weights` of Hugging Face's modeling_gpt2.py.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    return {name: _initial(name, shape, config, random) for name, shape in parameter_shapes(config, head).items()}


def _initial(name: str, shape: tuple[int, ...], config: GPT2Config, random: np.random.Generator) -> NDArray[np.float32]:
    if len(shape) == 1:
        return np.full(shape, 1 if name.endswith("weight") else 0, np.float32)
    shrink = math.sqrt(2 * config.n_layer) if name.endswith("c_proj.weight") else 1
    return (config.initializer_range / shrink * random.standard_normal(shape)).astype(np.float32)
