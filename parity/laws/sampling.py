"""Laws of choosing the next token: greedy, temperature, cuts, random numbers."""

import numpy as np

from parity.laws.base import Verdicts, changed, law, must_hold, random_of, score_of
from parity.verdict.trial import Trial

# The choice of the next token.


@law("generate.ban_word")
def a_word_longer_than_the_text_bans_nothing(trial: Trial) -> Verdicts:
    """A bad word of two ids more than the text has changes no score.

    Proof: its last id is banned in rows that end with its other ids, and no row has so many.
    """
    length = trial.case.sizes["T"] + 2
    longer = changed(trial, {"K": length}, word=np.resize(trial.arguments["word"], length))
    yield trial.identical(longer.run()[0], trial.arguments["logits"])


@law("generate.greedy")
def greedy_is_the_first_of_the_highest(trial: Trial) -> Verdicts:
    """Greedy chooses the lowest id that has the highest score.

    Proof: this is its definition.
    """
    logits = trial.arguments["logits"]
    for scores in (logits, np.sign(logits)):  # many signs are equal
        highest = scores == scores.max(axis=-1, keepdims=True)
        expected = np.array([row.index(True) for row in highest.tolist()])
        yield trial.identical(trial.with_arguments(logits=scores).run()[0].astype(np.int64), expected)


@law("generate.sample")
def sampling_from_one_id_is_greedy(trial: Trial) -> Verdicts:
    """With top_k = 1, with a top_p that one id exceeds, or with the random number 0 and without typical_p, sampling
    chooses an id of the highest score.

    Proof: sampling goes through the ids from the likeliest; the first two options keep only this id, the third stops at
    it. Of V ids the likeliest has a probability of at least 1 / V. Of the options, typical_p alone may cut it off.
    """
    logits, uniform = trial.arguments["logits"], trial.arguments["uniform"]
    first = {"uniform": np.zeros_like(uniform), "typical_p": 1.0}
    for option in ({"top_k": 1}, {"top_p": 0.5 / logits.shape[-1]}, first):
        chosen = trial.with_arguments(**option).run()[0]
        yield trial.identical(score_of(logits, chosen), logits.max(axis=-1))


def _grid(trial: Trial) -> Trial:
    """The first row of scores with 64 evenly spaced random numbers for sampling."""
    logits, uniform = trial.arguments["logits"], trial.arguments["uniform"]
    spread = ((np.arange(64) + 0.5) / 64).astype(uniform.dtype)
    return changed(trial, {"B": 64}, logits=np.repeat(logits[:1], 64, axis=0), uniform=spread)


@law("generate.sample")
def temperature_divides_the_scores(trial: Trial) -> Verdicts:
    """Twice the scores at twice the temperature choose the same ids.

    Proof: their quotients are the same, bit for bit.
    """
    grid = _grid(trial)
    logits, temperature = grid.arguments["logits"], grid.arguments["temperature"]
    twice = grid.with_arguments(logits=logits + logits, temperature=2 * temperature)
    yield trial.identical(twice.run()[0], grid.run()[0])


@law("generate.sample")
def sampling_walks_from_the_likeliest(trial: Trial) -> Verdicts:
    """A larger random number never chooses a likelier id, and no id beyond the top_k likeliest is chosen.

    Proof: the cumulative sums of probabilities grow along the ids, which are sorted by score.
    """
    grid = _grid(trial)
    logits, top_k = grid.arguments["logits"], grid.arguments["top_k"]
    chosen = score_of(logits, grid.run()[0])
    yield trial.identical(chosen, np.minimum.accumulate(chosen))
    yield must_hold(trial, chosen >= np.sort(logits[0])[::-1][: top_k or None][-1])


@law("generate.sample")
def shares_of_numbers_are_probabilities(trial: Trial) -> Verdicts:
    """With temperature 1 the share of random numbers that choose an id is its softmax probability; if top_k or top_p
    keeps the likelier half of the ids, their probabilities are divided by their sum.

    Proof: an id is chosen by the numbers of an interval as long as its probability p. Of 64 evenly spaced numbers, it
    holds 64 p, plus or minus 1, and one more at either end where rounding moves the end.
    """
    grid = _grid(trial.with_arguments(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0))
    logits = grid.arguments["logits"]
    shares = trial.of("ops.softmax", x=logits[:1, None]).run()[0][0, 0].astype(np.float64)
    counts = np.bincount(grid.run()[0], minlength=len(shares))
    yield must_hold(trial, np.abs(counts - 64 * shares) < 4)
    kept = np.sort(shares)[::-1][: (len(shares) + 1) // 2]
    for option in ({"top_k": len(kept)}, {"top_p": float(kept.sum() - kept[-1] / 2)}):
        counts = np.bincount(grid.with_arguments(**option).run()[0], minlength=len(shares))
        yield must_hold(trial, np.abs(np.sort(counts)[::-1][: len(kept)] - 64 * kept / kept.sum()) < 4)


@law("generate.sample")
def typical_ids_are_near_the_mean_surprise(trial: Trial) -> Verdicts:
    """Of five ids, one of probability m and four that share the rest, a typical_p below the share of the nearer kind
    keeps this kind alone, be it the likelier or not: m = 1/4 is cut off, m = 3/4 is drawn alone. A typical_p above it
    keeps all five. An id that top_k cuts off has no part in this.

    Proof: let d be the difference of the two surprises. The mean surprise is m of the way from the four to the one, so
    the four are m d away from it, and the one (1 - m) d; for m = 1/4 and 3/4 these differ by half of d, and d is log
    4/3 or log 12, far more than rounding. Ids of equal scores are equally near and stay or go together; their sums are
    1/32 or more from typical_p. Shares of 64 numbers are as in `shares_of_numbers_are_probabilities`.
    """
    order = random_of(trial).permutation(6)
    places = np.argsort(order)  # of the one, of the four, and of one that top_k cuts off
    numbers = ((np.arange(64) + 0.5) / 64).astype(trial.arguments["uniform"].dtype)
    m, fewer = [(1 / 4, 4), (3 / 4, 1)][trial.case.seed % 2]
    for typical_p, kept in ((5 / 8, fewer), (31 / 32, 5)):
        one, others = np.log(4 * m / (1 - m)), [0.0] * 4
        logits = np.array([one, *others, min(one, 0.0) - 1])[order].astype(trial.arguments["logits"].dtype)
        shares = np.array([m, *[(1 - m) / 4] * 4, 0])
        shares[0 if kept == 4 else slice(kept, None)] = 0
        drawn = changed(
            trial,
            {"B": 64, "V": 6},
            logits=np.repeat(logits[None], 64, axis=0),
            uniform=numbers,
            temperature=1.0,
            top_k=5,
            top_p=1.0,
            min_p=0.0,
            typical_p=typical_p,
        )
        counts = np.bincount(drawn.run()[0], minlength=6)[places]
        yield must_hold(trial, np.abs(counts - 64 * shares / shares.sum()) < 4)
        yield must_hold(trial, (counts > 0) == (shares > 0))
