"""Laws: what holds of every correct GPT-2 by itself, so that no second implementation is needed to see it broken."""

from parity.laws import attention, blocks, engine, generation, gradients, model, ops, sampling, training
from parity.laws.base import LAWS, Law

__all__ = [
    "LAWS",
    "Law",
    "attention",
    "blocks",
    "engine",
    "generation",
    "gradients",
    "model",
    "ops",
    "sampling",
    "training",
]
