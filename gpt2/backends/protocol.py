"""The protocol that every backend implements."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from reference.config import GPT2Config, StepReport, TrainingConfig

Array = NDArray[Any]
DTYPES = ("float64", "float32", "float16", "bfloat16")


class Decoder(Protocol):
    """Continues one batch of sequences; holds the cache of their keys and values."""

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Read ids (B, T) into the cache. attention_mask (B, T): 1 token, 0 padding, which is ignored from then on."""

    def logits(self) -> Array:
        """Logits of the next token of each sequence, (B, V)."""

    def greedy(self) -> Array:
        """The likeliest next id of each sequence, (B,)."""

    def sample(
        self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0, typical_p: float = 1.0
    ) -> Array:
        """Sampled next id of each sequence, (B,); uniform (B,) holds a random number for each, 0 <= u < 1."""

    def advance(self) -> None:
        """Read the ids last chosen by greedy or sample, each at its sequence's next position.

        The ids can stay on the device.
        """

    def reorder(self, rows: Array) -> None:
        """Replace sequence i, its cache and its logits by a copy of sequence rows[i]; rows (B,)."""


class BackendModel(Protocol):
    """A GPT-2 with its weights. Callers have checked the arguments: ids lie in the vocabulary, lengths fit."""

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of the next token at every position, (B, T, V), in the backend's dtype."""

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of every label, (B, K)."""

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Every named stage of the plain forward pass, in order of computation.

        `given` maps stage names to values that replace the computed ones in the rest of the pass.
        """

    def decoder(self, batch_size: int, length: int) -> Decoder:
        """A decoder for a new batch of sequences of at most `length` tokens each, padding included."""

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight by the parameter of the same name and shape."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """One micro-batch. keep: the dropout masks, a tree as `reference.config.keep_axes` describes; True where kept."""

    ids: Array
    """Token ids, (B, T)."""
    labels: Array
    """Language model: (B, T), the ids, with ignore_index at tokens that are not scored; classifier: (B,)."""
    attention_mask: Array | None = None
    position_ids: Array | None = None
    keep: Any = None


class Trainer(Protocol):
    """Trains a GPT-2: holds float32 weights, optimizer state and loss scaler, all on the device."""

    def step(self, batch: Batch) -> StepReport:
        """Train on one micro-batch; after every accumulate_step of them the optimizer updates the weights."""

    def loss(self, batch: Batch) -> float:
        """The mean loss of a batch under the current weights, in the precision of the level; updates nothing."""

    def stages(self, batch: Batch) -> dict[str, Array]:
        """Every named stage of the forward pass on a batch, in the dtypes of the mixed-precision level."""

    def parameters(self) -> dict[str, Array]:
        """Copies of the weights, under their names."""

    def state(self) -> dict[str, Array]:
        """Everything the next step depends on except the weights: moments, counters, scale, accumulated gradients."""

    def load_state(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Resume from what `parameters` and `state` returned, on this backend or another."""


class Backend(Protocol):
    """An implementation of GPT-2: `name`, on `device`, in `dtype`, run in `mode`."""

    name: str
    device: str
    dtype: str
    mode: str
    accuracy: Mapping[str, float]
    """Largest relative error of elementary functions ("exp", "sigmoid") that are less accurate than NumPy's."""
    sources: Path
    """The folder of its source files, so that the judge can name lines. Optional."""

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror, such as "ops.layer_norm". Takes and returns (trees of) NumPy arrays."""

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> BackendModel:
        """A model with these parameters, named as in the checkpoint and rounded to the backend's dtype."""

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> Trainer:
        """A trainer that starts from these parameters; it trains a classifier if score.weight is among them."""


def require_trainer(backend: Backend) -> None:
    """Raise GPT2Error for a backend that does not train: its `trainer` is None."""
    if getattr(backend, "trainer", None) is None:
        raise GPT2Error(f"backend {backend.name!r} does not train: choose another one, such as numpy or mindspore")


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a name in DTYPES; bfloat16 is from the package ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if name not in DTYPES:
        raise GPT2Error(f"unknown dtype {name!r}: choose one of {', '.join(DTYPES)}")
    return np.dtype(name)
