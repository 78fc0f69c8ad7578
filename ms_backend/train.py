"""One step of training: loss and gradients in mixed precision, overflow check, accumulation, clipping, update.

Twin of reference/train.py; MindSpore differentiates. float32 masters are Parameters, which the optimizer changes.
"""

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor
from mindspore import ops as P

from ms_backend import model
from ms_backend.autodiff import GradientFunction
from ms_backend.optim import Accumulator, DynamicLossScaler, StaticLossScaler, all_finite
from reference.config import GPT2Config, TrainingConfig, map_tree


def loss_and_gradients(
    params: dict,
    ids: Tensor,
    labels: Tensor,
    config: GPT2Config,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
    level: str = "O0",
    scale: float = 1.0,
) -> tuple[Tensor, Any]:
    """Loss and gradients of a language model, or of a classifier if params has a `score`.

    The gradients are those of scale times the loss, in the dtype of params.
    """
    loss = model.sequence_classifier_loss if "score" in params else model.language_model_loss
    given = {"attention_mask": attention_mask, "position_ids": position_ids, "keep": keep}
    batch = {"ids": ids, "labels": labels} | {name: x for name, x in given.items() if x is not None}
    found, gradients = GradientFunction(loss, params, config, level, ignore_index=ignore_index)(
        batch, Tensor(scale, ms.float32)
    )
    rest = iter(gradients)
    return found, map_tree(lambda name, x: next(rest), params)


def loss_scaler(settings: TrainingConfig) -> StaticLossScaler | DynamicLossScaler:
    """The loss scaler that the settings ask for; "none" is a static scale of 1."""
    if settings.loss_scaler == "dynamic":
        return DynamicLossScaler(settings.scale_value, settings.scale_factor, settings.scale_window)
    return StaticLossScaler(settings.scale_value if settings.loss_scaler == "static" else 1.0)


def count_scored(labels: Tensor, attention_mask: Tensor | None = None, ignore_index: int = -100) -> Tensor:
    """How many labels the loss is a mean over: of a language model's (B, T) labels, or of a classifier's (B) labels."""
    if labels.ndim == 2:
        labels = model.shift_labels(labels, attention_mask, ignore_index)
    return P.sum(labels != ignore_index)


def train_step(
    grad_fn: Callable[..., tuple[Tensor, Any]],
    batch: dict,
    accumulator: Accumulator,
    scaler: StaticLossScaler | DynamicLossScaler,
    ignore_index: int = -100,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Train on one micro-batch; return its loss, whether gradients were finite, whether weights changed, and the norm.

    Small gradients underflow in float16, so the loss is scaled up, and the gradients down again. If the scale is too
    large, gradients overflow: the micro-batch is skipped, weights and moments stay as they are, and the scale shrinks.
    """
    loss, gradients = grad_fn(batch, scaler.scale_value * 1.0)  # times 1: adjust writes to scale_value later
    finite = all_finite(gradients)
    updated, norm = Tensor(False), Tensor(float("nan"), ms.float32)
    if finite:
        attention_mask = batch["attention_mask"] if "attention_mask" in batch else None  # noqa: SIM401
        scored = count_scored(batch["labels"], attention_mask, ignore_index)
        updated, norm = accumulator(scaler.unscale(gradients), scored)
    scaler.adjust(finite)
    return loss, finite, updated, norm
