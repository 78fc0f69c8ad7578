"""Laws: properties of every correct GPT-2, so that a bug shows without a second implementation."""

from parity.laws import (
    attention,
    blocks,
    data,
    decoder,
    engine,
    evaluation,
    generation,
    gradients,
    model,
    ops,
    rows,
    sampling,
    texts,
    training,
)
from parity.laws.base import LAWS, Law

__all__ = [
    "LAWS",
    "Law",
    "attention",
    "blocks",
    "data",
    "decoder",
    "engine",
    "evaluation",
    "generation",
    "gradients",
    "model",
    "ops",
    "rows",
    "sampling",
    "texts",
    "training",
]
