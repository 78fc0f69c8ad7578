"""Choose the next token from its scores, on MindSpore. Twin of reference/generate.py."""

import mindspore as ms
from mindspore import Tensor
from mindspore import ops as P

from ms_backend.model import language_model
from ms_backend.ops import softmax
from reference.config import GPT2Config

BANNED = float("-inf")  # the score of an id that must not be chosen


def greedy(logits: Tensor) -> Tensor:
    """The id with the highest score; of equal scores, the lowest id."""
    return P.argmax(logits, -1)


def sample(
    logits: Tensor,
    uniform: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
) -> Tensor:
    """Draw an id: sort by probability, cut off the tail, take the first id whose cumulative sum exceeds uniform.

    temperature above 0 divides the scores; top_k > 0 keeps that many ids; top_p keeps the fewest likeliest ids that
    together have that probability; min_p keeps the ids that are at least that many times as probable as the likeliest;
    typical_p keeps the ids whose surprise, -log of their probability, is nearest to the mean surprise: the fewest that
    together have that probability, and all that are as near as the last. They apply in this order. uniform is one
    number per sequence, 0 <= u < 1: the only source of randomness.
    """
    probabilities, order = _likeliest_first(logits, temperature, top_k, top_p, min_p, typical_p)
    cumulated = P.cumsum(probabilities, -1)
    passed = cumulated <= uniform[:, None].astype(ms.float32) * cumulated[:, -1:]
    last = P.where(probabilities > 0, P.arange(probabilities.shape[-1]), 0).max(axis=-1)
    rank = P.minimum(P.where(passed, 1, 0).sum(-1), last)  # u can round up to 1
    return P.gather_elements(order, 1, rank[:, None])[:, 0]


def sampling_probabilities(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
) -> Tensor:
    """The probability with which `sample` draws each id: 0 if it is cut off; the others sum to 1."""
    probabilities, order = _likeliest_first(logits, temperature, top_k, top_p, min_p, typical_p)
    shares = probabilities / probabilities.sum(-1, keepdims=True)
    return P.tensor_scatter_elements(P.zeros_like(shares), order, shares, 1).astype(logits.dtype)


def _likeliest_first(
    logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float, typical_p: float
) -> tuple[Tensor, Tensor]:
    scores, order = P.sort(logits.astype(ms.float32), axis=-1, descending=True)  # (B, V), likeliest first
    scores = scores / temperature
    ranks = P.arange(scores.shape[-1])[None]
    if top_k > 0:
        scores = P.where(ranks < top_k, scores, Tensor(BANNED, ms.float32))
    probabilities = softmax(scores)
    likelier = P.cumsum(probabilities, -1) - probabilities  # the sum before each id
    probabilities = P.where(likelier < top_p, probabilities, 0.0)
    probabilities = P.where(probabilities >= min_p * probabilities[:, :1], probabilities, 0.0)
    return (_typical(probabilities, scores, typical_p) if typical_p < 1 else probabilities), order


def _typical(probabilities: Tensor, scores: Tensor, typical_p: float) -> Tensor:
    shares = probabilities / probabilities.sum(-1, keepdims=True)
    below = P.where(shares > 0, scores - scores[:, :1], Tensor(0, ms.float32))
    distance = P.abs(below - (shares * below).sum(-1, keepdims=True))
    distance, nearest = P.sort(P.where(shares > 0, distance, Tensor(float("inf"), ms.float32)), axis=-1)
    shares = P.gather_elements(shares, 1, nearest)
    nearer = P.cumsum(shares, -1) - shares  # the sum before each id
    needed = P.where(nearer < typical_p, distance, Tensor(0, ms.float32)).max(axis=-1, keepdims=True)
    kept = (distance <= needed).astype(ms.float32)
    return probabilities * P.tensor_scatter_elements(P.zeros_like(kept), nearest, kept, 1)


def penalize_repetition(logits: Tensor, ids: Tensor, attention_mask: Tensor, penalty: float = 1.0) -> Tensor:
    """Divide the score of every id read so far by penalty, or multiply it if negative: once, however often read."""
    read = _marked(logits, ids, attention_mask != 0)
    wide = logits.astype(ms.float32)
    return P.where(read, P.where(wide < 0, wide * penalty, wide / penalty), wide).astype(logits.dtype)


def ban(logits: Tensor, banned: Tensor) -> Tensor:
    """Set the scores of banned ids to -inf. (For stop ids, until there are enough new tokens.)"""
    is_banned = (P.arange(logits.shape[-1])[:, None] == banned[None]).astype(ms.float32).sum(-1) > 0  # (V)
    return _without(logits, is_banned[None])


def ban_repeated_ngrams(logits: Tensor, ids: Tensor, attention_mask: Tensor, size: int = 1) -> Tensor:
    """Ban every id that would repeat an n-gram of `size` tokens of the row; size 0 bans nothing.

    The tokens of an n-gram are neighbours: no n-gram contains a pad.
    """
    windows = ids.shape[1] - size + 1  # places where an n-gram can begin
    if size == 0 or windows < 1:
        return logits
    repeated = attention_mask[:, size - 1 :] != 0  # (B, windows): equal to the row's end so far
    for i in range(size - 1):
        alike = ids[:, i : i + windows] == ids[:, windows + i : windows + i + 1]
        tokens = attention_mask[:, i : i + windows] * attention_mask[:, windows + i : windows + i + 1] != 0
        repeated = P.logical_and(repeated, P.logical_and(alike, tokens))
    return _without(logits, _marked(logits, ids[:, size - 1 :], repeated))


def ban_word(logits: Tensor, ids: Tensor, attention_mask: Tensor, word: Tensor) -> Tensor:
    """Ban the last id of a word in rows that end with the word's other ids; a word of one id is always banned."""
    start = ids.shape[1] - word.shape[0] + 1
    if start < 0:
        return logits
    banned = (P.arange(logits.shape[-1]) == word[-1])[None]
    for i in range(word.shape[0] - 1):
        begun = P.logical_and(ids[:, start + i] == word[i], attention_mask[:, start + i] != 0)
        banned = P.logical_and(banned, begun[:, None])
    return _without(logits, banned)


def _without(logits: Tensor, banned: Tensor) -> Tensor:
    return P.where(banned, P.full_like(logits, BANNED), logits)


def _marked(logits: Tensor, ids: Tensor, where: Tensor) -> Tensor:
    """True for each id that its row has at a place where `where` is true, (B, V)."""
    counts = P.zeros(logits.shape, ms.float32)
    return P.tensor_scatter_elements(counts, ids, where.astype(ms.float32), 1, "add") > 0


def best_continuations(log_probs: Tensor, beam_scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `count` pairs of a beam and its next id: their scores, beams and ids, best first; of equals, the lowest.

    A pair's score is the beam's (the sum of its log-probabilities; -inf: no such beam) plus the id's log-probability.
    """
    batch, _, vocabulary = log_probs.shape
    sums = beam_scores[:, :, None].astype(ms.float32) + log_probs.astype(ms.float32)
    scores, order = P.sort(sums.reshape(batch, -1), axis=-1, descending=True)
    best = order[:, :count]
    return scores[:, :count].astype(log_probs.dtype), best // vocabulary, best % vocabulary


def best_unfinished(scores: Tensor, finished: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the best `count` unfinished continuations; finished ones come last."""
    _, order = P.sort(_without(scores.astype(ms.float32), finished), axis=-1, descending=True)
    return order[:, :count]


def beam_score(scores: Tensor, length: int, length_penalty: float = 1.0) -> Tensor:
    """The score that ranks finished beams: the sum of log-probabilities divided by length ** length_penalty.

    length counts the new tokens. A length_penalty above 0 favours long texts, below 0 short ones.
    """
    return (scores.astype(ms.float32) / float(length) ** length_penalty).astype(scores.dtype)


def beams_may_improve(
    running: Tensor,
    finished: Tensor,
    length: int,
    longest: int,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
) -> Tensor:
    """Whether to go on: the best running beam may still beat the worst finished one (-inf: a free place).

    running: sums of log-probabilities, best first; finished: results of `beam_score`. early_stopping: True ends when no
    place is free; False scores the running beam as if it ended now, at `length` tokens; "never" as if it went on to
    `longest` tokens, if that score is better.
    """
    at_best = longest if early_stopping == "never" and length_penalty > 0 else length
    worst = finished.min(axis=-1)
    improves = beam_score(running[:, :1], at_best, length_penalty)[:, 0] > worst
    return P.logical_and(improves, worst == BANNED) if early_stopping is True else improves


def continue_greedily(params: dict, ids: Tensor, config: GPT2Config, new: int) -> Tensor:
    """Append `new` tokens to every row, each time the likeliest, (B, T + new): generation with a cache, simplest form.

    Keys and values of a token never change, because no token looks ahead. So they are cached in `past`: after the
    prompt, each step computes one token only, which looks at the cached keys and adds its own.
    """
    past = None
    unread = ids
    for _ in range(new):
        logits, past = language_model(params, unread, config, past=past)  # past now includes these tokens
        unread = greedy(logits[:, -1])[:, None].astype(ids.dtype)  # (B, 1)
        ids = P.cat((ids, unread), axis=1)
    return ids
