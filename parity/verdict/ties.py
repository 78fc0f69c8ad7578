"""Find where the choice of a token is noise: another candidate is within the rounding error of this input."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gpt2.arguments import integers
from gpt2.backends import Array, NumPyBackend, numpy_dtype
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation, choose
from gpt2.generation.reader import process_scores
from parity.cases.cases import Case
from parity.cases.contracts import contracts
from parity.verdict import orbit
from parity.verdict.stages import stage_references
from parity.verdict.steps import accuracy_of
from parity.verdict.verdict import Reference, close
from reference.stages import observing


def find_ties(
    model: Any, found: Generation, attention_mask: ArrayLike | None, config: GenerationConfig
) -> list[list[int]]:
    """The places in each row's new ids where the choice is noise; attention_mask is that of the prompts.

    The judge's reference reads the finished text once in float64 and, in the model's precision, in several equivalent
    forms. A greedy choice is noise if the two best scores differ by no more than two correct implementations may; a
    sampled choice is noise if, with the same random number, two of these forms choose different ids. Beams, whose
    choices depend on each other, are searched anew in each form: the first id in which two forms differ is noise.
    """
    config, dtype = model.complete(config), numpy_dtype(model.backend.dtype)
    if config.num_beams > 1:
        return _places_in_beams(model, found, attention_mask, config)
    ids, mask, length = _finished(found, attention_mask)
    if ids.shape[1] == length:
        return [[] for _ in found.new_ids]
    ids, mask = ids[:, :-1], mask[:, :-1]  # the last token is not read
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    positions = np.minimum(positions, model.config.n_positions - 1)  # those of rows that ended before do not count
    accuracy = accuracy_of(model.backend)
    logits = stage_references(model.config, model.parameters, ids, mask, positions, dtype, accuracy)["logits"]

    def is_noise(row: int, step: int) -> bool:
        read = slice(row, row + 1), slice(length + step)
        last = row, length + step - 1
        scores = Reference(logits.oracle[last], [x[last] for x in logits.orbit]).then(
            lambda x: process_scores(_wide(x[None]), ids[read], mask[read], config, step)
        )
        if config.temperature == 0:
            return _near(scores, dtype)
        own = dataclasses.replace(config, first_row=config.first_row + row)
        return len({int(choose(x, own, step)[0]) for x in [scores.oracle, *scores.orbit]}) > 1

    return [[step for step in range(len(new)) if is_noise(row, step)] for row, new in enumerate(found.new_ids)]


def _places_in_beams(
    model: Any, found: Generation, attention_mask: ArrayLike | None, config: GenerationConfig
) -> list[list[int]]:
    """For each row, the first new id in which beam searches that only round differently differ; [] if none do."""
    ids, mask, length = _finished(found, attention_mask)
    prompts, masks = (x[:: config.num_return_sequences, :length] for x in (ids, mask))
    case = Case(contracts()["model.language_model"], {}, {}, frozenset(), "none", "live", 0)
    forms = [_searched(model, "float64", prompts, masks, config, lambda name, x: x)]
    for member in range(orbit.MEMBERS):
        move = orbit.inexact(accuracy_of(model.backend), case, member)
        forms.append(_searched(model, model.backend.dtype, prompts, masks, config, move))
    return [[] if (place := _first_difference(rows)) is None else [place] for rows in zip(*forms, strict=True)]


def _searched(
    model: Any, dtype: str, prompts: Array, masks: Array, config: GenerationConfig, move: Callable[[str, Any], Any]
) -> list[list[int]]:
    """The new ids of each row when NumPy searches in that dtype, its results moved by rounding."""
    again = type(model)(model.config, model.parameters, NumPyBackend(dtype=dtype), model.tokenizer)
    with observing(move):
        found: Generation = again.generate_all(prompts, attention_mask=masks, **vars(config))
    return found.new_ids


def _first_difference(rows: Sequence[list[int]]) -> int | None:
    for place, ids in enumerate(itertools.zip_longest(*rows)):
        if len(set(ids)) > 1:
            return place
    return None


def _finished(found: Generation, attention_mask: ArrayLike | None) -> tuple[Array, Array, int]:
    """Prompts and new ids with ordinary tokens in place of the fill, their mask, and the length of the prompts."""
    length = found.ids.shape[1] - max(map(len, found.new_ids))
    ids, mask = found.ids.copy(), np.ones_like(found.ids)
    for row, new in zip(ids, found.new_ids, strict=True):
        row[length + len(new) :] = 0
    if attention_mask is not None:
        prompts = np.atleast_2d(integers("attention_mask", attention_mask))
        mask[:, :length] = np.repeat(prompts, len(ids) // len(prompts), axis=0)
    return ids, mask, length


def _wide(x: Array) -> Array:
    return x.astype(np.promote_types(x.dtype, np.float32))


def _near(scores: Any, dtype: np.dtype) -> bool:
    """Whether the two best of the scores (1, V), given as a Reference, are equal except for rounding."""
    best = np.sort(scores.oracle[0])[::-1][:2]
    return len(best) == 2 and np.isfinite(best[1]) and close(best[0], best[1], 2 * scores.noise, dtype).agrees
