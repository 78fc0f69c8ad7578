"""The NumPy backend: runs the reference behind the backend protocol."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.backends.protocol import Array, Batch, numpy_dtype
from gpt2.errors import GPT2Error
from reference import fast, find_function, generate, model, optim, precision, stages, train
from reference.config import GPT2Config, StepReport, TrainingConfig, flatten, map_tree, nest

MODES = ("eager", "plain")


class NumPyBackend:
    """Runs the reference: plain functions for `call` and `stages`, fast ones for everything else.

    In mode "plain", plain functions run everywhere: the code in reference/model.py is the code that runs.
    """

    name = "numpy"
    accuracy: Mapping[str, float] = {}
    sources = Path(model.__file__).parent

    def __init__(self, device: str = "CPU", dtype: str = "float32", mode: str = "eager") -> None:
        if device != "CPU":
            raise GPT2Error(f"backend 'numpy' runs on device 'CPU' alone, not on {device!r}: use --backend mindspore")
        if mode not in MODES:
            raise GPT2Error(
                f"backend 'numpy' has no mode {mode!r}: choose one of {', '.join(MODES)}, or use --backend mindspore"
            )
        self.device, self.dtype, self.mode = device, dtype, mode
        self._dtype = numpy_dtype(dtype)

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Run one function of the mirror."""
        return find_function(function)(**arguments)

    def model(self, config: GPT2Config, parameters: Mapping[str, Array]) -> "NumPyModel":
        """A model with these parameters."""
        kind = PlainNumPyModel if self.mode == "plain" else NumPyModel
        return kind(config, parameters, self._dtype)

    def trainer(self, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig) -> "NumPyTrainer":
        """A trainer that starts from these parameters."""
        return NumPyTrainer(config, parameters, settings, self._dtype)


class NumPyTrainer:
    """Trains the reference: plain functions, and gradients derived by hand."""

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
        self._accumulator = optim.Accumulator(
            self._optimizer, settings.accumulate_step, settings.max_grad_norm, settings.accumulation
        )
        self._scaler = train.loss_scaler(settings)
        self._grad_fn = functools.partial(
            train.loss_and_gradients,
            self.params,
            config=config,
            level=settings.level,
            ignore_index=settings.ignore_index,
        )

    def step(self, batch: Batch) -> StepReport:
        """Train on one micro-batch."""
        lr, scale = float(self._optimizer.lr()), float(self._scaler.scale_value)
        with np.errstate(over="ignore", invalid="ignore"):  # float16 may overflow: the loss scaler handles it
            loss, finite, updated, norm = train.train_step(
                self._grad_fn, vars(batch), self._accumulator, self._scaler, self.settings.ignore_index
            )
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
        """Everything that the next step depends on except the weights."""
        return self._optimizer.state() | self._accumulator.state() | self._scaler.state()

    def load_state(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Resume from saved weights and trainer state."""
        for name, x in flatten(self.params).items():
            x[...] = parameters[name]
        for part in (self._optimizer, self._accumulator, self._scaler):
            part.load_state(state)


class NumPyModel:
    """A GPT-2 that the reference computes."""

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
        """Logits of the next token at every position."""
        return fast.language_model_fast(self.fast_params, ids, self.config, attention_mask, position_ids)

    def classify(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of every label."""
        return model.sequence_classifier(self.params, ids, self.config, attention_mask, position_ids)

    def stages(
        self,
        ids: Array,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        given: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Every named stage."""
        seen: dict[str, Array] = {}
        keep, given = stages.keep_in(seen), given or {}
        with stages.observing(lambda name, x: given.get(name, keep(name, x))):
            head = model.sequence_classifier if "score" in self.params else model.language_model
            head(self.params, ids, self.config, attention_mask, position_ids)
        return seen

    def decoder(self, batch_size: int, length: int) -> "NumPyDecoder":
        """A decoder for a new batch."""
        return NumPyDecoder(self, batch_size, length)


class NumPyDecoder:
    """Continues a batch of sequences with the reference and a key-value cache."""

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
        """S, the number of tokens that the cache has room for."""
        return self._attention_mask.shape[1]

    @property
    def cache_bytes(self) -> int:
        """Bytes of the cached keys and values, 2 n_layer B H S D numbers."""
        return sum(kept.nbytes for pair in self._cache for kept in pair)

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        """Read ids into the cache."""
        end = self._slot + ids.shape[1]
        if end > self.slots:
            raise ValueError(f"{ids.shape[1]} tokens do not fit: {self._slot} of {self.slots} have been read")
        self._attention_mask[:, self._slot : end] = attention_mask
        self._logits = self._scores(ids, position_ids)[:, -1]
        self._slot = end
        self._next_positions = position_ids[:, -1:] + 1

    def _scores(self, ids: Array, position_ids: Array) -> Array:
        """Logits after the last token, (B, 1, V); adds keys and values to the cache."""
        return fast.language_model_fast(
            self._model.fast_params,
            ids,
            self._model.config,
            self._attention_mask,
            position_ids,
            self._cache,
            self._slot,
            last_only=True,
        )

    def logits(self) -> Array:
        """Logits of the next token."""
        return self._logits

    def greedy(self) -> Array:
        """The likeliest next ids."""
        self._chosen = generate.greedy(self._logits)
        return self._chosen

    def sample(
        self, uniform: Array, temperature: float, top_k: int, top_p: float, min_p: float = 0.0, typical_p: float = 1.0
    ) -> Array:
        """Next ids, sampled with the random numbers `uniform`."""
        self._chosen = generate.sample(self._logits, uniform, temperature, top_k, top_p, min_p, typical_p)
        return self._chosen

    def advance(self) -> None:
        """Read the last chosen ids into the cache."""
        self.read(self._chosen[:, None], np.ones((len(self._chosen), 1), np.int64), self._next_positions)

    def reorder(self, rows: Array) -> None:
        """Replace sequence i by a copy of sequence rows[i]."""
        for kept in (self._attention_mask, *(each for pair in self._cache for each in pair)):
            kept[...] = kept[rows]
        self._next_positions, self._logits = self._next_positions[rows], self._logits[rows]
        self._chosen = self._chosen[rows]


class PlainNumPyModel(NumPyModel):
    """A GPT-2 that runs only the plain functions of the reference: `--mode plain`."""

    def logits(self, ids: Array, attention_mask: Array | None = None, position_ids: Array | None = None) -> Array:
        """Logits of the next token at every position."""
        return model.language_model(self.params, ids, self.config, attention_mask, position_ids)[0]

    def decoder(self, batch_size: int, length: int) -> "PlainNumPyDecoder":
        """A decoder for a new batch."""
        return PlainNumPyDecoder(self, batch_size, length)


class PlainNumPyDecoder(NumPyDecoder):
    """Continues a batch with `past`: the keys and values already read, concatenated with the new ones."""

    def _scores(self, ids: Array, position_ids: Array) -> Array:
        """Logits after every new token, (B, T, V); adds keys and values to the cache."""
        end = self._slot + ids.shape[1]
        past = [(k[:, :, : self._slot], v[:, :, : self._slot]) for k, v in self._cache] if self._slot else None
        logits, presents = model.language_model(
            self._model.params, ids, self._model.config, self._attention_mask[:, :end], position_ids, past
        )
        for cached, present in zip(self._cache, presents, strict=True):
            for kept, new in zip(cached, present, strict=True):
                kept[:, :, :end] = new
        return logits
