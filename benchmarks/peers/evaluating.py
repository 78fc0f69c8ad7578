"""Perplexity of a text as in Hugging Face's guide, in the PyTorch environment."""

import torch
from transformers import GPT2TokenizerFast

from benchmarks.peers.hugging_face import load
from benchmarks.peers.serving import Answer, Arrays


@torch.no_grad()
def perplexity(arrays: Arrays, folder: str, text: str, stride: int) -> Answer:
    """input_ids (N,), and for each window the mean negative log-likelihood and the number of scored tokens.

    Source: "Perplexity of fixed-length models" in the documentation of transformers.
    """
    model = load(folder)
    ids = GPT2TokenizerFast.from_pretrained(folder)(text, return_tensors="pt").input_ids
    context, end_before, means, counts = model.config.n_positions, 0, [], []
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + context, ids.shape[1])
        targets = ids[:, begin:end].clone()
        targets[:, : -(end - end_before)] = -100
        means.append(model(ids[:, begin:end], labels=targets).loss.item())
        counts.append(int((targets[:, 1:] != -100).sum()))  # the loss skips the first label
        end_before = end
        if end == ids.shape[1]:
            break
    return {"means": means, "counts": counts}, {"input_ids": ids[0].numpy()}
