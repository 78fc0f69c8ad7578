"""Run `generate` of Hugging Face transformers, in the PyTorch environment."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, MinPLogitsWarper, TemperatureLogitsWarper, TypicalLogitsWarper

from benchmarks.peers.hugging_face import load
from benchmarks.peers.serving import Answer, Arrays


@torch.no_grad()
def continuations(
    arrays: Arrays, folder: str, options: dict[str, Any], stop_ids: Sequence[int], alone: bool = False
) -> Answer:
    """new_ids: the continuation of each row of input_ids (B, T), up to its stop id, without sampling.

    attention_mask (B, T) is 0 at padding, on the left. alone: read every row separately, without padding.
    options: those of transformers' GenerationConfig. The num_return_sequences continuations of a row are consecutive.
    """
    model, ids, mask = load(folder), torch.from_numpy(arrays["input_ids"]), torch.from_numpy(arrays["attention_mask"])
    config = GenerationConfig(
        do_sample=False, eos_token_id=list(stop_ids) or None, pad_token_id=int(ids[0, -1]), **options
    )
    rows = [(row[None, kept != 0], kept[None, kept != 0]) for row, kept in zip(ids, mask, strict=True)]
    new_ids = []
    for prompts, kept in rows if alone else [(ids, mask)]:
        written = model.generate(prompts, attention_mask=kept, generation_config=config)
        new_ids += [until_stop(new, stop_ids) for new in written[:, prompts.shape[1] :].tolist()]
    return {"new_ids": new_ids}, {}


def until_stop(new_ids: list[int], stop_ids: Sequence[int]) -> list[int]:
    """The ids up to the first stop id; the rest is padding."""
    ends = [i for i, new_id in enumerate(new_ids, 1) if new_id in stop_ids]
    return new_ids[: ends[0]] if ends else new_ids


@torch.no_grad()
def typical(arrays: Arrays, temperature: float, min_p: float, typical_p: float) -> Answer:
    """probabilities (B, V): those with which logits (B, V), float32, are sampled with these options."""
    scores = torch.from_numpy(arrays["logits"])
    warpers = [TemperatureLogitsWarper(temperature), MinPLogitsWarper(min_p)]
    warpers += [TypicalLogitsWarper(typical_p)] if typical_p < 1 else []  # as `generate` does
    for warp in warpers:
        scores = warp(None, scores)
    return {}, {"probabilities": scores.softmax(dim=-1).numpy()}
