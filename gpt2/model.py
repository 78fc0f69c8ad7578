"""A GPT-2 that somebody uses: weights, tokenizer and backend in one object, with its input checked at the door."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import Tokenizer

from gpt2 import checkpoint
from gpt2.backends import Array, Backend, BackendModel, get_backend
from gpt2.errors import GPT2Error
from gpt2.generation import continue_batch
from gpt2.tokenizer import load_tokenizer
from reference.config import GPT2Config

NO_TOKENIZER = "this model has no tokenizer (tokenizer.json, or vocab.json and merges.txt)"


def load(
    path: str | os.PathLike[str], backend: str | Backend | None = None, device: str | None = None,
    dtype: str | None = None, mode: str | None = None,
) -> "Model":  # fmt: skip
    """Load a GPT-2 folder, or a model of that name from the Hugging Face hub.

    backend: "numpy" or "mindspore" (default: $GPT2_BACKEND, or numpy); device: "CPU", "Ascend", "GPU"; dtype:
    "float32", "float16", "bfloat16", on NumPy "float64" too; mode, on MindSpore: "graph" or "pynative".
    Raises GPT2Error, one line, for whatever is missing, damaged, contradictory or unknown.
    """
    engine = get_backend(backend, device, dtype, mode) if backend is None or isinstance(backend, str) else backend
    folder = checkpoint.find_folder(path)
    config = checkpoint.read_config(folder)
    return Model(config, checkpoint.read_parameters(folder, config), engine, load_tokenizer(folder), folder)


class Model:
    """A GPT-2 with its weights on a backend. The same calls give the same answers on every backend, up to rounding."""

    def __init__(
        self, config: GPT2Config, parameters: checkpoint.Parameters, backend: Backend,
        tokenizer: Tokenizer | None = None, folder: Path | None = None,
    ) -> None:  # fmt: skip
        self.config, self.parameters, self.backend = config, parameters, backend
        self.tokenizer, self.folder = tokenizer, folder
        self.engine: BackendModel = backend.model(config, parameters)

    def logits(
        self, ids: ArrayLike, attention_mask: ArrayLike | None = None, position_ids: ArrayLike | None = None
    ) -> Array:
        """Scores of every next token, (B, T, V), in the backend's dtype.

        ids (B, T) or (T,): integers below vocab_size. attention_mask (B, T): 1 token, 0 pad, default all tokens.
        position_ids (B, T): default 0, 1, 2, ... in every row, as in Hugging Face's forward, whatever the mask says:
        with pads on the left, pass `positions(attention_mask)`. Scores at pads mean nothing.
        Raises GPT2Error for anything out of range.
        """
        return self.engine.logits(*self._check(ids, attention_mask, position_ids))

    def classify(
        self, ids: ArrayLike, attention_mask: ArrayLike | None = None, position_ids: ArrayLike | None = None
    ) -> Array:
        """Scores of every label, (B, K), of a model with the classification head `score`. Arguments as in logits."""
        if "score.weight" not in self.parameters:
            raise GPT2Error("this model has no classification head: expected a checkpoint with score.weight")
        checked = self._check(ids, attention_mask, position_ids)
        if checked[1] is None and self.config.pad_token_id is None and len(checked[0]) > 1:
            raise GPT2Error("a batch to classify needs an attention_mask, or a config with pad_token_id")
        return self.engine.classify(*checked)

    def stages(
        self, ids: ArrayLike, attention_mask: ArrayLike | None = None, position_ids: ArrayLike | None = None
    ) -> dict[str, Array]:
        """Every named stage of the forward pass ("h.0.attn.q", ..., "logits"), in order. Arguments as in logits."""
        return self.engine.stages(*self._check(ids, attention_mask, position_ids))

    def generate(
        self, ids: ArrayLike, max_new_tokens: int = 20, *, attention_mask: ArrayLike | None = None,
        temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0,
        stop_ids: Sequence[int] | None = None, on_token: Callable[[Array], Any] | None = None,
    ) -> Array:  # fmt: skip
        """Continue every sequence: ids (B, T) in, (B, T + new) int64 out.

        Prompts of different lengths are padded on the left, attention_mask (B, T) marking the pads with 0.
        temperature 0 takes the likeliest id each time; above 0 samples, after top_k (0: off) and top_p (1: off), with
        the chance that `seed` gives: the same on every backend. A sequence ends at one of stop_ids (default: the
        config's eos_token_id) and is filled up with the pad id; generation ends when all have, or at max_new_tokens.
        on_token is called with the ids (B,) of each step as they come.
        Raises GPT2Error for anything out of range, also if prompt and new tokens exceed the context.
        """
        checked, mask, _ = self._check(ids, attention_mask, None)
        mask = np.ones_like(checked) if mask is None else mask
        if (np.diff(mask, axis=1) < 0).any() or not mask[:, -1].all():
            raise GPT2Error("generate continues the last token: put the pads (attention_mask 0) on the left")
        _require("max_new_tokens", max_new_tokens, _is_integer(max_new_tokens, 2**63), "an integer of at least 0")
        usable = _is_number(temperature) and (temperature == 0 or 1e-30 <= temperature <= 1e30)
        _require("temperature", temperature, usable, "0 (greedy), or a number from 1e-30 to 1e30")
        _require("top_k", top_k, _is_integer(top_k, 2**63), "an integer of at least 0 (0: off)")
        _require("top_p", top_p, _is_number(top_p) and 0 < top_p <= 1, "a number above 0, and at most 1 (off)")
        _require("seed", seed, _is_integer(seed, 2**64), "an integer from 0 to 2**64 - 1")
        longest = int(mask.sum(axis=1).max())
        room = self.config.n_positions - longest + 1  # the last new token is never read
        if max_new_tokens > room:
            raise GPT2Error(
                f"{longest} tokens and {max_new_tokens} new ones exceed the context of {self.config.n_positions}: "
                f"shorten the prompt, or ask for at most {room}"
            )
        if stop_ids is None:
            stop_ids = [] if self.config.eos_token_id is None else [self.config.eos_token_id]
        stops: list[int] = _integers("stop_ids", stop_ids).reshape(-1).tolist()
        return continue_batch(
            self.engine, checked, mask, max_new_tokens, temperature, top_k, top_p, seed, stops,
            self._fill_id(stops), on_token or (lambda ids: None),
        )  # fmt: skip

    def _fill_id(self, stop_ids: list[int]) -> int:
        if self.config.pad_token_id is not None:
            return self.config.pad_token_id
        return stop_ids[0] if stop_ids else 0

    def encode(self, text: str) -> Array:
        """Ids of a text, (1, T). Raises GPT2Error if the model has no tokenizer, or the text gives no token."""
        if self.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}: give ids instead")
        try:
            ids = self.tokenizer.encode(text).ids
        except (UnicodeEncodeError, TypeError) as error:  # the library takes a lone surrogate for no string at all
            raise GPT2Error(f"the prompt must be valid Unicode text, but is {text!r}") from error
        if not ids:
            raise GPT2Error("the prompt is empty: GPT-2 continues a text, so give at least one token")
        return np.array([ids], np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """Text of ids (T,). Raises GPT2Error if the model has no tokenizer, or the ids are no row of token ids."""
        if self.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}: it speaks in ids")
        checked = _integers("ids", ids)
        if checked.ndim != 1:
            raise GPT2Error(f"decode takes the ids of one sequence, (tokens,), but these have {checked.shape}")
        _in_range("ids", checked, 2**32, "what a tokenizer can hold")
        return self.tokenizer.decode(checked.tolist(), skip_special_tokens=False)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that Hugging Face transformers and `load` read; weights in the dtype they were read in.

        Raises GPT2Error if the folder exists and is not empty, or cannot be written.
        """
        files = [] if self.folder is None else [self.folder / name for name in checkpoint.TOKENIZER_FILES]
        checkpoint.write_folder(Path(folder), self.config, self.parameters, [file for file in files if file.is_file()])

    def _check(
        self, ids: ArrayLike, attention_mask: ArrayLike | None, position_ids: ArrayLike | None
    ) -> tuple[Array, Array | None, Array | None]:
        checked = _integers("ids", ids)
        if checked.ndim == 1:
            checked = checked[None]
        if checked.ndim != 2:
            raise GPT2Error(f"ids must have the shape (batch, tokens), but have {checked.shape}")
        if checked.size == 0:
            raise GPT2Error(f"ids are empty (shape {checked.shape}): give at least one sequence of at least one token")
        vocabulary, context = self.config.vocab_size, self.config.n_positions
        _in_range("ids", checked, vocabulary, "the vocabulary")
        mask = None
        if attention_mask is not None:
            mask = _integers("attention_mask", attention_mask)
            mask = mask[None] if mask.ndim == 1 else mask
            if mask.shape != checked.shape:
                raise GPT2Error(f"attention_mask has shape {mask.shape}, but the ids have {checked.shape}")
            _in_range("attention_mask", mask, 2, "0 (pad) and 1 (token)")
        if position_ids is None:
            if checked.shape[1] > context:
                raise GPT2Error(f"{checked.shape[1]} tokens exceed the context of {context}: shorten the text")
            return checked, mask, None
        positions = _integers("position_ids", position_ids)
        if positions.shape not in (checked.shape, checked.shape[1:], (1, checked.shape[1])):
            raise GPT2Error(f"position_ids has shape {positions.shape}, but the ids have {checked.shape}")
        _in_range("position_ids", positions, context, "the context")
        return checked, mask, np.broadcast_to(positions, checked.shape)


def positions(attention_mask: ArrayLike) -> Array:
    """Position ids (B, T) that count the tokens of attention_mask (B, T) alone; those of pads mean nothing."""
    return np.maximum(np.cumsum(np.asarray(attention_mask, np.int64), axis=1) - 1, 0)


def _integers(name: str, value: ArrayLike) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise GPT2Error(
            f"{name} must be a rectangle of integers: pad shorter rows on the left, and mask the pads"
        ) from error
    if array.size and array.dtype.kind not in "biu":
        raise GPT2Error(f"{name} must be integers below 2**63, but are {array.dtype}")
    integers = array.astype(np.int64)
    if (integers < 0).any() and array.dtype.kind == "u":
        raise GPT2Error(f"{name} must be integers below 2**63, but one is {array.max()}")
    return integers


def _in_range(name: str, array: Array, end: int, what: str) -> None:
    wrong = array[(array < 0) | (array >= end)]
    if wrong.size:
        raise GPT2Error(f"{name}: {wrong[0]} is outside {what}: expected 0 to {end - 1}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_integer(value: object, end: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 <= int(value) < end


def _require(name: str, value: Any, holds: Any, expected: str) -> None:
    if not holds:
        raise GPT2Error(f"{name} must be {expected}, but is {value!r}")
