"""The generation loop of all backends: read the prompt, then choose and read one token at a time until all ends.

Options that depend on the text so far (penalties, bans, beams) copy the logits to the host and choose with the
reference's functions. This code is the same for every backend, so only the logits can differ.
"""

import dataclasses

import numpy as np

from gpt2.backends import Array, BackendModel, Decoder
from gpt2.generation.beams import search_beams
from gpt2.generation.config import GenerationConfig
from gpt2.generation.reader import NOBODY, Hypothesis, Reader, Watch, finish_reason, process_scores, rooms, take_rows
from reference import generate
from reference.ops import log_softmax


@dataclasses.dataclass(frozen=True)
class Generation:
    """Continuations, `num_return_sequences` per prompt: first those of the first prompt, then of the second, ..."""

    ids: Array
    """Prompts and new ids, (rows, T + new); shorter rows are padded on the right."""
    new_ids: list[list[int]]
    """The new ids of each row, without padding."""
    finish_reasons: list[str]
    """"stop" (a stop id or string), "length", "context" (no place is left for the next token), "interrupted", or
    "banned" (every id was banned)."""
    log_probabilities: list[list[float]]
    """Log-probability of each new id, after penalties, bans, temperature, top_k, top_p, min_p and typical_p."""
    scores: list[float]
    """Sum of each row's log-probabilities; for beams, divided by length ** length_penalty."""


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
    """Continue checked prompts (B, T), padded on the left. scored: compute log_probabilities, which is slower.

    context: the model's n_positions; a sequence that fills it ends, unless config.sliding_window. No prompt may be
    longer. fill_id: the padding after the end of a sequence.
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
    """Greedy decoding or sampling: one continuation per row. Arguments as for continue_batch."""
    rows = len(ids)
    reader = Reader(engine, ids, attention_mask, config.max_new_tokens, context)
    new_ids: list[list[int]] = [[] for _ in range(rows)]
    log_probabilities: list[list[float]] = [[] for _ in range(rows)]
    reasons = [""] * rows  # "": not finished
    room = rooms(attention_mask, config, context)
    for step in range(config.max_new_tokens):
        if watch.interrupted():
            break
        reader.require_finite(np.array([reason == "" for reason in reasons]), step)
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
            reasons[row] = finish_reason(new_ids[row], config, watch.decode, room[row])
        watch.on_token(np.where(running, chosen, fill_id))
        if all(reasons):
            break
        # finished sequences read an id too; it has no effect
        reader.append(chosen, on_device=not config.looks_back)
    return [
        Hypothesis(sum(log_probs), new, log_probs, reason or "interrupted")
        for new, log_probs, reason in zip(new_ids, log_probabilities, reasons, strict=True)
    ]


def choose(scores: Array, config: GenerationConfig, step: int) -> Array:
    """The next id of each row, (rows,), from processed logits (rows, V)."""
    if config.temperature == 0:
        return generate.greedy(scores)
    chance = uniform(config.seed, step, len(scores), config.first_row)
    return generate.sample(scores, chance, config.temperature, *config.cuts)


def _choose_on_device(decoder: Decoder, config: GenerationConfig, step: int, rows: int) -> Array:
    if config.temperature == 0:
        return decoder.greedy()
    chance = uniform(config.seed, step, rows, config.first_row)
    return decoder.sample(chance, config.temperature, *config.cuts)


def _log_probability(scores: Array, chosen: Array, config: GenerationConfig) -> Array:
    if config.temperature == 0:
        logs = log_softmax(scores)
    else:
        with np.errstate(divide="ignore"):  # ids that are cut off get -inf
            logs = np.log(generate.sampling_probabilities(scores, config.temperature, *config.cuts))
    return take_rows(logs, chosen.astype(np.int64)[:, None])[:, 0]


def uniform(seed: int, step: int, rows: int, first_row: int = 0) -> Array:
    """One random number per row, 0 <= u < 1, a function of seed, step and row number: there is no generator state."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step])).random(first_row + rows)[first_row:]
