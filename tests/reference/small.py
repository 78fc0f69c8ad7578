"""A small live GPT-2 made with NumPy alone, the same under every version of it."""

import numpy as np

from reference.config import GPT2Config, parameter_shapes

CONFIG = GPT2Config(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3)
IDS = np.array([[1, 5, 10, 0, 3], [2, 2, 9, 7, 4]])


def parameters() -> dict[str, np.ndarray]:
    """Dense values of order one, float64, by name."""
    random = np.random.default_rng(3)
    return {name: 0.5 * random.standard_normal(shape) for name, shape in parameter_shapes(CONFIG).items()}
