"""Gradients and updates of transformers' GPT-2 by PyTorch. Imports none of our code that computes."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, get_scheduler

from benchmarks.peers.hugging_face import given, load
from benchmarks.peers.serving import Answer, Arrays

IGNORED = -100
KEEP = "keep."  # prefix of the names of dropout masks
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}  # ours, and transformers'
Settings = dict[str, Any]  # the fields of TrainingConfig


def gradients(arrays: Arrays, folder: str, head: str = "language_model", attention: str = "eager") -> Answer:
    """The gradient of the loss for every parameter, by name without "transformer.", float32.

    arrays: as `loss_of` takes them.
    """
    model = load(folder, head, attention)
    loss_of(model, arrays).backward()
    return {}, {name.removeprefix("transformer."): _array(x.grad) for name, x in model.named_parameters()}


def loss_of(model: PreTrainedModel, arrays: Arrays) -> Tensor:
    """transformers' own mean loss, (), of input_ids (B, T) and labels, -100 where nothing is scored.

    attention_mask and position_ids are optional. So are dropout masks, which have names with the prefix "keep.", are in
    the order of computation and need eager attention; without them there is no dropout.
    """
    inputs = {name: x for name, x in arrays.items() if not name.startswith(KEEP)}
    masks = [torch.from_numpy(x) for name, x in arrays.items() if name.startswith(KEEP)]
    model.config.problem_type = "single_label_classification"  # with one label it would be a regression
    with keeping(model, masks) if masks else contextlib.nullcontext():
        return model(**given(inputs), use_cache=False).loss


@contextlib.contextmanager
def keeping(model: PreTrainedModel, masks: list[Tensor]) -> Iterator[None]:
    """Put the model in training mode, with each dropout using the next mask and the model's rate.

    Raises ValueError if the number of masks differs from that of dropouts, or a mask has another shape.
    """
    remaining = iter(masks)

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        keep = next(remaining, None)
        if keep is None or keep.shape != x.shape:
            raise ValueError(f"no mask for a dropout of shape {tuple(x.shape)}")
        return x * keep / (1 - p)

    model.train()
    with mock.patch.object(nn.functional, "dropout", dropout):
        yield
    model.eval()
    if next(remaining, None) is not None:
        raise ValueError("there are more masks than dropouts")


def train(arrays: Arrays, folder: str, settings: Settings, head: str = "language_model") -> Answer:
    """losses (N,) of N micro-batches, float32; the arrays of the second have names such as "1.input_ids"."""
    training = Training(load(folder, head), settings)
    count = 1 + max(int(name.split(".")[0]) for name in arrays)
    batches = [
        {name.removeprefix(f"{i}."): x for name, x in arrays.items() if name.startswith(f"{i}.")} for i in range(count)
    ]
    return {}, {"losses": np.array([training.step(batch) for batch in batches], np.float32)}


_timed: dict[str, "Training"] = {}


def time_train_step(arrays: Arrays, folder: str, settings: Settings, threads: int = 2) -> Answer:
    """Seconds and loss of one micro-batch with sdpa attention and fused AdamW, the Trainer's default.

    The model keeps its state from one request to the next.
    """
    torch.set_num_threads(threads)
    if folder not in _timed:
        _timed[folder] = Training(load(folder, attention="sdpa"), settings, fused=True)
    start = time.perf_counter()
    loss = _timed[folder].step(arrays)
    return {"seconds": time.perf_counter() - start, "loss": loss}, {}


class Training:
    """A plain training loop around torch.optim.AdamW, with a transformers schedule that ends at rate 0."""

    def __init__(self, model: PreTrainedModel, settings: Settings, fused: bool = False) -> None:
        self.model, self.settings, self._seen, self._weight = model, settings, 0, 0
        parameters = list(model.parameters())
        groups = [
            {"params": [x for x in parameters if x.ndim > 1], "weight_decay": settings["weight_decay"]},
            {"params": [x for x in parameters if x.ndim < 2], "weight_decay": 0.0},  # biases and LayerNorm
        ]
        betas = settings["beta1"], settings["beta2"]
        self.optimizer = torch.optim.AdamW(groups, settings["learning_rate"], betas, settings["epsilon"], fused=fused)
        steps = settings["warmup_steps"], settings["total_steps"]
        self.schedule = get_scheduler(SCHEDULES[settings["schedule"]], self.optimizer, *steps)

    def step(self, arrays: Arrays) -> float:
        """Train on a micro-batch and return its loss.

        The optimizer steps after accumulate_step of them, on the mean over their scored tokens or over their losses.
        """
        every, longest = self.settings["accumulate_step"], self.settings["max_grad_norm"]
        labels = arrays["labels"]
        scored = int(np.sum((labels[:, 1:] if labels.ndim > 1 else labels) != IGNORED))
        weight = scored if self.settings["accumulation"] == "tokens" else 1
        loss = loss_of(self.model, arrays)
        (loss * weight).backward()
        self._seen, self._weight = self._seen + 1, self._weight + weight
        if self._seen % every == 0:
            for parameter in self.model.parameters():
                assert parameter.grad is not None
                parameter.grad /= self._weight
            self._weight = 0
            if longest is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), longest)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
        return loss.item()


def _array(gradient: Tensor | None) -> np.ndarray:
    assert gradient is not None, "a parameter that has no part in the loss"
    return gradient.numpy()
