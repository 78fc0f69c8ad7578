"""From the scores of the next token to the next token: greedy, and sampling with temperature, top-k and top-p."""

import numpy as np

from reference.ops import Array, softmax


def greedy(logits: Array) -> Array:
    """The id with the highest score; of equals, the lowest id.

    Shapes: logits (B, V) -> (B) int
    """
    return np.argmax(logits, axis=-1)


def sample(logits: Array, uniform: Array, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Array:
    """Draw an id: sort by probability, cut off the tail, walk along the cumulated rest until uniform is passed.

    temperature above 0 divides the scores; top_k > 0 keeps that many ids; top_p keeps the fewest likeliest ids that
    together have that probability. uniform is one number per sequence, 0 <= u < 1: the only source of chance.
    Shapes: logits (B, V), uniform (B) uniform -> (B) int
    Source: Holtzman et al. 2020, section 3.1 (top-p); Fan et al. 2018, section 5.2 (top-k).
    """
    logits = logits.astype(np.promote_types(logits.dtype, np.float32))
    order = np.argsort(-logits, axis=-1, kind="stable")  # (B, V), likeliest first
    scores = np.take_along_axis(logits, order, axis=-1) / np.array(temperature, logits.dtype)
    if top_k > 0:
        scores = np.where(np.arange(scores.shape[-1]) < top_k, scores, np.finfo(scores.dtype).min)
    probabilities = softmax(scores)
    likelier = np.cumsum(probabilities, axis=-1) - probabilities  # what stands before each id
    probabilities = np.where(likelier < top_p, probabilities, 0)
    cumulated = np.cumsum(probabilities, axis=-1)
    passed = cumulated <= uniform[:, None].astype(logits.dtype) * cumulated[:, -1:]
    last = (probabilities > 0).sum(axis=-1) - 1
    rank = np.minimum(passed.sum(axis=-1), last)  # u can round up to 1
    return np.take_along_axis(order, rank[:, None], axis=-1)[:, 0]
