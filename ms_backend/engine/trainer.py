"""Train a GPT-2 of the twin: one compiled step, weights on the device.

A compiled language model uses the fast forms; a classifier, or a model run op by op, the plain forms. Each new shape of
a batch is compiled again.
"""

from collections.abc import Callable, Mapping
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from ms_backend import fast, model, optim, stages, train
from ms_backend.autodiff import GradientFunction
from ms_backend.engine.device import LOCK, MindSporeDevice
from ms_backend.precision import cast_parameters
from ms_backend.weights import assign, to_tensor
from reference.config import GPT2Config, StepReport, TrainingConfig, flatten, map_tree, nest

Array = np.ndarray


class _Step(nn.Cell):
    """train_step with the objects of a trainer."""

    def __init__(self, grad_fn: nn.Cell, accumulator: nn.Cell, scaler: Any, ignore_index: int) -> None:
        super().__init__(auto_prefix=False)
        self.grad_fn, self.accumulator, self.scaler, self.ignore_index = grad_fn, accumulator, scaler, ignore_index

    def construct(self, batch):  # type: ignore[no-untyped-def]
        return train.train_step(self.grad_fn, batch, self.accumulator, self.scaler, self.ignore_index)


class _CompiledStep(_Step):
    @ms.jit
    def construct(self, batch):  # type: ignore[no-untyped-def]
        return train.train_step(self.grad_fn, batch, self.accumulator, self.scaler, self.ignore_index)


class _Loss(nn.Cell):
    """The loss of a batch under the current weights."""

    def __init__(self, grad_fn: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.grad_fn = grad_fn

    def construct(self, batch):  # type: ignore[no-untyped-def]
        return self.grad_fn.scaled_loss(batch, 1.0)[1]


class _CompiledLoss(_Loss):
    @ms.jit
    def construct(self, batch):  # type: ignore[no-untyped-def]
        return self.grad_fn.scaled_loss(batch, 1.0)[1]


class MindSporeTrainer:
    """Trains a model of the twin. Weights, moments and gradient sums are float32 at every level."""

    def __init__(
        self, backend: MindSporeDevice, config: GPT2Config, parameters: Mapping[str, Array], settings: TrainingConfig
    ) -> None:
        self.backend, self.config, self.settings = backend, config, settings
        self._turned = "score.weight" not in parameters and backend.mode == "graph"
        self.params = map_tree(self._place, nest(parameters))
        loss = fast.language_model_loss_fast if self._turned else _plain_loss(self.params)
        if self._turned and settings.optimizer == "adamw":
            self._optimizer = optim.AdamW(self.params, settings, fast.adamw_fast, in_place=True)
        else:
            self._optimizer = optim.OPTIMIZERS[settings.optimizer](self.params, settings)
        self._accumulator = optim.Accumulator(
            self._optimizer, settings.accumulate_step, settings.max_grad_norm, settings.accumulation
        )
        self._scaler = train.loss_scaler(settings)
        options: dict[str, Any] = {"ignore_index": settings.ignore_index}
        if self._turned:
            options["recompute"] = settings.recompute
        self._grad_fn = GradientFunction(loss, self.params, config, settings.level, **options)
        self._step, self._loss = self._new_step(), self._new_loss()

    def _place(self, name: str, x: Array) -> Parameter:
        return Parameter(to_tensor(self._turn(name, x.astype(np.float32, copy=False))), name=name)

    def _new_step(self) -> _Step:
        kind = _CompiledStep if self.backend.mode == "graph" else _Step
        return kind(self._grad_fn, self._accumulator, self._scaler, self.settings.ignore_index)

    def _new_loss(self) -> _Loss:
        return (_CompiledLoss if self.backend.mode == "graph" else _Loss)(self._grad_fn)

    def step(self, batch: Any) -> StepReport:
        """Take one micro-batch."""
        with LOCK:
            lr, scale = _number(self._optimizer.lr()), _number(self._scaler.scale_value)
            try:
                loss, finite, updated, norm = self._step(self._tensors(batch))
            except Exception:
                self._step = self._new_step()  # a graph that failed once fails at every later call of that shape
                raise
            return StepReport(_number(loss), bool(_number(finite)), bool(_number(updated)), lr, _number(norm), scale)

    def loss(self, batch: Any) -> float:
        """The mean loss of a batch."""
        with LOCK:
            try:
                return _number(self._loss(self._tensors(batch)))
            except Exception:
                self._loss = self._new_loss()
                raise

    def _tensors(self, batch: Any) -> Any:
        return _tensors(batch, np.ones_like(batch.ids) if self._turned else None)

    def stages(self, batch: Any) -> dict[str, Array]:
        """Every named stage, computed by the plain functions, op by op in either mode."""
        seen: dict[str, Array] = {}
        params = fast.fast_parameters(self.params) if self._turned else self.params  # turning twice turns back
        loss = _plain_loss(params)
        cast, fixed = cast_parameters(params, self.settings.level), {"ignore_index": self.settings.ignore_index}
        with LOCK, stages.observing(stages.keep_in(seen)):
            seen["loss"] = loss(cast, config=self.config, **_tensors(batch), **fixed).asnumpy().copy()
        return seen

    def parameters(self) -> dict[str, Array]:
        """Copies of the weights."""
        return {name: self._turn(name, x.asnumpy().copy()) for name, x in flatten(self.params).items()}

    def state(self) -> dict[str, Array]:
        """Everything that the next step depends on, except the weights."""
        kept = self._optimizer.state() | self._accumulator.state() | self._scaler.state()
        return {name: self._turn(name, x) for name, x in kept.items()}

    def load_state(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Restore weights and state."""
        with LOCK:
            for name, parameter in flatten(self.params).items():
                assign(parameter, to_tensor(self._turn(name, parameters[name].astype(np.float32))))
            turned = {name: self._turn(name, x) for name, x in state.items()}
            for part in (self._optimizer, self._accumulator, self._scaler):
                part.load_state(turned)

    def _turn(self, name: str, x: Array) -> Array:
        """Transpose weights of affine maps between (in, out), as callers see them, and (out, in), as stored here."""
        return np.ascontiguousarray(x.T) if self._turned and ".c_" in name and name.endswith("weight") else x


def _plain_loss(params: dict) -> Callable[..., Tensor]:
    return model.sequence_classifier_loss if "score" in params else model.language_model_loss


def _number(x: Tensor) -> float:
    return float(x.asnumpy())


def _tensors(batch: Any, all_tokens: Array | None = None) -> Any:
    """The fields of a gpt2.backends.Batch that are not None, on the device.

    all_tokens replaces a missing attention mask: adding a mask per sequence to the scores is faster, and takes less
    memory, than adding one mask for all sequences.
    """
    given = {name: value for name, value in vars(batch).items() if value is not None}
    if all_tokens is not None:
        given.setdefault("attention_mask", all_tokens)
    return ms.mutable({name: map_tree(lambda _, x: to_tensor(x), value) for name, value in given.items()})
