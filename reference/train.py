"""One step of training: loss and gradients in mixed precision, overflow check, accumulation, clipping, update.

Follow `train_step`; what it calls stands above it and in optim.py. The loop around it belongs to gpt2/.
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
    """The loss of a language model, or, if there is a score among the parameters, of a classifier; its gradients.

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
    """The loss scaler that the settings ask for; none is a static one of 1."""
    if settings.loss_scaler == "dynamic":
        return DynamicLossScaler(settings.scale_value, settings.scale_factor, settings.scale_window)
    return StaticLossScaler(settings.scale_value if settings.loss_scaler == "static" else 1.0)


def train_step(
    grad_fn: Callable[..., tuple[Array, dict]],
    batch: dict,
    accumulator: Accumulator,
    scaler: StaticLossScaler | DynamicLossScaler,
) -> tuple[Array, bool, bool, float]:
    """One micro-batch: its loss, whether all gradients were finite, whether the weights moved, the gradients' norm.

    Small gradients vanish in float16, so the loss is scaled up, and the gradients down again. Where that was too much
    they overflow: the micro-batch is passed over, weights and moments stay as they are, the scale shrinks.
    grad_fn is loss_and_gradients but for what batch holds (ids, labels, and, if need be, attention_mask, position_ids,
    keep) and the scale. The norm is that before clipping, NaN without an update.
    Source: Micikevicius et al. 2018, section 3.2; the `train_step` of the MindSpore course.
    """
    loss, gradients = grad_fn(**batch, scale=scaler.scale_value)
    finite = bool(all_finite(gradients))
    updated, norm = False, float("nan")
    if finite:
        updated, norm = accumulator(scaler.unscale(gradients))
    scaler.adjust(finite)
    return loss, finite, updated, norm
