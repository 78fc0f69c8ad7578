"""Laws of generation: what must hold for every correct continuation of a text.

A choice between two ids is noise if their scores differ by rounding only. So where a law predicts a choice, it objects
only if the prediction is the same after moving all scores at random by as much as correct implementations may differ.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt2.backends import BackendModel
from gpt2.generation import loop
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation
from gpt2.generation.reader import Watch
from parity.laws.base import Array, Verdicts, law, longer_context, score_of
from parity.laws.scene import FILL, NEW, Scene, allowed, config_of, drawn_options, options_of, scene_of, strategies
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict, identical, ulp

MOVES = 16  # how often scores are moved to see whether a choice is noise


def _processed(scores: Array, read: Sequence[int], config: GenerationConfig, step: int) -> Array:
    """Scores (M, V) of the next token of one text in M forms, after penalties and bans."""
    scores, read, size = scores.copy(), list(read), config.no_repeat_ngram_size
    for i in set(read):
        x = scores[:, i]
        scores[:, i] = np.where(x < 0, x * config.repetition_penalty, x / config.repetition_penalty)
    banned = set(config.stop_ids or ()) if step < config.min_new_tokens else set()
    for i in range(len(read) - size + 1 if size else 0):
        if read[i : i + size - 1] == read[len(read) - size + 1 :]:
            banned.add(read[i + size - 1])
    for *begin, end in config.bad_words:
        if read[len(read) - len(begin) :] == begin:
            banned.add(end)
    scores[:, sorted(banned)] = -np.inf
    return scores


def _chances(scores: Array, config: GenerationConfig) -> tuple[Array, Array]:
    """Probabilities (M, V) of the ids that may be drawn, likeliest first, and these ids."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1) / config.temperature
    shares = np.exp(ordered - ordered[:, :1])
    shares[:, config.top_k or shares.shape[1] :] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    shares[np.cumsum(shares, axis=1) - shares >= config.top_p] = 0
    shares[shares < config.min_p * shares[:, :1]] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    if config.typical_p < 1:
        surprise = -np.log(np.where(shares > 0, shares, 1))
        strange = np.abs(surprise - (shares * surprise).sum(axis=1, keepdims=True))
        for row, far in zip(shares, strange, strict=True):
            less_strange = (row * (far < far[:, None])).sum(axis=1)
            row[less_strange >= config.typical_p] = 0
        shares /= shares.sum(axis=1, keepdims=True)
    return shares, order


def _choices(scores: Array, config: GenerationConfig, chance: Array) -> Array:
    """The id chosen from each of the processed scores (M, V); chance (M,) are the random numbers."""
    if config.temperature == 0:
        return np.argmax(scores, axis=1)
    shares, order = _chances(scores, config)
    rank = (np.cumsum(shares, axis=1) <= chance[:, None]).sum(axis=1)
    last = shares.shape[1] - 1 - np.argmax(shares[:, ::-1] > 0, axis=1)
    return order[np.arange(len(order)), np.minimum(rank, last)]


def _foretold(
    scores: Array, read: Sequence[int], config: GenerationConfig, step: int, row: int, by: float
) -> int | None:
    """The next id of a text by its scores (V,), -1 if all are banned; None if it is noise for errors up to `by`."""
    random = np.random.default_rng([step, row])
    moved = scores + by * random.uniform(-1, 1, (MOVES, len(scores))) * (np.arange(MOVES)[:, None] > 0)
    processed = _processed(moved, read, config, step)
    if np.isneginf(processed).all():
        return -1
    unit = len(scores) * float(ulp(np.array(1.0), np.dtype(np.float32)))  # probabilities are summed in float32
    chance = loop.uniform(config.seed, step, 1, config.first_row + row) + unit * random.uniform(-1, 1, MOVES)
    choices = set(_choices(processed, config, chance).tolist())
    return choices.pop() if len(choices) == 1 else None


def _objection(found: int, expected: int | None) -> Verdict:
    return identical(np.array(found), np.array(found if expected is None else expected))


class _Uncached:
    """An engine whose decoders have no cache: they read the whole text again for every token.

    Their scores err at random by as much as `by`.
    """

    def __init__(self, engine: BackendModel, by: float = 0.0, member: int = 0) -> None:
        self.engine, self.by, self.random = engine, by, np.random.default_rng(member)

    def decoder(self, batch_size: int, length: int) -> "_Rereader":
        return _Rereader(self, batch_size)


class _Rereader:
    """A decoder that uses the engine's scores of whole texts."""

    def __init__(self, owner: _Uncached, batch_size: int) -> None:
        self._owner = owner
        self._read = [np.zeros((batch_size, 0), np.int64)] * 3

    def read(self, *more: Array) -> None:
        self._read = [np.concatenate(pair, axis=1) for pair in zip(self._read, more, strict=True)]
        scores = self._owner.engine.logits(*self._read)[:, -1]
        self._logits = (scores + self._owner.by * self._owner.random.uniform(-1, 1, scores.shape)).astype(scores.dtype)

    def logits(self) -> Array:
        return self._logits

    def greedy(self) -> Array:
        self._chosen = np.argmax(self._logits, axis=1)
        return self._chosen

    def sample(self, uniform: Array, *cuts: Any) -> Array:
        fields = dict(zip(("temperature", "top_k", "top_p", "min_p", "typical_p"), cuts, strict=True))
        self._chosen = _choices(self._logits.astype(np.float64), GenerationConfig(**fields), uniform)
        return self._chosen

    def advance(self) -> None:
        column = self._chosen[:, None]
        self.read(column, np.ones_like(column), self._read[2][:, -1:] + 1)

    def reorder(self, rows: Array) -> None:
        self._read = [x[rows] for x in self._read]
        self._logits = self._logits[rows]


def _is_noise(scene: Scene, known: Generation, **options: Any) -> bool:
    """Whether other ids are chosen if scores err by as much as they may."""
    by = scene.may_err(known)
    moved = (scene.run(engine=_Uncached(scene.engine, by, member), **options) for member in range(MOVES))
    return any(text.new_ids != known.new_ids for text in moved)


def _same_ids(scene: Scene, found: list[list[int]], known: Generation, **options: Any) -> Verdict:
    """The verdict on ids that, by a law, equal those of `known` unless the choice is noise."""
    same = found == known.new_ids or _is_noise(scene, known, **options)
    return identical(np.array(same), np.array(True))


# The laws.


@law("engine.logits", generates=True)
def a_cache_changes_no_choice(trial: Trial) -> Verdicts:
    """Greedy, sampling and beam search, with or without penalties and bans, choose the same ids with a cache as without
    one, when every step computes the whole text again. No verdict where rounding decides.

    Proof: keys and values of a token do not depend on later tokens, so the cached ones equal those computed again; the
    loops are the same.
    """
    scene = scene_of(trial)
    for options in strategies(scene):
        cached, known = scene.run(**options), scene.run(engine=_Uncached(scene.engine), **options)
        yield _same_ids(scene, cached.new_ids, known, **options)


@law("engine.logits", generates=True)
def choices_are_those_of_the_whole_text(trial: Trial) -> Verdicts:
    """Every id is the likeliest one, or the one that the random number of its seed, step and row selects, by the scores
    that the engine gives the text before it, after penalty, bans, temperature and cuts, in this order. A text ends if
    every next id is banned. No verdict where rounding decides.

    Proof: this is the meaning of the options; here they are applied in float64, text by text, with sets and lists.
    """
    scene = scene_of(trial)
    length = scene.ids.shape[1]
    for options in ({}, drawn_options(scene), options_of(scene), options_of(scene) | drawn_options(scene)):
        config, result = config_of(options), scene.run(**options)
        scores, noise = scene.reads(result.ids)
        by = allowed(scores, noise, trial.dtype)
        for row, new in enumerate(result.new_ids):
            for step in range(len(new) + (result.finish_reasons[row] == "banned")):
                chosen = [*new, -1][step]
                read = scene.prompt(row) + new[:step]
                yield _objection(chosen, _foretold(scores[row, length + step - 1], read, config, step, row, by))


@law("engine.logits", generates=True)
def a_prompt_goes_on_in_a_batch_as_alone(trial: Trial) -> Verdicts:
    """A prompt in a batch, with pads on its left, is continued as it is alone; for sampling, with the same row number.
    No verdict where rounding decides.

    Proof: sequences do not affect each other, pads are hidden, positions count tokens, and penalties and bans use
    neither pads nor other rows.
    """
    scene = scene_of(trial)
    row = int(scene.mask.sum(axis=1).argmin()) if trial.case.seed % 2 else trial.case.seed // 2 % len(scene.ids)
    alone = scene.alone(row)
    for options in strategies(scene):
        batched, row_options = scene.run(**options), options | {"first_row": row}
        known = alone.run(**row_options)
        yield _same_ids(alone, [batched.new_ids[row]], known, **row_options)


@law("engine.logits", generates=True)
def a_text_ends_where_it_should(trial: Trial) -> Verdicts:
    """A stop id occurs only at the end of a text, after at least min_new_tokens others, and a stop string ends the
    first text of at least min_new_tokens that it completes; a text without either has max_new_tokens, or every next id
    was banned.

    Proof: a text ends at its first stop id; until there are enough tokens, stop ids are banned. A stop string is looked
    for after every token.
    """
    scene = scene_of(trial)
    first, wide = scene.run().new_ids[0], {"num_beams": 3, "num_return_sequences": 3}
    random = np.random.default_rng(trial.case.seed)
    least: dict[str, Any] = {"min_new_tokens": int(random.integers(NEW + 1))}
    stops: dict[str, Any] = {"stop_ids": [int(random.integers(scene.vocabulary)), first[int(random.integers(NEW))]]}
    for options in (stops | least, stops | least | drawn_options(scene), stops | least | wide, stops):
        result = scene.run(**options)
        for new, reason in zip(result.new_ids, result.finish_reasons, strict=True):
            ends = [i in stops["stop_ids"] for i in new]
            yield identical(np.array(any(ends[:-1])), np.array(False))
            if reason == "stop":
                yield identical(np.array(ends[-1] and len(new) > options.get("min_new_tokens", 0)), np.array(True))
            else:
                full = reason == "banned" or (reason == "length" and len(new) == NEW)
                yield identical(np.array([full, any(ends)]), np.array([True, False]))
    begin = int(random.integers(NEW - 1))
    stop, fewest = _spelled(first[begin : begin + 2]), begin + 2 + int(random.integers(2))
    if len(set(stop)) == len(stop):  # occurrences that overlap are not counted twice
        result = scene.run(Watch(decode=_spelled), stop_strings=[stop], min_new_tokens=min(fewest, NEW))
        for new, reason in zip(result.new_ids, result.finish_reasons, strict=True):
            texts = [_spelled(new[:end]) for end in range(min(fewest, NEW), len(new) + 1)]
            ends = [text.endswith(stop) for text in texts]
            yield identical(np.array([any(ends[:-1]), any(ends[-1:])]), np.array([False, reason == "stop"]))


def _spelled(ids: Sequence[int]) -> str:
    """A text with one character for each id."""
    return "".join(chr(ord("A") + i) for i in ids)


@law("engine.logits", generates=True)
def what_is_forbidden_is_not_written(trial: Trial) -> Verdicts:
    """No new token repeats an n-gram of the text, prompt included, and no new token completes a bad word.

    Proof: these ids are banned at each step, and a banned id has probability 0.
    """
    scene = scene_of(trial)
    size, row = int(np.random.default_rng(trial.case.seed).integers(1, 4)), scene.run().new_ids[0]
    forbidden: dict[str, Any] = {"no_repeat_ngram_size": size, "bad_words": [row[:1], row[1:3]]}
    for options in ({}, drawn_options(scene), {"num_beams": 3, "num_return_sequences": 3}):
        result = scene.run(**forbidden, **options)
        for i, new in enumerate(result.new_ids):
            text = scene.prompt(i * len(scene.ids) // len(result.new_ids))
            for token in new:
                text.append(token)
                ngrams = [text[j : j + size] for j in range(len(text) - size + 1)]
                words = [word for word in forbidden["bad_words"] if text[-len(word) :] == word]
                yield identical(np.array(ngrams[-1:][0] in ngrams[:-1] if ngrams else False), np.array(False))
                yield identical(np.array(len(words)), np.array(0))


@law("engine.logits", generates=True)
def log_probabilities_are_those_of_the_whole_text(trial: Trial) -> Verdicts:
    """Each log-probability is that of its id by the scores that the engine gives the text before it, after penalties,
    bans and temperature; in beam search, penalties and bans come after the softmax. The score of a text is their sum,
    for a beam divided by the number of new tokens to the power length_penalty; beams are sorted, best first.

    Proof: this is the definition of the fields. The error of a log-softmax is at most twice that of its scores.
    """
    scene = scene_of(trial)
    beams = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": [2.0, 0.0, -1.0][trial.case.seed % 3]}
    for options in (options_of(scene), options_of(scene) | {"temperature": 2.0}, options_of(scene) | beams):
        config, result = config_of(options), scene.run(**options)
        copies = config.num_return_sequences
        scores, noise = scene.reads(result.ids)
        strays = 2 * noise * max(config.repetition_penalty, 1 / config.repetition_penalty)
        strays /= config.temperature or 1.0
        for row, (new, logs) in enumerate(zip(result.new_ids, result.log_probabilities, strict=True)):
            text, sums, size = scene.prompt(row // copies), 0.0, 0.0
            for step, (token, log) in enumerate(zip(new, logs, strict=True)):
                here = scores[row, scene.ids.shape[1] + step - 1][None]
                if config.num_beams > 1:
                    known = _processed(_log_softmax(here), text + new[:step], config, step)[0]
                else:
                    processed = _processed(here, text + new[:step], config, step)
                    known = _log_softmax(processed / (config.temperature or 1.0))[0]
                largest = float(np.abs(here).max() * max(1.0, strays / noise if noise else 1.0))
                yield trial.close(np.array(log), known[token], 2 * strays, size=largest)
                sums, size = sums + log, max(size, abs(sums), largest)
            per = len(new) ** config.length_penalty if config.num_beams > 1 and new else 1.0
            if result.finish_reasons[row] != "banned" or config.num_beams == 1:
                yield trial.close(np.array(result.scores[row]), sums / per, 0.0, size=size / per)
        ranked = np.array(result.scores).reshape(-1, copies)
        if config.num_beams > 1:
            yield identical(ranked, -np.sort(-ranked, axis=1))


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@law("engine.logits", generates=True)
def a_search_for_two_tokens_finds_the_best(trial: Trial) -> Verdicts:
    """A search for two tokens with n beams returns the n best scores of these texts: each stop id among the n likeliest
    first ids, alone; and each of the n likeliest other ids, followed by any second id. Lengths count only new tokens.
    With as many beams as ids, these are all possible texts. No verdict where rounding decides which ids come first, nor
    on a vocabulary of one id.

    Proof: the first step keeps those ids, and the second tries every id after each. The search does not end early,
    because at most n - 1 of the n places, n > 1, are taken before the last step.
    """
    scene, ids, random = scene_of(trial), trial.case.sizes["V"], np.random.default_rng(trial.case.seed)
    if ids == 1:
        return
    scene, width = scene.alone(int(random.integers(len(scene.ids)))), int(random.choice([2, min(4, ids), ids]))
    continued = np.concatenate((np.repeat(scene.ids, ids, axis=0), np.arange(ids)[:, None]), axis=1)
    scores, noise = scene.reads(continued)
    first, second = scores[0, -2], _log_softmax(scores[:, -1])
    begun, largest, by = _log_softmax(first[None])[0], float(np.abs(scores).max()), allowed(scores, noise, trial.dtype)
    moved = [first + by * move for move in random.uniform(-1, 1, (MOVES, ids))]

    def kept(scores: Array, stops: Array) -> tuple[list[int], list[int]]:
        """The stop ids among the first ids, and the first of the other ids."""
        order = np.argsort(-scores, kind="stable")
        stop = np.isin(order, stops)
        return sorted(order[:width][stop[:width]].tolist()), sorted(order[~stop][:width].tolist())

    for stops in (np.argsort(-first)[: width - 1], random.integers(ids, size=1)):
        ends, others = kept(first, stops)
        if any(kept(scores, stops) != (ends, others) for scores in moved):
            continue
        for power in (1.0, 0.0, 2.0, -1.0):
            result = scene.run(
                max_new_tokens=2,
                num_beams=width,
                num_return_sequences=width,
                stop_ids=stops.tolist(),
                length_penalty=power,
            )
            texts = np.append((begun[:, None] + second)[others] / 2**power, begun[ends])
            best = -np.sort(-texts)[:width]
            yield trial.close(np.array(result.scores), best, 8 * noise / min(1, 2**power), size=largest * 4)


@law("engine.logits", generates=True)
def a_longer_search_is_no_worse(trial: Trial) -> Verdicts:
    """For each prompt, the best score with early_stopping True is at most that with False, and that with False at most
    that with "never", bit for bit; the same holds for the second best, and so on.

    Proof: the running beams do not depend on the finished ones, and early_stopping True ends no later than False, and
    False no later than "never": a sum of log-probabilities is negative, and divided by a higher power of the length it
    is nearer to 0. Texts found later can only improve the list.
    """
    scene, random = scene_of(trial), np.random.default_rng(trial.case.seed)
    stops = random.permutation(scene.vocabulary)[: scene.vocabulary // 2 + 1].tolist()
    options = {"num_beams": 2, "num_return_sequences": 2, "stop_ids": stops, "length_penalty": 8.0}
    early, usual, never = (
        np.array(scene.run(early_stopping=switch, **options).scores) for switch in (True, False, "never")
    )
    yield identical(np.minimum(early, usual), early)
    yield identical(np.minimum(usual, never), usual)


def _keep(tokens: list[Array], ids: Array) -> None:
    tokens.append(ids.copy())


@law("engine.logits", generates=True)
def what_is_told_is_what_is_returned(trial: Trial) -> Verdicts:
    """The result begins with the unchanged prompts; the new ids follow, padded with the fill id. The callback gets the
    same ids, step by step. The same options give the same bits again.

    Proof: there is one text, and all random numbers come from the seed.
    """
    scene = scene_of(trial)
    length = scene.ids.shape[1]
    first_ends_at_once = {"stop_ids": scene.run().new_ids[0][:1]}
    for options in (*strategies(scene), first_ends_at_once):
        tokens: list[Array] = []
        result = scene.run(**options)
        yield identical(result.ids[:, :length], scene.ids)
        for row, new in zip(result.ids[:, length:], result.new_ids, strict=True):
            yield identical(row, np.array(new + [FILL] * (len(row) - len(new)), np.int64))
        again = scene.run(Watch(on_token=functools.partial(_keep, tokens)), **options)
        yield identical(np.array([again.scores]), np.array([result.scores]))
        yield identical(again.ids, result.ids)
        if options.get("num_beams", 1) == 1 and tokens:
            yield identical(np.stack(tokens, axis=1).astype(np.int64), result.ids[:, length:])


@law("engine.logits", generates=True)
def a_run_that_is_interrupted_returns_the_text_so_far(trial: Trial) -> Verdicts:
    """Interrupted before any token, or after some, a run returns the ids of a run for so many tokens, whether it
    computes log-probabilities or not, and says that it was interrupted. No verdict where rounding decides.

    Proof: a choice depends on what has been read, and neither on how many tokens will follow nor on log-probabilities.
    In beam search, a run for so many tokens collects the n best of the last candidates, or those of them that stop; the
    running beams of the interrupted one are these, and others with lower sums, of which none is among the n best.
    """
    scene, some = scene_of(trial), int(np.random.default_rng(trial.case.seed).integers(1, NEW))
    for options, tokens in itertools.product(strategies(scene), (0, some)):
        options = options | {"min_new_tokens": min(options.get("min_new_tokens", 0), tokens)}
        watch = Watch(interrupted=functools.partial(next, iter([False] * tokens + [True])))
        found, short = scene.run(watch, scored=False, **options), options | {"max_new_tokens": tokens}
        known = scene.run(**short)
        yield _same_ids(scene, found.new_ids, known, **short)
        if found.new_ids == known.new_ids:
            reasons = [reason.replace("length", "interrupted") for reason in known.finish_reasons]
            yield identical(np.array(found.finish_reasons == reasons), np.array(True))


@law("engine.logits", generates=True)
def the_simplest_loop_takes_the_likeliest(trial: Trial) -> Verdicts:
    """continue_greedily returns its ids, followed by new ones, each of which has the highest score by those that the
    engine gives the text before it.

    Proof: this is its definition, and keys and values do not depend on later tokens.
    """
    ids, new = trial.arguments["ids"], int(np.random.default_rng(trial.case.seed).integers(NEW))
    roomy = longer_context(trial, NEW)
    given = {name: roomy.arguments[name] for name in ("params", "config")}
    text = np.asarray(trial.backend.call("generate.continue_greedily", {**given, "ids": ids, "new": new}))
    yield identical(text[:, : ids.shape[1]].astype(np.int64), ids)
    yield identical(np.array(text.shape), np.array([len(ids), ids.shape[1] + new]))
    scene = Scene(roomy, roomy.model(), ids, np.ones_like(ids), trial.case.sizes["V"])
    scores, noise = scene.reads(text.astype(np.int64))
    for place in range(ids.shape[1], text.shape[1]):
        here = scores[:, place - 1]
        yield trial.close(score_of(here, text[:, place]), here.max(axis=1), 4 * noise)


@law("engine.logits", generates=True)
def beyond_the_context_the_last_tokens_count(trial: Trial) -> Verdicts:
    """If a text is longer than the context, its next id is that of its last tokens alone, with positions counted from
    0. No verdict where rounding decides.

    Proof: this is the definition of a sliding window.
    """
    scene = scene_of(trial)
    scene = scene.alone(trial.case.seed % len(scene.ids))
    length = scene.ids.shape[1]
    context = max(1, length - trial.case.seed % 2)
    result = scene.run(context=context, sliding_window=True)
    for step, chosen in enumerate(result.new_ids[0]):
        read = result.ids[:, max(0, length + step - context) : length + step]
        window = dataclasses.replace(scene, ids=read, mask=np.ones_like(read))
        scores, noise = window.reads(read)
        by = allowed(scores, noise, trial.dtype)
        yield _objection(chosen, _foretold(scores[0, -1], [], config_of({}), step, 0, by))
