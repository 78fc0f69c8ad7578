"""What a law is, and helpers with which laws read and change their cases."""

import contextlib
import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gpt2.backends import BackendModel, Decoder
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict
from reference.config import map_tree
from reference.stages import observing

Array = NDArray[Any]
Verdicts = Iterator[Verdict]


@dataclasses.dataclass(frozen=True)
class Law:
    """A law by name. Cases are drawn for the function `draws`; `holds` gives a verdict on each claim of the law."""

    name: str
    draws: str
    holds: Callable[[Trial], Verdicts]
    trains: bool = False
    """Whether it trains models."""
    generates: bool = False
    """Whether it generates text."""

    @property
    def statement(self) -> str:
        """The claim, in one or two sentences."""
        return inspect.cleandoc(self.holds.__doc__ or "").partition("\n\nProof: ")[0]

    @property
    def proof(self) -> str:
        """Why the claim holds, in one paragraph."""
        return inspect.cleandoc(self.holds.__doc__ or "").partition("\n\nProof: ")[2]


LAWS: list[Law] = []


def law(
    draws: str, *, trains: bool = False, generates: bool = False
) -> Callable[[Callable[[Trial], Verdicts]], Callable[[Trial], Verdicts]]:
    """Register a function as a law; `draws` names the function whose cases it gets."""

    def add(holds: Callable[[Trial], Verdicts]) -> Callable[[Trial], Verdicts]:
        LAWS.append(Law(holds.__name__, draws, holds, trains, generates))
        return holds

    return add


# How a law reads its case.


def random_of(trial: Trial) -> np.random.Generator:
    return np.random.default_rng(trial.case.seed)


def given_arguments(trial: Trial, *names: str) -> dict[str, Any]:
    """The named arguments that the case has."""
    return {name: trial.arguments[name] for name in names if name in trial.arguments}


def past_length(trial: Trial) -> int:
    return trial.case.sizes["P"] if "past" in trial.arguments else 0


def mask_of(trial: Trial) -> Array:
    """True where a position, in the past or new, is a token, not a pad: (B, S)."""
    new = trial.arguments["ids" if "ids" in trial.arguments else "x"]
    mask = trial.arguments.get("attention_mask")
    return np.ones((len(new), past_length(trial) + new.shape[1]), bool) if mask is None else mask != 0


def token_rows(trial: Trial) -> Array:
    """True at new tokens, False at pads, whose results mean nothing: (B, T, 1)."""
    return mask_of(trial)[:, past_length(trial) :, None]


def inputs_of(trial: Trial) -> tuple[Array, Array, Array]:
    """ids, attention_mask and position_ids, each (B, T), of a case without a past."""
    ids = trial.arguments["ids"]
    positions = np.broadcast_to(trial.arguments.get("position_ids", np.arange(ids.shape[1])), ids.shape)
    return ids, mask_of(trial).astype(np.int64), positions


def is_tame(*trials: Trial) -> bool:
    """Whether all numbers are so far inside the dtype's range that a hidden key has a weight of exactly 0."""
    end = float(ml_dtypes.finfo(trials[0].dtype).max) / 8  # type: ignore[no-untyped-call] # half of it hides a key
    tame = []

    def note(name: str, x: Any) -> Any:
        tame.append(name.endswith("masked_scores") or bool((np.abs(x) < end).all()))
        return x

    with observing(note), np.errstate(all="ignore"):
        for trial in trials:
            trial.case.contract.target(**trial.arguments)
    return all(tame)


def shared_module(trial: Trial, name: str) -> Any:
    """A module that all backends share, "gpt2.data.rows"; a backend with planted bugs has its own copy."""
    find: Callable[[str], Any] = getattr(trial.backend, "shared_module", importlib.import_module)
    return find(name)


# How a law changes its case.


def changed(
    trial: Trial, sizes: dict[str, int] | None = None, config: dict[str, Any] | None = None, **arguments: Any
) -> Trial:
    """The trial with other sizes, fields of the configuration, and arguments."""
    if config is not None:
        arguments["config"] = dataclasses.replace(trial.arguments["config"], **config)
    case = dataclasses.replace(trial.case, sizes=trial.case.sizes | (sizes or {}))
    return trial.with_arguments(case, **arguments)


def _reweigh(trial: Trial, change: Callable[[str, Array], Array], **others: Any) -> Trial:
    """The trial with change(name, x) in place of every parameter x."""
    return changed(trial, params=map_tree(change, trial.arguments["params"]), **others)


def without_past(trial: Trial) -> Trial:
    """The same new tokens without a past."""
    mask = trial.arguments.get("attention_mask")
    shown = None if mask is None else mask[:, past_length(trial) :]
    return changed(trial, {"P": 0, "S": trial.case.sizes["T"]}, past=None, attention_mask=shown)


def untied(trial: Trial) -> Trial:
    """The same model with the head as a separate parameter."""
    params = {"lm_head": trial.arguments["params"]["wte"], **trial.arguments["params"]}
    return changed(trial, config={"tie_word_embeddings": False}, params=params)


def longer_context(trial: Trial, positions: int) -> Trial:
    """The same model with more positions, unused by tokens: an engine may refuse more tokens than positions."""
    params, length = trial.arguments["params"], trial.case.sizes["L"] + positions
    wpe = {"weight": np.pad(params["wpe"]["weight"], ((0, positions), (0, 0)))}
    return changed(trial, {"L": length}, {"n_positions": length}, params={**params, "wpe": wpe})


def shifted(x: Array, step: float) -> tuple[Array, Array]:
    """Two arrays that differ by exactly `step`: y - step and y, where y is x + step after rounding."""
    there = x + np.array(step, x.dtype)
    return there - np.array(step, x.dtype), there


def scaled_qkv(name: str, x: Array, q: float = 1, k: float = 1, v: float = 1) -> Array:
    """x, but for c_attn with queries, keys and values each multiplied by a number; exact for 0 and powers of two."""
    return x * np.repeat([q, k, v], x.shape[-1] // 3).astype(x.dtype) if "c_attn" in name else x


def other_rows(trial: Trial) -> tuple[Array, Array]:
    """One row (B, T, 1) of x, and x with the other rows changed."""
    x = trial.arguments["x"]
    row = np.zeros((*x.shape[:2], 1), bool)
    row[tuple(random_of(trial).integers(0, x.shape[:2]))] = True
    return row, np.where(row, x, -x[..., ::-1] / 2)  # smaller too: a variance depends on neither sign nor order


def silenced(layer: dict) -> dict:
    """A layer that adds nothing: the last affine maps of both sub-blocks are zero."""
    return map_tree(lambda name, x: np.zeros_like(x) if "c_proj" in name else x, layer)


# How a law calls the backend, and judges its results.


def same_bits(trial: Trial, found: Iterable[Array], expected: Iterable[Array], rows: Array | None = None) -> Verdicts:
    """Verdicts that the arrays are equal, bit for bit."""
    for value, known in zip(found, expected, strict=True):
        yield trial.identical(value, known, rows)


def equal_but_for_rounding(
    trial: Trial, found: Iterable[Array], expected: Iterable[Array], noise: float, rows: Array | None = None
) -> Verdicts:
    """Verdicts that the arrays are equal in exact arithmetic."""
    for value, known in zip(found, expected, strict=True):
        yield trial.close(value, known, noise, rows)


def must_hold(trial: Trial, found: Array) -> Verdict:
    return trial.identical(found, np.ones(found.shape, bool))


def where_offered(*parts: Verdicts) -> Verdicts:
    """The verdicts of all parts, except those that call a function which the backend does not offer.

    Raises NotImplementedError if it offers none.
    """
    missing = []
    for part in parts:
        try:
            yield from part
        except NotImplementedError as error:
            missing.append(error)
    if len(missing) == len(parts):
        raise missing[0]


def model_scores(trial: Trial) -> list[Array]:
    """A whole model's scores from its engine and, if the backend offers it, from the plain function."""
    scores = trial.of("engine.logits", **trial.arguments).run()
    with contextlib.suppress(NotImplementedError):
        scores.append(trial.of("model.language_model", **trial.arguments).run()[0])
    return scores


def scores_by_piece(decoder: Decoder, inputs: tuple[Array, ...], ends: list[int]) -> Iterator[Array]:
    """The scores after each piece of the inputs."""
    for start, end in zip([0, *ends], ends, strict=False):
        decoder.read(*(x[:, start:end] for x in inputs))
        yield decoder.logits()


def everything_returned(model: BackendModel, trial: Trial) -> list[Array]:
    """Everything that a language model returns: scores, a decoder's scores, and every stage."""
    inputs = inputs_of(trial)
    decoder = model.decoder(*inputs[0].shape)
    read = scores_by_piece(decoder, inputs, two_pieces(inputs[0].shape[1]))
    return [model.logits(*inputs), *read, *model.stages(*inputs).values()]


def largest(*arrays: Array) -> float:
    return max(float(np.abs(x).max()) for x in arrays)


def two_pieces(length: int) -> list[int]:
    """Where two pieces end."""
    return sorted({max(1, length // 2), length})


def score_of(scores: Array, chosen: Array) -> Array:
    return np.take_along_axis(scores, chosen.astype(np.int64)[:, None], axis=-1)[:, 0]
