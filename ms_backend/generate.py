"""From the scores of the next token to the next token, on MindSpore. Twin of reference/generate.py."""

import mindspore as ms
from mindspore import Tensor
from mindspore import ops as P

from ms_backend.attention import mask_value
from ms_backend.ops import softmax


def greedy(logits: Tensor) -> Tensor:
    """The id with the highest score; of equals, the lowest id."""
    return P.argmax(logits, -1)


def sample(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Draw an id: sort by probability, cut off the tail, walk along the cumulated rest until uniform is passed.

    temperature above 0 divides the scores; top_k > 0 keeps that many ids; top_p keeps the fewest likeliest ids that
    together have that probability. uniform is one number per sequence, 0 <= u < 1: the only source of chance.
    """
    scores, order = P.sort(logits.astype(ms.float32), axis=-1, descending=True)  # (B, V), likeliest first
    scores = scores / temperature
    ranks = P.arange(scores.shape[-1])[None]
    if top_k > 0:
        scores = P.where(ranks < top_k, scores, Tensor(mask_value(ms.float32), ms.float32))
    probabilities = softmax(scores)
    likelier = P.cumsum(probabilities, -1) - probabilities  # what stands before each id
    probabilities = probabilities * (likelier < top_p).astype(ms.float32)
    cumulated = P.cumsum(probabilities, -1)
    passed = cumulated <= uniform[:, None].astype(ms.float32) * cumulated[:, -1:]
    last = (probabilities > 0).astype(ms.int32).sum(-1) - 1
    rank = P.minimum(passed.astype(ms.int32).sum(-1), last)  # u can round up to 1
    return P.gather_elements(order, 1, rank[:, None])[:, 0]
