"""Beam search over a batch of prompts, with all beams of all prompts in one batch."""

from typing import Any

import numpy as np

from gpt2.backends import Array, BackendModel
from gpt2.generation.config import GenerationConfig
from gpt2.generation.reader import Hypothesis, Reader, Watch, finish_reason, process_scores, rooms, take_rows
from reference import generate
from reference.ops import log_softmax


def search_beams(
    engine: BackendModel, ids: Array, attention_mask: Array, config: GenerationConfig, context: int, watch: Watch
) -> list[Hypothesis]:
    """The best num_return_sequences continuations of every prompt, best first. Arguments as for continue_batch.

    Each step takes the likeliest continuations of a prompt's beams. Finished ones are collected; the best unfinished
    ones are continued. Source: _beam_search in Hugging Face transformers.
    """
    prompts, width = len(ids), config.num_beams
    room = rooms(attention_mask, config, context)
    reader = Reader(
        engine, np.repeat(ids, width, axis=0), np.repeat(attention_mask, width, axis=0), config.max_new_tokens, context
    )
    collected: list[list[Hypothesis]] = [[] for _ in range(prompts)]
    searching = np.ones(prompts, bool)
    new = np.zeros((prompts, width, 0), np.int64)
    log_probabilities = np.zeros((prompts, width, 0))
    totals = np.full((prompts, width), -np.inf, np.float32)
    totals[:, 0] = 0  # all beams are equal at the start: continue only the first
    for length in range(1, config.max_new_tokens + 1):
        if watch.interrupted():
            ended = np.full(totals.shape, "interrupted")
            _collect(collected, searching, new, log_probabilities, totals, ended, config)
            break
        reader.require_finite(np.repeat(searching, width), length - 1)
        scores = process_scores(log_softmax(reader.scores()), reader.ids, reader.attention_mask, config, length - 1)
        log_probs = scores.reshape(prompts, width, -1)
        # enough candidates that `width` remain, however many end with a stop id
        count = min(max(2, 1 + len(config.stop_ids or ())), log_probs.shape[2]) * width
        totals, beams, chosen = generate.best_continuations(log_probs, totals, count)
        new = np.concatenate((take_rows(new, beams), chosen[:, :, None]), axis=2)
        added = log_probs[np.arange(prompts)[:, None], beams, chosen]
        log_probabilities = np.concatenate((take_rows(log_probabilities, beams), added[:, :, None]), axis=2)
        ended = np.array(
            [
                [finish_reason(one.tolist(), config, watch.decode, places) for one in row]
                for row, places in zip(new, room, strict=True)
            ]
        )
        top = slice(width)  # the other candidates only replace finished beams
        _collect(collected, searching, new[:, top], log_probabilities[:, top], totals[:, top], ended[:, top], config)
        go_on = generate.best_unfinished(totals, ended != "", width)
        totals = take_rows(np.where(ended == "", totals, -np.inf), go_on)
        new, log_probabilities, beams = (
            take_rows(new, go_on),
            take_rows(log_probabilities, go_on),
            take_rows(beams, go_on),
        )
        searching &= generate.beams_may_improve(
            totals,
            _scores(collected, width, totals.dtype),
            length,
            config.max_new_tokens,
            config.length_penalty,
            config.early_stopping,
        )
        if not searching.any():
            break
        reader.append(new[:, :, -1].reshape(-1), (beams + width * np.arange(prompts)[:, None]).reshape(-1))
    nothing = Hypothesis(-np.inf, [], [], "banned")
    return [
        one
        for row in collected
        for one in (row + [nothing] * config.num_return_sequences)[: config.num_return_sequences]
    ]


def _collect(
    collected: list[list[Hypothesis]],
    searching: Array,
    new: Array,
    log_probabilities: Array,
    totals: Array,
    ended: Array,
    config: GenerationConfig,
) -> None:
    """Add the finished continuations of each prompt to those collected before; keep the best num_beams."""
    scores = generate.beam_score(totals, max(new.shape[2], 1), config.length_penalty)
    for i in np.flatnonzero(searching):
        for j in np.flatnonzero((ended[i] != "") & (totals[i] > -np.inf)):
            found = Hypothesis(float(scores[i, j]), new[i, j].tolist(), log_probabilities[i, j].tolist(), ended[i, j])
            collected[i].append(found)
        collected[i] = sorted(collected[i], key=lambda one: -one.score)[: config.num_beams]


def _scores(collected: list[list[Hypothesis]], width: int, dtype: Any) -> Array:
    """Scores of the collected continuations, (prompts, width); -inf where there are fewer than width."""
    return np.array([[one.score for one in row] + [-np.inf] * (width - len(row)) for row in collected], dtype)
