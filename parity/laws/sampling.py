"""Laws of choosing the next token: greedy, temperature, cuts, chance."""

import numpy as np

from parity.laws.base import Verdicts, changed, law, must_hold, score_of
from parity.verdict.trial import Trial

# The choice of the next token.


@law("generate.greedy")
def greedy_is_the_first_of_the_highest(trial: Trial) -> Verdicts:
    """Greedy chooses the lowest id that has the highest score.

    Proof: that is its definition.
    """
    logits = trial.arguments["logits"]
    for scores in (logits, np.sign(logits)):  # of signs, many are equal
        highest = scores == scores.max(axis=-1, keepdims=True)
        expected = np.array([row.index(True) for row in highest.tolist()])
        yield trial.identical(trial.with_arguments(logits=scores).run()[0].astype(np.int64), expected)


@law("generate.sample")
def sampling_from_one_id_is_greedy(trial: Trial) -> Verdicts:
    """With top_k = 1, with a top_p that one id exceeds, or with the number 0, sampling chooses an id of the highest
    score.

    Proof: ids are walked along from the likeliest; the first two leave it alone, the third stops at it. Of V ids the
    likeliest has a probability of at least 1 / V.
    """
    logits, uniform = trial.arguments["logits"], trial.arguments["uniform"]
    for option in ({"top_k": 1}, {"top_p": 0.5 / logits.shape[-1]}, {"uniform": np.zeros_like(uniform)}):
        chosen = trial.with_arguments(**option).run()[0]
        yield trial.identical(score_of(logits, chosen), logits.max(axis=-1))


def _grid(trial: Trial) -> Trial:
    """The first row of scores with 64 evenly spread numbers to sample by."""
    logits, uniform = trial.arguments["logits"], trial.arguments["uniform"]
    spread = ((np.arange(64) + 0.5) / 64).astype(uniform.dtype)
    return changed(trial, {"B": 64}, logits=np.repeat(logits[:1], 64, axis=0), uniform=spread)


@law("generate.sample")
def temperature_divides_the_scores(trial: Trial) -> Verdicts:
    """Twice the scores at twice the temperature choose the same ids.

    Proof: their quotients are the same, bit for bit.
    """
    own = _grid(trial)
    logits, temperature = own.arguments["logits"], own.arguments["temperature"]
    twice = own.with_arguments(logits=logits + logits, temperature=2 * temperature)
    yield trial.identical(twice.run()[0], own.run()[0])


@law("generate.sample")
def sampling_walks_from_the_likeliest(trial: Trial) -> Verdicts:
    """A larger number never chooses a likelier id, and no id beyond the top_k likeliest is chosen.

    Proof: the cumulated probabilities grow along the ids, which stand in the order of their scores.
    """
    own = _grid(trial)
    logits, top_k = own.arguments["logits"], own.arguments["top_k"]
    chosen = score_of(logits, own.run()[0])
    yield trial.identical(chosen, np.minimum.accumulate(chosen))
    yield must_hold(trial, chosen >= np.sort(logits[0])[::-1][: top_k or None][-1])


@law("generate.sample")
def shares_of_numbers_are_probabilities(trial: Trial) -> Verdicts:
    """With temperature 1 each id is chosen by the share of numbers that softmax gives it; where top_k or top_p
    leave the likelier half of the ids, these have what all had together.

    Proof: an id is chosen by the numbers of an interval as long as its probability. Of 64 evenly spread ones that holds
    64 p, give or take 1, and one more at either end where rounding moves it.
    """
    own = _grid(trial.with_arguments(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0))
    logits = own.arguments["logits"]
    shares = trial.of("ops.softmax", x=logits[:1, None]).run()[0][0, 0].astype(np.float64)
    counts = np.bincount(own.run()[0], minlength=len(shares))
    yield must_hold(trial, np.abs(counts - 64 * shares) < 4)
    kept = np.sort(shares)[::-1][: (len(shares) + 1) // 2]
    for option in ({"top_k": len(kept)}, {"top_p": float(kept.sum() - kept[-1] / 2)}):
        counts = np.bincount(own.with_arguments(**option).run()[0], minlength=len(shares))
        yield must_hold(trial, np.abs(np.sort(counts)[::-1][: len(kept)] - 64 * kept / kept.sum()) < 4)
