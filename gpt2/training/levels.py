"""Observe, on a small model, what runs in float16 at each level of mixed precision."""

import numpy as np

from gpt2.backends import Backend, Batch, require_trainer
from reference.config import LEVELS, GPT2Config, TrainingConfig, parameter_shapes

SMALL = GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2)


def dtypes_by_level(backend: Backend) -> dict[str, dict[str, str]]:
    """The dtypes of all stages of a training forward pass, of weights and moments, by level: {"O1": {"h.0.ln_1": ...}}.

    Raises GPT2Error if the backend does not train, or not in its dtype.
    """
    require_trainer(backend)
    random = np.random.default_rng(0)
    parameters = {name: random.standard_normal(shape) for name, shape in parameter_shapes(SMALL).items()}
    ids = np.arange(6)[None]
    seen = {}
    for level in LEVELS:
        trainer = backend.trainer(SMALL, parameters, TrainingConfig(level=level))
        kept = {"weights": trainer.parameters()["wte.weight"], "moments": trainer.state()["m.wte.weight"]}
        seen[level] = {name: x.dtype.name for name, x in (trainer.stages(Batch(ids, ids)) | kept).items()}
    return seen
