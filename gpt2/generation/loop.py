"""The loops that every backend shares: read the prompt, choose, read what was chosen, until all sequences have ended.

Whatever looks back at the text (penalties, bans, beams) takes the scores to the host and chooses by the reference's
functions, on every backend: the same code, so that only the scores can differ.
"""

import dataclasses

import numpy as np

from gpt2.backends import Array, BackendModel, Decoder
from gpt2.generation.beams import search_beams
from gpt2.generation.config import GenerationConfig
from gpt2.generation.reader import NOBODY, Hypothesis, Reader, Watch, finish_reason, process_scores, take_rows
from reference import generate
from reference.ops import log_softmax


@dataclasses.dataclass(frozen=True)
class Generation:
    """Continuations, `num_return_sequences` of each prompt: those of the first prompt, then those of the second, ..."""

    ids: Array
    """Prompts and new ids, (rows, T + new); a shorter row is filled up on the right."""
    new_ids: list[list[int]]
    """What is new, row by row, without the fill."""
    finish_reasons: list[str]
    """"stop" (a stop id or string), "length", "interrupted", or "banned": every id was."""
    log_probabilities: list[list[float]]
    """Of each new id, under the distribution it was chosen from: after penalties, bans, temperature and cuts."""
    scores: list[float]
    """Sums of the log-probabilities; of beams, over length ** length_penalty."""


def continue_batch(
    engine: BackendModel,
    ids: Array,
    attention_mask: Array,
    config: GenerationConfig,
    context: int,
    fill_id: int,
    scored: bool = True,
    watch: Watch = NOBODY,
) -> Generation:
    """Continue checked prompts (B, T) with pads on the left. Not scored: without log_probabilities, which take time.

    context: how many tokens the model can look at. fill_id: what stands behind the end of a sequence.
    """
    if config.max_new_tokens == 0:
        nothing = Hypothesis(0.0, [], [], "length")
        return _generation(ids, [nothing] * (len(ids) * config.num_return_sequences), fill_id)
    if config.num_beams > 1:
        return _generation(ids, search_beams(engine, ids, attention_mask, config, context, watch), fill_id)
    copies = config.num_return_sequences
    rows, masks = np.repeat(ids, copies, axis=0), np.repeat(attention_mask, copies, axis=0)
    return _generation(ids, choose_one_by_one(engine, rows, masks, config, context, fill_id, scored, watch), fill_id)


def _generation(ids: Array, found: list[Hypothesis], fill_id: int) -> Generation:
    longest = max(len(one.new_ids) for one in found)
    new = np.full((len(found), longest), fill_id, np.int64)
    for row, one in zip(new, found, strict=True):
        row[: len(one.new_ids)] = one.new_ids
    return Generation(
        ids=np.concatenate((np.repeat(ids, len(found) // len(ids), axis=0), new), axis=1),
        new_ids=[one.new_ids for one in found],
        finish_reasons=[one.finish_reason for one in found],
        log_probabilities=[one.log_probabilities for one in found],
        scores=[one.score for one in found],
    )


def choose_one_by_one(
    engine: BackendModel,
    ids: Array,
    attention_mask: Array,
    config: GenerationConfig,
    context: int,
    fill_id: int,
    scored: bool,
    watch: Watch,
) -> list[Hypothesis]:
    """Greedy and sampling: one continuation of every row. Arguments as for continue_batch."""
    rows = len(ids)
    reader = Reader(engine, ids, attention_mask, config.max_new_tokens, context)
    new_ids: list[list[int]] = [[] for _ in range(rows)]
    log_probabilities: list[list[float]] = [[] for _ in range(rows)]
    reasons = [""] * rows  # "": goes on
    for step in range(config.max_new_tokens):
        if watch.interrupted():
            break
        if scored or config.looks_back:
            scores = process_scores(reader.scores(), reader.ids, reader.attention_mask, config, step)
        if config.looks_back:
            exhausted = np.isneginf(scores).all(axis=1)
            reasons = [reason or "banned" * bool(none) for reason, none in zip(reasons, exhausted, strict=True)]
            scores = np.where(exhausted[:, None], 0, scores)
            chosen = choose(scores, config, step)
        else:
            chosen = _choose_on_device(reader.decoder, config, step, rows)
        running = np.array([reason == "" for reason in reasons])
        if not running.any():
            break
        log_probs = _log_probability(scores, chosen, config) if scored else None
        for row in np.flatnonzero(running):
            new_ids[row].append(int(chosen[row]))
            if log_probs is not None:
                log_probabilities[row].append(float(log_probs[row]))
            reasons[row] = finish_reason(new_ids[row], config, watch.decode)
        watch.on_token(np.where(running, chosen, fill_id))
        if all(reasons):
            break
        # what an ended sequence reads does not matter
        reader.append(chosen, on_device=not config.looks_back)
    return [
        Hypothesis(sum(log_probs), new, log_probs, reason or "interrupted")
        for new, log_probs, reason in zip(new_ids, log_probabilities, reasons, strict=True)
    ]


def choose(scores: Array, config: GenerationConfig, step: int) -> Array:
    """The next id of each row, (rows,), from processed scores (rows, V)."""
    if config.temperature == 0:
        return generate.greedy(scores)
    chance = uniform(config.seed, step, len(scores), config.first_row)
    return generate.sample(scores, chance, config.temperature, config.top_k, config.top_p, config.min_p)


def _choose_on_device(decoder: Decoder, config: GenerationConfig, step: int, rows: int) -> Array:
    if config.temperature == 0:
        return decoder.greedy()
    chance = uniform(config.seed, step, rows, config.first_row)
    return decoder.sample(chance, config.temperature, config.top_k, config.top_p, config.min_p)


def _log_probability(scores: Array, chosen: Array, config: GenerationConfig) -> Array:
    if config.temperature == 0:
        logs = log_softmax(scores)
    else:
        cuts = config.temperature, config.top_k, config.top_p, config.min_p
        with np.errstate(divide="ignore"):  # what is cut off has the logarithm -inf
            logs = np.log(generate.sampling_probabilities(scores, *cuts))
    return take_rows(logs, chosen.astype(np.int64)[:, None])[:, 0]


def uniform(seed: int, step: int, rows: int, first_row: int = 0) -> Array:
    """One number per row, 0 <= u < 1, that depends on seed, step and the row's number: a counter, not a state."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step])).random(first_row + rows)[first_row:]
