"""The one protocol between the engines and everything that uses them, and the NumPy engine.

A backend computes GPT-2 on one device in one dtype. Arrays that cross this line are NumPy's.
"""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from reference import fast, find_function, generate, model, optim, precision, stages, train
from reference.config import GPT2Config, StepReport, TrainingConfig, flatten, map_tree, nest

Array = NDArray[Any]
ENTRY_POINTS = "gpt2.backends"  # the group in which a package registers a backend of its own
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
        self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:  # fmt: skip
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


def backend_names() -> list[str]:
    """The backends that are registered here, by this package and by others."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINTS)})


def get_backend(
    name: str | None = None, device: str | None = None, dtype: str | None = None, mode: str | None = None
) -> Backend:
    """The backend of that name; defaults: $GPT2_BACKEND or numpy, and the backend's own device, dtype and mode.

    A name may carry an argument after a colon, "twin:no past". Raises GPT2Error for a name, device, dtype or mode that
    is unknown or absent here.
    """
    source = "" if name else " in the environment variable GPT2_BACKEND"
    name, _, argument = (name or os.environ.get("GPT2_BACKEND") or "numpy").partition(":")
    found = [point for point in entry_points(group=ENTRY_POINTS) if point.name == name]
    if not found:
        raise GPT2Error(f"unknown backend {name!r}{source}: choose one of {', '.join(backend_names())}")
    if argument and name in ("numpy", "mindspore"):
        raise GPT2Error(f"backend {name!r} takes no argument, but was given {argument!r}: use --backend {name}")
    if name == "mindspore" and importlib.util.find_spec("mindspore") is None:
        raise GPT2Error("backend 'mindspore' needs MindSpore: pip install 'gpt2-parity[mindspore]', or --backend numpy")
    try:
        factory = found[0].load()
    except (ImportError, AttributeError) as error:
        raise GPT2Error(f"backend {name!r} is registered, but {found[0].value} cannot be imported: {error}") from error
    options = {"device": device, "dtype": dtype, "mode": mode}
    chosen = {option: value for option, value in options.items() if value is not None}
    try:
        return factory(argument, **chosen) if argument else factory(**chosen)
    except GPT2Error:
        raise
    except ValueError as error:
        raise GPT2Error(str(error)) from error


class NumPyBackend:
    """The reference behind the protocol: plain functions for `call` and `stages`, fast ones for the rest."""

    name = "numpy"
    accuracy: Mapping[str, float] = {}
    sources = Path(model.__file__).parent

    def __init__(self, device: str = "CPU", dtype: str = "float32", mode: str = "eager") -> None:
        if device != "CPU":
            raise GPT2Error(f"backend 'numpy' runs on device 'CPU' alone, not on {device!r}: use --backend mindspore")
        if mode != "eager":
            raise GPT2Error(f"backend 'numpy' has no mode {mode!r}, only 'eager': use --backend mindspore")
        self.device, self.dtype, self.mode = device, dtype, mode
        self._dtype = numpy_dtype(dtype)

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror."""
        return find_function(function)(**arguments)

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "NumPyModel":
        """Put the parameters in place."""
        return NumPyModel(config, parameters, self._dtype)

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> "NumPyTrainer":
        """Start training."""
        return NumPyTrainer(config, parameters, settings, self._dtype)


class NumPyTrainer:
    """The reference being trained: plain functions, gradients derived by hand."""

    def __init__(
        self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig, dtype: np.dtype
    ) -> None:
        if dtype.itemsize == 2:
            raise GPT2Error(
                f"weights are trained in float32, not in {dtype.name}: use --dtype float32 and a level from O1 to O3"
            )
        self.config, self.settings = config, settings
        self.params = nest({name: x.astype(dtype) for name, x in parameters.items()})
        self._optimizer = optim.OPTIMIZERS[settings.optimizer](self.params, settings)
        self._accumulator = optim.Accumulator(self._optimizer, settings.accumulate_step, settings.max_grad_norm)
        self._scaler = train.loss_scaler(settings)
        self._grad_fn = functools.partial(
            train.loss_and_gradients, self.params, config=config, level=settings.level,
            ignore_index=settings.ignore_index,
        )  # fmt: skip

    def step(self, batch: Batch) -> StepReport:
        """Take one micro-batch."""
        lr, scale = float(self._optimizer.lr()), float(self._scaler.scale_value)
        with np.errstate(over="ignore", invalid="ignore"):  # float16 may overflow: that is what the scaler looks for
            loss, finite, updated, norm = train.train_step(self._grad_fn, vars(batch), self._accumulator, self._scaler)
        return StepReport(float(loss), bool(finite), bool(updated), lr, float(norm), scale)

    def loss(self, batch: Batch) -> float:
        """The mean loss of a batch."""
        return float(self._forward(batch))

    def _forward(self, batch: Batch) -> Array:
        head = model.sequence_classifier_loss if "score" in self.params else model.language_model_loss
        cast = precision.cast_parameters(self.params, self.settings.level)
        return head(cast, config=self.config, ignore_index=self.settings.ignore_index, **vars(batch))

    def stages(self, batch: Batch) -> dict[str, Array]:
        """Every named stage."""
        seen: dict[str, Array] = {}
        with stages.observing(stages.keep_in(seen)):
            seen["loss"] = self._forward(batch)
        return seen

    def parameters(self) -> dict[str, Array]:
        """Copies of the weights."""
        return {name: x.copy() for name, x in flatten(self.params).items()}

    def state(self) -> dict[str, Array]:
        """All that the next step depends on beside the weights."""
        return self._optimizer.state() | self._accumulator.state() | self._scaler.state()

    def load_state(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Go on from there."""
        for name, x in flatten(self.params).items():
            x[...] = parameters[name]
        for part in (self._optimizer, self._accumulator, self._scaler):
            part.load_state(state)


class NumPyModel:
    """A GPT-2 of the reference."""

    def __init__(self, config: GPT2Config, parameters: Mapping[str, Array], dtype: np.dtype) -> None:
        self.config, self.dtype = config, dtype
        self._place(parameters)

    def _place(self, parameters: Mapping[str, Array]) -> None:
        self.params = nest({name: x.astype(self.dtype, copy=False) for name, x in parameters.items()})
        self.fast_params = fast.fast_parameters(self.params)
        self.fast_params = map_tree(lambda name, x: np.ascontiguousarray(x), self.fast_params)  # few rows: 2-3x faster

    def assign(self, parameters: Mapping[str, Array]) -> None:
        """Replace every weight."""
        if {name: x.shape for name, x in flatten(self.params).items()} != {n: x.shape for n, x in parameters.items()}:
            raise ValueError("the new weights must have the names and shapes of the old ones")
        self._place(parameters)

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every next token."""
        return fast.language_model_fast(self.fast_params, ids, self.config, attention_mask, position_ids)

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Scores of every label."""
        return model.sequence_classifier(self.params, ids, self.config, attention_mask, position_ids)

    def stages(
        self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:  # fmt: skip
        """Every named stage."""
        seen: dict[str, Array] = {}
        keep, given = stages.keep_in(seen), given or {}
        with stages.observing(lambda name, x: given.get(name, keep(name, x))):
            head = model.sequence_classifier if "score" in self.params else model.language_model
            head(self.params, ids, self.config, attention_mask, position_ids)
        return seen

    def decoder(self, batch_size: int, length: int) -> "NumPyDecoder":
        """Start a batch."""
        return NumPyDecoder(self, batch_size, length)


class NumPyDecoder:
    """A batch being continued by the reference."""

    def __init__(self, owner: NumPyModel, batch_size: int, length: int) -> None:
        self._model = owner
        self._cache = fast.make_cache(owner.config, batch_size, length, owner.dtype)
        self._attention_mask = np.zeros((batch_size, length), np.int64)
        self._slot = 0
        self._next_positions = np.zeros((batch_size, 1), np.int64)
        self._chosen = np.zeros(batch_size, np.int64)
        self._logits = np.zeros((batch_size, 0), owner.dtype)

    @property
    def slots(self) -> int:
        """S, how many tokens the cache has room for."""
        return self._attention_mask.shape[1]

    @property
    def cache_bytes(self) -> int:
        """Memory of the keys and values, 2 n_layer B H S D numbers."""
        return sum(kept.nbytes for pair in self._cache for kept in pair)

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Take in ids."""
        end = self._slot + ids.shape[1]
        if end > self.slots:
            raise ValueError(f"{ids.shape[1]} tokens do not fit: {self._slot} of {self.slots} have been read")
        self._attention_mask[:, self._slot : end] = attention_mask
        self._logits = fast.language_model_fast(
            self._model.fast_params, ids, self._model.config, self._attention_mask, position_ids,
            self._cache, self._slot, last_only=True,
        )[:, -1]  # fmt: skip
        self._slot = end
        self._next_positions = position_ids[:, -1:] + 1

    def logits(self) -> Array:
        """Scores of the next token."""
        return self._logits

    def greedy(self) -> Array:
        """The likeliest next ids."""
        self._chosen = generate.greedy(self._logits)
        return self._chosen

    def sample(self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0) -> Array:
        """Ids drawn by uniform."""
        self._chosen = generate.sample(self._logits, uniform, temperature, top_k, top_p, min_p)
        return self._chosen

    def advance(self) -> None:
        """Read the ids chosen last."""
        self.read(self._chosen[:, None], np.ones((len(self._chosen), 1), np.int64), self._next_positions)

    def reorder(self, rows: Array) -> None:
        """Let sequence i go on from what sequence rows[i] has read."""
        for kept in (self._attention_mask, *(each for pair in self._cache for each in pair)):
            kept[...] = kept[rows]
        self._next_positions, self._logits = self._next_positions[rows], self._logits[rows]
        self._chosen = self._chosen[rows]
