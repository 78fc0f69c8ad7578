"""The backends: the protocol that they share, their registry, and the NumPy backend."""

from gpt2.backends.numpy_backend import NumPyBackend, NumPyDecoder, NumPyModel, NumPyTrainer
from gpt2.backends.protocol import (
    DTYPES,
    Array,
    Backend,
    BackendModel,
    Batch,
    Decoder,
    Trainer,
    numpy_dtype,
    require_trainer,
)
from gpt2.backends.registry import backend_names, get_backend

__all__ = [
    "DTYPES",
    "Array",
    "Backend",
    "BackendModel",
    "Batch",
    "Decoder",
    "NumPyBackend",
    "NumPyDecoder",
    "NumPyModel",
    "NumPyTrainer",
    "Trainer",
    "backend_names",
    "get_backend",
    "numpy_dtype",
    "require_trainer",
]
