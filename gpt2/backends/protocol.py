"""The one protocol between the engines and everything that uses them."""

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
    """One batch of sequences being continued; the keys and values of what it has read stay inside."""

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Take in ids (B, T); those that attention_mask (B, T) marks with 0 are pads, never looked at again."""

    def logits(self) -> Array:
        """Scores of the next token of each sequence, (B, V)."""

    def greedy(self) -> Array:
        """The likeliest next id of each sequence, (B,)."""

    def sample(self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0) -> Array:
        """A next id of each sequence, (B,), drawn by its number of uniform (B,), 0 <= u < 1."""

    def advance(self) -> None:
        """Read the ids that greedy or sample has chosen last, each at its sequence's next position.

        They need not leave the device for that.
        """

    def reorder(self, rows: Array) -> None:
        """Let sequence i go on from all that sequence rows[i] has read, and from its scores; rows (B,)."""


class BackendModel(Protocol):
    """A GPT-2 with its weights in place. Arguments have been checked: ids lie in the vocabulary, lengths fit."""

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every next token, (B, T, V) in the backend's dtype."""

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every label, (B, K)."""

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Every named stage of the plain forward pass, in order of computation.

        After a stage that is named in `given`, the computation goes on with the value given there.
        """

    def decoder(self, batch_size: int, length: int) -> Decoder:
        """Start a batch of sequences of at most `length` tokens each, pads included."""

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight by one of the same name and shape."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one micro-batch is made of. keep: what dropout keeps, a tree of `reference.config.keep_axes`."""

    ids: Array
    """Token ids, (B, T)."""
    labels: Array
    """Of a language model (B, T), the ids themselves with ignore_index at what is not scored; of a classifier (B,)."""
    attention_mask: Array | None = None
    position_ids: Array | None = None
    keep: Any = None


class Trainer(Protocol):
    """A GPT-2 being trained: float32 weights, the optimizer's moments, the loss scaler, all on the device."""

    def step(self, batch: Batch) -> StepReport:
        """Take one micro-batch; every accumulate_step of them the optimizer makes one step."""

    def loss(self, batch: Batch) -> float:
        """The mean loss of a batch by the weights as they are, in the precision of the level; nothing is learnt."""

    def stages(self, batch: Batch) -> dict[str, Array]:
        """Every named stage of the forward pass on a batch, in the dtypes that the level of mixed precision has."""

    def parameters(self) -> dict[str, Array]:
        """Copies of the weights, under their names."""

    def state(self) -> dict[str, Array]:
        """All that the next step depends on beside the weights: moments, counters, scale, accumulated gradients."""

    def load_state(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Go on from what `parameters` and `state` returned, here or on another backend."""


class Backend(Protocol):
    """One way of computing GPT-2: `name` on `device` in `dtype`, run as `mode` says."""

    name: str
    device: str
    dtype: str
    mode: str
    accuracy: Mapping[str, float]
    """Largest relative error of its elementary functions ("exp", "sigmoid"), where they are coarser than NumPy's."""
    sources: Path
    """The folder of its files of the mirror, for the judge to name lines in. A backend may lack it."""

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror, e.g. "ops.layer_norm", on (trees of) NumPy arrays; NumPy comes back."""

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> BackendModel:
        """Put the parameters, named as in the checkpoint, in place; they are rounded to the backend's dtype."""

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> Trainer:
        """Start training from these parameters: a classifier if score.weight is among them."""


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a name in DTYPES; bfloat16 comes from the package ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if name not in DTYPES:
        raise GPT2Error(f"unknown dtype {name!r}: choose one of {', '.join(DTYPES)}")
    return np.dtype(name)
