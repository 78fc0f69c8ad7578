"""Does every parameter matter? Gradients of a case by complex step, and why some of them are zero.

f(x + ih) = f(x) + ih f'(x) - ..., so the imaginary part of the result over h is the derivative. Nothing is subtracted,
so h can be as small as you like, and the derivative is as exact as f itself.
Source: Squire and Trapp 1998, Using complex variables to estimate derivatives of real functions.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.cases.cases import Case, axis_factors, build, case_axes
from parity.verdict import orbit
from parity.verdict.trial import leaves, result_axes
from parity.verdict.verdict import NOISE_FACTOR
from reference.attention import visible_keys
from reference.config import GPT2Config
from reference.stages import keep_in, observing

Array = NDArray[Any]
Entry = tuple[str, tuple[int, ...]]
Silence = Iterator[tuple[str, Any, str]]  # which argument, which of its entries (an index), why
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
STEP = 2.0**-100  # its square is below any rounding error, and division by it is exact
MEMBERS = 6  # forms of the input: the first, and enough others that their spread is not small by chance


@dataclasses.dataclass(frozen=True)
class Gradient:
    """The derivative with respect to one number of the input, and its rounding noise."""

    value: float
    noise: float

    @property
    def is_zero(self) -> bool:
        """Whether it counts as zero: it is within the tolerance that the verdict's rule gives for its noise."""
        return abs(self.value) <= NOISE_FACTOR * self.noise


def gradients(case: Case, entries: int = 1, dtype: np.dtype = FLOAT32) -> dict[Entry, Gradient]:
    """Derivatives of a random weighted sum of the case's first result, by some entries of every float argument.

    Scores at pads mean nothing and get no weight. The values are rounded to dtype, and computed with in float64. The
    keys are like ("params.h.0.attn.c_attn.bias", (5,)); the entries and the weights follow from the case's seed.

    A derivative that is zero by cancellation can come out as rounding noise, which is measured like the noise floor:
    the same derivative on equivalent forms of the input, with channels, heads and units in another order and every
    result moved by up to a unit in the last place of float64. The noise is the largest distance to the first.
    """
    random = np.random.default_rng([case.seed, 2])
    arguments = build(case, dtype)[0]
    weights = _weights(case, arguments, random)
    found = {}
    for name, x in float_arguments(arguments).items():
        for _ in range(min(entries, x.size)):
            where = tuple(int(random.integers(size)) for size in x.shape)
            stepped = map_floats(lambda leaf, y: _complex(y, where if leaf == name else None), arguments)  # noqa: B023
            values = [float((weights * _first_result(case, stepped, i).imag).sum() / STEP) for i in range(MEMBERS)]
            found[name, where] = Gradient(values[0], max(abs(value - values[0]) for value in values))
    return found


def float_arguments(arguments: dict[str, Any]) -> dict[str, Array]:
    """The float arrays among (trees of) arguments, by name: "x", "params.h.0.ln_1.weight", "past.0.1"."""
    found: dict[str, Array] = {}
    map_floats(lambda name, x: found.setdefault(name, x), arguments)
    return found


def map_floats(function: Callable[[str, Array], Any], tree: Any, name: str = "") -> Any:
    """The tree of arguments with function(name, x) in place of every float array x; all else stays."""
    join = f"{name}." if name else ""
    if isinstance(tree, dict):
        return {key: map_floats(function, value, f"{join}{key}") for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map_floats(function, value, f"{join}{i}") for i, value in enumerate(tree))
    return function(name, tree) if isinstance(tree, np.ndarray) and tree.dtype.kind not in "iub" else tree


def _complex(x: Array, where: tuple[int, ...] | None) -> Array:
    z = x.astype(np.float64).astype(np.complex128)
    if where is not None:
        z[where] += 1j * STEP
    return z


def _weights(case: Case, arguments: dict[str, Any], random: np.random.Generator) -> Array:
    axes, mask = result_axes(case, 1)[0], arguments.get("attention_mask")
    shape = tuple(math.prod(axis_factors(axis, case.sizes)) for axis in axes)
    weights = random.standard_normal(shape)
    if mask is None:
        return weights
    kept = mask[:, -case.sizes["T"] :] if axes[:2] == ("B", "T") else mask.any(axis=1)
    return weights * (kept.reshape(*kept.shape, *[1] * (weights.ndim - kept.ndim)) != 0)


def _first_result(case: Case, arguments: dict[str, Any], member: int) -> Array:
    """The first array that the function returns, computed on one of the equivalent forms of complex arguments."""
    axes, chosen = case_axes(case), orbit.permutations(case, member)
    permuted = {name: orbit.permute(x, axes[name], case, chosen) for name, x in arguments.items()}
    with observing(_rounded_otherwise(case, member)), np.errstate(all="ignore"):
        result = next(leaves(case.contract.target(**permuted), FLOAT64))
    return orbit.undo(result, result_axes(case, 1)[0], case, chosen)


def _rounded_otherwise(case: Case, member: int) -> Callable[[str, Any], Any]:
    """An observer that moves the result of every op and sum by up to a unit in the last place, up or down at random."""
    random, unit = np.random.default_rng([case.seed, member, 3]), float(np.finfo(np.float64).eps)

    def move(name: str, z: Any) -> Any:
        if name != "rounding" and name.rpartition(".")[2] not in orbit.SUMS:
            return z
        real, imag = 1 + unit * random.uniform(-1, 1, (2, *z.shape))
        return z.real * real + 1j * (z.imag * imag)

    return move


def silent(case: Case, dtype: np.dtype = FLOAT32) -> dict[str, Array]:
    """Why derivatives of `gradients` are zero: by name, an array of the argument's shape; "" where they are not.

    For whole models: cases of model.language_model and model.sequence_classifier. A derivative with a reason is zero in
    exact arithmetic or, where softmax is one-hot, too small for float64. The reasons do not use the derivatives.
    """
    model = _look_at(case, dtype)
    why = {name: np.full(x.shape, "", object) for name, x in float_arguments(model.arguments).items()}
    for rule in RULES:
        for name, where, reason in rule(model):
            chosen = np.zeros(why[name].shape, bool)
            chosen[where] = True
            why[name][chosen & (why[name] == "")] = reason
    return why


@dataclasses.dataclass(frozen=True)
class _Model:
    """The facts about a case that the reasons use.

    tokens (B, T, 2): id and position of each token. sees (B, T, S): the keys that a query sees, those of the past
    first. counts[i] (B, T): whether the input of layer i at that token reaches a score; the last: the input of ln_f.
    """

    arguments: dict[str, Any]
    config: GPT2Config
    past: int
    tokens: Array
    sees: Array
    counts: list[Array]
    stages: dict[str, Array]

    @property
    def head(self) -> str:
        """The name of the last weight."""
        if "score" in self.arguments["params"]:
            return "params.score.weight"
        return "params.wte.weight" if self.config.tie_word_embeddings else "params.lm_head.weight"

    def layers(self) -> Iterator[tuple[str, Array]]:
        """The name of each layer, and the queries (B, T) that count in it."""
        for i, queries in enumerate(self.counts[1:]):
            yield f"h.{i}", queries


def _look_at(case: Case, dtype: np.dtype) -> _Model:
    arguments = build(case, dtype)[0]
    config, ids, mask = case.scalars["config"], arguments["ids"], arguments.get("attention_mask")
    tokens, keys = ids.shape[1], case.sizes["S"]
    past = keys - tokens
    positions = np.broadcast_to(arguments.get("position_ids", np.arange(past, keys)), ids.shape)
    sees = np.broadcast_to(visible_keys(tokens, keys, mask)[:, 0], (len(ids), tokens, keys))
    counts = [_scored(case, ids, mask)]
    for _ in range(config.n_layer):
        counts.insert(0, counts[0] | (sees & counts[0][..., None]).any(axis=1)[:, past:])
    seen: dict[str, Array] = {}
    with observing(keep_in(seen)), np.errstate(all="ignore"):
        case.contract.target(**map_floats(lambda name, x: x.astype(np.float64), arguments))
    return _Model(arguments, config, past, np.stack((ids, positions), axis=-1), sees, counts, seen)


def _scored(case: Case, ids: Array, mask: Array | None) -> Array:
    """The tokens (B, T) whose last hidden state makes a score that means something."""
    kept = np.ones(ids.shape, bool) if mask is None else mask[:, -ids.shape[1] :] != 0
    if "T" in result_axes(case, 1)[0]:
        return kept
    last = np.max(kept * np.arange(ids.shape[1]), axis=1, keepdims=True)
    return kept & (np.arange(ids.shape[1]) == last)


def _no_scores(model: _Model) -> Silence:
    if not model.counts[-1].any():
        for name in float_arguments(model.arguments):
            yield name, ..., "there are only pads: no score means anything"


def _one_channel(model: _Model) -> Silence:
    if model.config.n_embd > 1:
        return
    for name in float_arguments(model.arguments):
        if name not in (model.head, "params.ln_f.bias"):
            yield name, ..., "LayerNorm of one channel gives its bias, whatever comes in"
    if not model.arguments["params"]["ln_f"]["bias"].any():
        yield model.head, ..., "LayerNorm of one channel gives its bias, and that is zero"


def _not_looked_up(model: _Model) -> Silence:
    params = model.arguments["params"]
    for i, name in enumerate(("wte", "wpe")):
        used = model.tokens[model.counts[0]][:, i]
        if f"params.{name}.weight" != model.head:
            rows = np.setdiff1d(np.arange(len(params[name]["weight"])), used)
            yield f"params.{name}.weight", rows, "no token that counts looks this row up"


def _nothing_to_choose(model: _Model) -> Silence:
    """Queries and keys say how to weigh the values. Tokens with the same id, position and past offer the same value."""

    def chooses(sequence: int, query: int) -> bool:
        sees = model.sees[sequence, query]
        alike = len(np.unique(model.tokens[sequence][sees[model.past :]], axis=0)) == 1
        return bool(sees[: model.past].any()) or not alike

    queries_and_keys = np.s_[..., : 2 * model.config.n_embd]
    for name, queries in model.layers():
        if not any(chooses(*where) for where in np.argwhere(queries)):
            for leaf in ("weight", "bias"):
                yield f"params.{name}.attn.c_attn.{leaf}", queries_and_keys, "queries see one key, or keys all alike"


def _softmax_forgets_a_shift(model: _Model) -> Silence:
    """The bias of the keys shifts all scores equally, except those of the past, whose keys do not depend on it."""
    channels, reason = model.config.n_embd, "it shifts all scores of a query alike, and softmax forgets a shift"
    for name, queries in model.layers():
        weights = model.stages[f"{name}.attn.attn_weights"].swapaxes(1, 2)[queries]  # (n, H, S)
        past, new = weights[..., : model.past].sum(axis=-1), weights[..., model.past :].sum(axis=-1)
        forgets = (past * new <= np.finfo(np.float64).eps).all(axis=0)  # (H,): no query weighs both
        where = channels + np.flatnonzero(np.repeat(forgets, model.config.head_size))
        yield f"params.{name}.attn.c_attn.bias", where, reason


def _units_off(model: _Model) -> Silence:
    if model.config.activation_function not in ("relu", "relu2"):
        return
    for name, queries in model.layers():
        off = (model.stages[f"{name}.mlp.c_fc"][queries] <= 0).all(axis=0)
        for leaf, where in (("c_fc.weight", np.s_[:, off]), ("c_fc.bias", off), ("c_proj.weight", off)):
            yield f"params.{name}.mlp.{leaf}", where, "relu: the unit is off at every token that counts"
        if off.all():
            for leaf in ("weight", "bias"):
                yield f"params.{name}.ln_2.{leaf}", ..., "relu: all units are off at every token that counts"


def _hidden_past(model: _Model) -> Silence:
    for i, queries in enumerate(model.counts[1:]):
        seen = (model.sees & queries[..., None]).any(axis=1)[:, : model.past]
        sequences, keys = np.nonzero(~seen)
        for pair in range(2 if model.past else 0):
            yield f"past.{i}.{pair}", (sequences, slice(None), keys), "no query that counts sees this key"


RULES: tuple[Callable[[_Model], Silence], ...] = (
    _no_scores,
    _one_channel,
    _not_looked_up,
    _nothing_to_choose,
    _softmax_forgets_a_shift,
    _units_off,
    _hidden_past,
)
