"""Choose the next token from its scores: greedy, sampling, penalties, bans, beam search.

`ids` (B, T) holds the tokens read so far. Pads (attention_mask 0) never count: a row of a padded batch is treated as it
would be alone. (Hugging Face transformers counts pads: there, n-grams and words may match across them.)
"""

import numpy as np

from reference.config import GPT2Config
from reference.model import language_model
from reference.ops import Array, softmax
from reference.precision import rounded_once

BANNED = -np.inf  # the score of an id that must not be chosen


def greedy(logits: Array) -> Array:
    """The id with the highest score; of equal scores, the lowest id.

    Shapes: logits (B, V) -> (B) int
    """
    return np.argmax(logits, axis=-1)


def sample(
    logits: Array,
    uniform: Array,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
) -> Array:
    """Draw an id: sort by probability, cut off the tail, take the first id whose cumulative sum exceeds uniform.

    temperature above 0 divides the scores; top_k > 0 keeps that many ids; top_p keeps the fewest likeliest ids that
    together have that probability; min_p keeps the ids that are at least that many times as probable as the likeliest;
    typical_p keeps the ids whose surprise, -log of their probability, is nearest to the mean surprise: the fewest that
    together have that probability, and all that are as near as the last. They apply in this order. uniform is one
    number per sequence, 0 <= u < 1: the only source of randomness.
    Shapes: logits (B, V), uniform (B) uniform -> (B) int
    Source: Holtzman et al. 2020, section 3.1 (top-p); Fan et al. 2018, section 5.2 (top-k); Nguyen et al. 2024,
    section 3 (min-p); Meister et al. 2022 and TypicalLogitsWarper in Hugging Face transformers (typical_p).
    """
    logits = logits.astype(np.promote_types(logits.dtype, np.float32))
    probabilities, order = _likeliest_first(logits, temperature, top_k, top_p, min_p, typical_p)
    cumulated = np.cumsum(probabilities, axis=-1)
    passed = cumulated <= uniform[:, None].astype(logits.dtype) * cumulated[:, -1:]
    last = np.max((probabilities > 0) * np.arange(probabilities.shape[-1]), axis=-1)
    rank = np.minimum(passed.sum(axis=-1), last)  # u can round up to 1
    return np.take_along_axis(order, rank[:, None], axis=-1)[:, 0]


@rounded_once
def sampling_probabilities(
    logits: Array,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
) -> Array:
    """The probability with which `sample` draws each id: 0 if it is cut off; the others sum to 1.

    Shapes: logits (B, V) -> (B, V)
    """
    probabilities, order = _likeliest_first(logits, temperature, top_k, top_p, min_p, typical_p)
    by_id = np.zeros_like(probabilities)
    np.put_along_axis(by_id, order, probabilities / probabilities.sum(axis=-1, keepdims=True), axis=-1)
    return by_id


def _likeliest_first(
    logits: Array, temperature: float, top_k: int, top_p: float, min_p: float, typical_p: float
) -> tuple[Array, Array]:
    """Probabilities in descending order, 0 where cut off, not normalised again; and the ids that have them."""
    order = np.argsort(-logits, axis=-1, kind="stable")  # (B, V), likeliest first
    scores = np.take_along_axis(logits, order, axis=-1) / np.array(temperature, logits.dtype)
    if top_k > 0:
        scores = np.where(np.arange(scores.shape[-1]) < top_k, scores, np.array(BANNED, scores.dtype))
    probabilities = softmax(scores)
    likelier = np.cumsum(probabilities, axis=-1) - probabilities  # the sum before each id
    probabilities = np.where(likelier < top_p, probabilities, 0)
    probabilities = np.where(probabilities >= min_p * probabilities[:, :1], probabilities, 0)
    return (_typical(probabilities, scores, typical_p) if typical_p < 1 else probabilities), order


def _typical(probabilities: Array, scores: Array, typical_p: float) -> Array:
    """The probabilities (B, V), 0 where the surprise is further from the mean surprise than typical_p asks for.

    An id's surprise is a constant minus its score. So it is as far from its mean as the score is from its own, which
    needs no logarithm.
    """
    shares = probabilities / probabilities.sum(axis=-1, keepdims=True)
    below = np.where(shares > 0, scores - scores[:, :1], 0)
    distance = np.abs(below - (shares * below).sum(axis=-1, keepdims=True))
    distance = np.where(shares > 0, distance, np.array(np.inf, distance.dtype))
    nearest = np.argsort(distance, axis=-1, kind="stable")
    shares = np.take_along_axis(shares, nearest, axis=-1)
    nearer = np.cumsum(shares, axis=-1) - shares  # the sum before each id
    needed = np.where(nearer < typical_p, np.take_along_axis(distance, nearest, axis=-1), 0)
    return np.where(distance <= needed.max(axis=-1, keepdims=True), probabilities, 0)


@rounded_once
def penalize_repetition(logits: Array, ids: Array, attention_mask: Array, penalty: float = 1.0) -> Array:
    """Divide the score of every id read so far by penalty, or multiply it if negative: once, however often read.

    Shapes: logits (B, V), ids (B, T) int V, attention_mask (B, T) mask -> (B, V)
    Source: Keskar et al. 2019, section 4.1; the sign, RepetitionPenaltyLogitsProcessor in Hugging Face transformers.
    """
    read = _marked(logits, ids, attention_mask != 0)
    return np.where(read, np.where(logits < 0, logits * penalty, logits / penalty), logits)


def ban(logits: Array, banned: Array) -> Array:
    """Set the scores of banned ids to -inf. (For stop ids, until there are enough new tokens.)

    Shapes: logits (B, V), banned (N) int V -> (B, V)
    """
    return np.where(np.isin(np.arange(logits.shape[-1]), banned), np.array(BANNED, logits.dtype), logits)


def ban_repeated_ngrams(logits: Array, ids: Array, attention_mask: Array, size: int = 1) -> Array:
    """Ban every id that would repeat an n-gram of `size` tokens of the row; size 0 bans nothing.

    The tokens of an n-gram are neighbours: no n-gram contains a pad.
    Shapes: logits (B, V), ids (B, T) int V, attention_mask (B, T) mask -> (B, V)
    Source: Paulus et al. 2018, section 2.5.
    """
    windows = ids.shape[1] - size + 1  # places where an n-gram can begin
    if size == 0 or windows < 1:
        return logits
    repeated = attention_mask[:, size - 1 :] != 0  # (B, windows): equal to the row's end so far
    for i in range(size - 1):
        alike = ids[:, i : i + windows] == ids[:, windows + i : windows + i + 1]
        tokens = attention_mask[:, i : i + windows] * attention_mask[:, windows + i : windows + i + 1] != 0
        repeated = repeated & alike & tokens
    banned = _marked(logits, ids[:, size - 1 :], repeated)
    return np.where(banned, np.array(BANNED, logits.dtype), logits)


def ban_word(logits: Array, ids: Array, attention_mask: Array, word: Array) -> Array:
    """Ban the last id of a word in rows that end with the word's other ids; a word of one id is always banned.

    Shapes: logits (B, V), ids (B, T) int V, attention_mask (B, T) mask, word (K) int V -> (B, V)
    """
    start = ids.shape[1] - len(word) + 1
    if start < 0:
        return logits
    begun = (ids[:, start:] == word[:-1]) & (attention_mask[:, start:] != 0)
    banned = begun.all(axis=1, keepdims=True) & (np.arange(logits.shape[-1]) == word[-1])
    return np.where(banned, np.array(BANNED, logits.dtype), logits)


def _marked(logits: Array, ids: Array, where: Array) -> Array:
    """True for each id that its row has at a place where `where` is true, (B, V)."""
    marked = np.zeros(logits.shape, bool)
    rows, places = np.nonzero(where)
    marked[rows, ids[rows, places]] = True
    return marked


def best_continuations(log_probs: Array, beam_scores: Array, count: int) -> tuple[Array, Array, Array]:
    """The best `count` pairs of a beam and its next id: their scores, beams and ids, best first; of equals, the lowest.

    A pair's score is the beam's (the sum of its log-probabilities; -inf: no such beam) plus the id's log-probability.
    Shapes: log_probs (B, K, V), beam_scores (B, K) -> (B, K), (B, K) int, (B, K) int
    Source: Graves 2012, section 3; Hugging Face transformers, _get_top_k_continuations.
    """
    batch, _, vocabulary = log_probs.shape
    wide = np.promote_types(log_probs.dtype, np.float32)  # in 16 bits many sums would be equal
    scores = (beam_scores[:, :, None].astype(wide) + log_probs.astype(wide)).reshape(batch, -1)
    best = np.argsort(-scores, axis=-1, kind="stable")[:, :count]
    kept = np.take_along_axis(scores, best, axis=-1).astype(log_probs.dtype)
    return kept, best // vocabulary, best % vocabulary


def best_unfinished(scores: Array, finished: Array, count: int) -> Array:
    """Indices (B, count) of the best `count` unfinished continuations; finished ones come last.

    Shapes: scores (B, K), finished (B, K) bool -> (B, K) int
    """
    return np.argsort(np.where(finished, np.array(np.inf, scores.dtype), -scores), axis=-1, kind="stable")[:, :count]


@rounded_once
def beam_score(scores: Array, length: int, length_penalty: float = 1.0) -> Array:
    """The score that ranks finished beams: the sum of log-probabilities divided by length ** length_penalty.

    length counts the new tokens. A length_penalty above 0 favours long texts, below 0 short ones.
    Shapes: scores (B, K) -> (B, K)
    Source: Wu et al. 2016, equation 14 (there with other constants); Hugging Face transformers, _update_finished_beams.
    """
    return scores / np.array(float(length) ** length_penalty, scores.dtype)


def beams_may_improve(
    running: Array,
    finished: Array,
    length: int,
    longest: int,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
) -> Array:
    """Whether to go on: the best running beam may still beat the worst finished one (-inf: a free place).

    running: sums of log-probabilities, best first; finished: results of `beam_score`. early_stopping: True ends when no
    place is free; False scores the running beam as if it ended now, at `length` tokens; "never" as if it went on to
    `longest` tokens, if that score is better.
    Shapes: running (B, K), finished (B, K) -> (B) bool
    Source: Hugging Face transformers, _check_early_stop_heuristic.
    """
    at_best = longest if early_stopping == "never" and length_penalty > 0 else length
    worst = finished.min(axis=-1)
    improves = beam_score(running[:, :1], at_best, length_penalty)[:, 0] > worst
    return improves & np.isneginf(worst) if early_stopping is True else improves


def continue_greedily(params: dict, ids: Array, config: GPT2Config, new: int) -> Array:
    """Append `new` tokens to every row, each time the likeliest, (B, T + new): generation with a cache, simplest form.

    Keys and values of a token never change, because no token looks ahead. So they are cached in `past`: after the
    prompt, each step computes one token only, which looks at the cached keys and adds its own.
    Without `past`, every step would compute all tokens again: the same result at T times the cost.
    ids (B, T) holds no pads, and T + new - 1 is at most n_positions.
    Source: `sample_sequence` in GPT-2's sample.py.
    """
    past = None
    unread = ids
    for _ in range(new):
        logits, past = language_model(params, unread, config, past=past)  # past now includes these tokens
        unread = greedy(logits[:, -1])[:, None]  # (B, 1)
        ids = np.concatenate((ids, unread), axis=1)
    return ids
