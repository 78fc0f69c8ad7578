"""Micro-batches whose rows differ in length make the update of one batch of all of them."""

import numpy as np
import pytest

from gpt2.backends import Batch, get_backend
from parity.verdict.verdict import close
from reference.config import GPT2Config, TrainingConfig, parameter_shapes

LENGTHS = (101, 11, 40, 3)
CONFIG = GPT2Config(vocab_size=29, n_positions=101, n_embd=8, n_layer=1, n_head=2)
DOUBLE = np.dtype(np.float64)


def norm(parts: int, accumulation: str) -> float:
    """The norm of the update's gradients, from so many micro-batches of the same rows."""
    random = np.random.default_rng(0)
    parameters = {name: random.standard_normal(shape) for name, shape in parameter_shapes(CONFIG).items()}
    ids = random.integers(0, CONFIG.vocab_size, (len(LENGTHS), max(LENGTHS)), np.int32)
    mask = (np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]).astype(np.int32)
    labels = np.where(mask == 1, ids, -100).astype(np.int32)
    settings = TrainingConfig(accumulate_step=parts, accumulation=accumulation)
    trainer = get_backend("numpy", dtype="float64").trainer(CONFIG, parameters, settings)
    for rows in np.split(np.arange(len(LENGTHS)), parts):
        report = trainer.step(Batch(ids=ids[rows], labels=labels[rows], attention_mask=mask[rows]))
    assert report.updated
    return report.grad_norm


@pytest.mark.parametrize("parts", [2, 4])
def test_the_norm_of_ragged_micro_batches_is_that_of_one_batch(parts: int) -> None:
    numbers = sum(int(np.prod(shape)) for shape in parameter_shapes(CONFIG).values())
    whole, split, means = norm(1, "tokens"), norm(parts, "tokens"), norm(parts, "micro_batches")
    size = numbers * sum(LENGTHS)  # the terms of all sums
    assert close(np.array(split), np.array(whole), 0.0, DOUBLE, size=size).agrees
    assert not close(np.array(means), np.array(whole), 0.0, DOUBLE, size=size).agrees  # the bug that this is about
