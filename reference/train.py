"""One step of training: loss and gradients in mixed precision, overflow check, accumulation, clipping, update.

Begin with `train_step`; the functions that it calls are above it and in optim.py. The training loop is in gpt2/.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from reference import model
from reference.config import GPT2Config, TrainingConfig
from reference.gradients import model as gradients_of_model
from reference.ops import Array
from reference.optim import Accumulator, DynamicLossScaler, StaticLossScaler, all_finite
from reference.precision import cast_parameters


def loss_and_gradients(
    params: dict,
    ids: Array,
    labels: Array,
    config: GPT2Config,
    attention_mask: Array | None = None,
    position_ids: Array | None = None,
    keep: dict | None = None,
    ignore_index: int = -100,
    level: str = "O0",
    scale: float = 1.0,
) -> tuple[Array, dict]:
    """Loss and gradients of a language model, or of a classifier if params has a `score`.

    The gradients are those of scale times the loss, in the dtype of params.
    Shapes: params {}, ids (B, T) int V, labels (B, T) labels V, attention_mask (B, T) mask optional,
        position_ids (B, T) int L optional, keep {} keep optional -> (), {}
    """
    head = "sequence_classifier" if "score" in params else "language_model"
    given = (cast_parameters(params, level), ids, labels, config, attention_mask, position_ids, keep, ignore_index)
    loss = getattr(model, f"{head}_loss")(*given)
    gradients = getattr(gradients_of_model, f"{head}_loss_vjp")(np.array(scale, loss.dtype), *given)
    return loss, _in_dtype_of(params, gradients)


def _in_dtype_of(params: Any, gradients: Any) -> Any:
    if isinstance(params, dict):
        return {name: _in_dtype_of(branch, gradients[name]) for name, branch in params.items()}
    if isinstance(params, list):
        return [_in_dtype_of(*pair) for pair in zip(params, gradients, strict=True)]
    return gradients.astype(params.dtype)


def loss_scaler(settings: TrainingConfig) -> StaticLossScaler | DynamicLossScaler:
    """The loss scaler that the settings ask for; "none" is a static scale of 1."""
    if settings.loss_scaler == "dynamic":
        return DynamicLossScaler(settings.scale_value, settings.scale_factor, settings.scale_window)
    return StaticLossScaler(settings.scale_value if settings.loss_scaler == "static" else 1.0)


def count_scored(labels: Array, attention_mask: Array | None = None, ignore_index: int = -100) -> Array:
    """How many labels the loss is a mean over: of a language model's (B, T) labels, or of a classifier's (B) labels.

    Shapes: labels (B, T) labels V, attention_mask (B, T) mask optional -> ()
    """
    if labels.ndim == 2:
        labels = model.shift_labels(labels, attention_mask, ignore_index)
    return np.sum(labels != ignore_index)


def train_step(
    grad_fn: Callable[..., tuple[Array, dict]],
    batch: dict,
    accumulator: Accumulator,
    scaler: StaticLossScaler | DynamicLossScaler,
    ignore_index: int = -100,
) -> tuple[Array, bool, bool, float]:
    """Train on one micro-batch; return its loss, whether gradients were finite, whether weights changed, and the norm.

    Small gradients underflow in float16, so the loss is scaled up, and the gradients down again. If the scale is too
    large, gradients overflow: the micro-batch is skipped, weights and moments stay as they are, and the scale shrinks.
    grad_fn is loss_and_gradients with all arguments set but the scale and those in batch (ids, labels and, if needed,
    attention_mask, position_ids, keep). The norm is that of the gradients before clipping, NaN without an update.
    Source: Micikevicius et al. 2018, section 3.2; the `train_step` of the MindSpore course.
    """
    loss, gradients = grad_fn(**batch, scale=scaler.scale_value)
    finite = bool(all_finite(gradients))
    updated, norm = False, float("nan")
    if finite:
        scored = count_scored(batch["labels"], batch.get("attention_mask"), ignore_index)
        updated, norm = accumulator(scaler.unscale(gradients), scored)
    scaler.adjust(finite)
    return loss, finite, updated, norm
