"""The class Model: weights, tokenizer and backend in one object that checks its input."""

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import Tokenizer

from gpt2.arguments import in_range, integers
from gpt2.backends import Array, Backend, BackendModel, get_backend
from gpt2.errors import EndOfContextWarning, GPT2Error, NotFiniteError, counted
from gpt2.generation.config import GenerationConfig
from gpt2.generation.keywords import config_from, takes_options
from gpt2.generation.loop import Generation, continue_batch
from gpt2.generation.notes import end_of_context
from gpt2.generation.reader import Watch
from gpt2.generation.saved import SavedOptions, read_saved
from gpt2.interrupt import postponed_interrupt
from gpt2.model import hf_folder
from gpt2.model.stages import Stages
from gpt2.tokenizer import decode, encode_prompt, load_tokenizer, surroundings
from reference.config import GPT2Config

NO_TOKENIZER = "this model has no tokenizer (tokenizer.json, vocab.json and merges.txt, or vocab.txt)"


def load(
    path: str | os.PathLike[str],
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str | None = None,
    mode: str | None = None,
    allow_nan: bool = False,
) -> "Model":
    """Load a GPT-2 folder, or a model from the Hugging Face hub by its name.

    backend: "numpy" or "mindspore" (default: $GPT2_BACKEND, or numpy); device: "CPU", "Ascend", "GPU"; dtype:
    "float32", "float16", "bfloat16", on NumPy "float64" too; mode: "graph" or "pynative" on MindSpore, "eager" or
    "plain" on NumPy. allow_nan: load weights that hold NaN or infinity.
    Raises GPT2Error, one line, for anything missing, damaged, contradictory or unknown.
    """
    engine = get_backend(backend, device, dtype, mode) if backend is None or isinstance(backend, str) else backend
    folder = hf_folder.find_folder(path)
    config = hf_folder.read_config(folder)
    try:
        parameters = hf_folder.read_parameters(folder, config, allow_nan)
    except NotFiniteError as error:
        raise GPT2Error(f"{error}, or load it all the same: allow_nan=True") from error
    return Model(config, parameters, engine, load_tokenizer(folder), folder, read_saved(folder))


class Model:
    """A GPT-2 with its weights on a backend. The same calls give the same results on every backend, up to rounding."""

    def __init__(
        self,
        config: GPT2Config,
        parameters: hf_folder.Parameters,
        backend: Backend,
        tokenizer: Tokenizer | None = None,
        folder: Path | None = None,
        saved: SavedOptions | None = None,
    ) -> None:
        """saved: options of generation; the ids in it that end and pad a text go before those of config."""
        self.saved = saved or SavedOptions()
        self.config, self.parameters, self.backend = config, parameters, backend
        self.tokenizer, self.folder = tokenizer, folder
        self.engine: BackendModel = backend.model(config, parameters)

    def __repr__(self) -> str:
        """What the model is, its size, and where it runs, in one line."""
        config, backend = self.config, self.backend
        name = "" if self.folder is None else f" {self.folder.name}"
        size = ", ".join(map(counted, (config.n_layer, config.n_head, config.n_embd), ("layer", "head", "channel")))
        where = ", ".join(filter(None, (backend.name, backend.device, backend.dtype, backend.mode)))
        return f"<GPT-2{name}: {size}, vocabulary {config.vocab_size}, context {config.n_positions}; {where}>"

    def logits(
        self, ids: ArrayLike, attention_mask: ArrayLike | None = None, position_ids: ArrayLike | None = None
    ) -> Array:
        """Logits of the next token at every position, (B, T, V), in the backend's dtype.

        ids (B, T) or (T,): integers below vocab_size. attention_mask (B, T): 1 token, 0 padding; default all tokens.
        position_ids (B, T): default 0, 1, 2, ... in every row, as in Hugging Face's forward, whatever the mask: with
        padding on the left, pass `positions(attention_mask)`. Logits at padding are meaningless.
        Raises GPT2Error for anything out of range.
        """
        return self.engine.logits(*self._check(ids, attention_mask, position_ids))

    def classify(
        self, ids: ArrayLike, attention_mask: ArrayLike | None = None, position_ids: ArrayLike | None = None
    ) -> Array:
        """Logits of every label, (B, K), of a model with the classification head `score`. Arguments as for logits."""
        if "score.weight" not in self.parameters:
            raise GPT2Error("this model has no classification head: expected a checkpoint with score.weight")
        checked = self._check(ids, attention_mask, position_ids)
        if checked[1] is None and self.config.pad_token_id is None and len(checked[0]) > 1:
            raise GPT2Error("a batch to classify needs an attention_mask, or a config with pad_token_id")
        return self.engine.classify(*checked)

    def stages(
        self, ids: ArrayLike, attention_mask: ArrayLike | None = None, position_ids: ArrayLike | None = None
    ) -> dict[str, Array]:
        """Every named stage of the forward pass ("h.0.attn.q", ..., "logits"), in order. Arguments as for logits.

        A name that is not among them raises a KeyError that names the nearest.
        """
        return Stages(self.engine.stages(*self._check(ids, attention_mask, position_ids)))

    @takes_options
    def generate(
        self,
        ids: ArrayLike,
        max_new_tokens: int = 20,
        *,
        attention_mask: ArrayLike | None = None,
        on_token: Callable[[Array], Any] | None = None,
        **options: Any,
    ) -> Array:
        """Continue every sequence: ids (B, T) or (T,) in, (B * num_return_sequences, T + new) int64 out.

        Pad prompts of different lengths on the left; attention_mask (B, T) is 0 there, and 1 at tokens. options: the
        other fields of `gpt2.generation.GenerationConfig`; the default is greedy decoding. A sequence ends at one of
        stop_ids (default: eos_token_id of generation_config.json, or else of the config) and is then padded with the
        pad id. It also ends, with an EndOfContextWarning, where the context (n_positions) is full: at most
        n_positions + 1 tokens, as the last one is not read. Generation ends when all sequences have ended, or at
        max_new_tokens: `new` is the length of the longest continuation. With num_return_sequences = n, each prompt has
        n consecutive rows. on_token is called with the ids (rows,) of each step.
        Raises GPT2Error for anything out of range, also for a prompt that exceeds the context, and TypeError for an
        unknown option.
        """
        config = config_from(max_new_tokens, options)
        found = self._continue(ids, attention_mask, config, on_token, lambda: False, scored=False)
        self._warn_of_context(found)
        return found.ids

    @takes_options
    def generate_all(
        self,
        ids: ArrayLike,
        max_new_tokens: int = 20,
        *,
        attention_mask: ArrayLike | None = None,
        on_token: Callable[[Array], Any] | None = None,
        scored: bool = True,
        **options: Any,
    ) -> Generation:
        """generate, but also returns log-probabilities, scores and the reason why each sequence ended.

        Arguments, warning and errors as for generate. scored: whether to compute log-probabilities and scores, which
        is slower (beam search always does). Ctrl-C ends generation early: the ids so far are returned, with
        finish_reason "interrupted".
        """
        config = config_from(max_new_tokens, options)
        with postponed_interrupt() as interrupt:
            found = self._continue(ids, attention_mask, config, on_token, lambda: interrupt.asked, scored)
        self._warn_of_context(found)
        return found

    def _warn_of_context(self, found: Generation) -> None:
        note = end_of_context(found.new_ids, found.finish_reasons, self.config.n_positions)
        if note:
            warnings.warn(f"{note}: sliding_window=True goes on", EndOfContextWarning, stacklevel=3)

    def _continue(
        self,
        ids: ArrayLike,
        attention_mask: ArrayLike | None,
        config: GenerationConfig,
        on_token: Callable[[Array], Any] | None,
        interrupted: Callable[[], bool],
        scored: bool,
    ) -> Generation:
        checked = self._check_ids(ids)
        mask = np.ones_like(checked) if attention_mask is None else _check_mask(attention_mask, checked)
        if (np.diff(mask, axis=1) < 0).any() or not mask[:, -1].all():
            raise GPT2Error("generate continues the last token: put the pads (attention_mask 0) on the left")
        config = self.complete(config)
        self._check_room(int(mask.sum(axis=1).max()), config)
        if on_token is not None and config.num_beams > 1:
            raise GPT2Error("on_token cannot follow a beam search, which has no text before its end: leave it out")
        decode = None if self.tokenizer is None else self.decode
        # a backend may have its own loops: those with planted bugs do
        run: Callable[..., Generation] = getattr(self.backend, "continue_batch", continue_batch)
        watch = Watch(decode, on_token or (lambda ids: None), interrupted)
        with np.errstate(over="ignore", invalid="ignore"):  # the loop itself reports what overflows
            context = self.config.n_positions
            return run(self.engine, checked, mask, config, context, self._fill_id(config), scored, watch)

    def complete(self, config: GenerationConfig) -> GenerationConfig:
        """The options, with the model's stop id if they name none. Raises GPT2Error if they do not fit the model.

        GenerationConfig has checked everything else.
        """
        for word in config.bad_words:
            in_range("bad_words", np.array(word), self.config.vocab_size, "the vocabulary")
        if config.stop_strings and self.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}, so stop_strings cannot be found: give stop_ids instead")
        if config.stop_ids is not None:
            return config
        return dataclasses.replace(config, stop_ids=self.end_ids)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end a text, unless the caller names others."""
        return self.saved.end_ids(self.config.end_ids)

    def _check_room(self, longest: int, config: GenerationConfig) -> None:
        context = self.config.n_positions
        if longest > context and config.max_new_tokens and not config.sliding_window:
            raise GPT2Error(
                f"{longest} tokens exceed the context of {context}: shorten the prompt by {longest - context}, or let "
                "the model see the last tokens alone (sliding_window=True, --sliding-window)"
            )

    def _fill_id(self, config: GenerationConfig) -> int:
        pad = self.saved.fields.get("pad_token_id", self.config.pad_token_id)
        if pad is not None:
            return pad
        return config.stop_ids[0] if config.stop_ids else 0

    def encode(self, text: str) -> Array:
        """Encode a text that is to be continued: ids (1, T), with the tokens that the tokenizer puts before a text.

        BERT's tokenizer puts [CLS] there; the [SEP] that it puts after a text would end it, and is left out.
        Raises GPT2Error if the model has no tokenizer, a character has no token, or the text is empty.
        """
        if self.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}: give ids instead")
        ids = encode_prompt(self.tokenizer, text)
        if not ids:
            raise GPT2Error("the prompt is empty: GPT-2 continues a text, so give at least one token")
        return np.array([ids], np.int64)

    def beginning(self) -> Array:
        """The prompt without a word: ids (1, T) of what begins every text.

        It is bos_token_id of generation_config.json, or else of the config, or else what the tokenizer puts before a
        text. Raises GPT2Error if there is none, or if it is outside the vocabulary.
        """
        begin = self.saved.fields.get("bos_token_id", self.config.bos_token_id)
        opening = [] if self.tokenizer is None else surroundings(self.tokenizer)[0]
        ids = opening if begin is None else [begin]
        if not ids:
            raise GPT2Error(
                "the prompt is empty, and no bos_token_id of the model says how a text begins: give at least one token"
            )
        in_range("bos_token_id", np.array(ids), self.config.vocab_size, "the vocabulary")
        return np.array([ids], np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """Decode ids (T,) to text, special tokens included. No spaces are put between Chinese characters.

        Raises GPT2Error without a tokenizer, or for ids of another shape or range.
        """
        if self.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}: it speaks in ids")
        checked = integers("ids", ids)
        if checked.ndim != 1:
            raise GPT2Error(f"decode takes the ids of one sequence, (tokens,), but these have {checked.shape}")
        in_range("ids", checked, 2**32, "what a tokenizer can hold")
        return decode(self.tokenizer, checked.tolist())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that Hugging Face transformers and `load` read; weights keep the dtype they were read in.

        Raises GPT2Error if the folder exists and is not empty, or cannot be written.
        """
        files = [] if self.folder is None else hf_folder.files_beside(self.folder)
        labels = None if self.folder is None else hf_folder.read_labels(self.folder)
        problem = None if self.folder is None else hf_folder.read_problem(self.folder)
        hf_folder.write_folder(Path(folder), self.config, self.parameters, files, labels or (), problem)

    def _check(
        self, ids: ArrayLike, attention_mask: ArrayLike | None, position_ids: ArrayLike | None
    ) -> tuple[Array, Array | None, Array | None]:
        checked, context = self._check_ids(ids), self.config.n_positions
        mask = None if attention_mask is None else _check_mask(attention_mask, checked)
        if position_ids is None:
            if checked.shape[1] > context:
                raise GPT2Error(f"{checked.shape[1]} tokens exceed the context of {context}: shorten the text")
            return checked, mask, None
        positions = integers("position_ids", position_ids)
        if positions.shape not in (checked.shape, checked.shape[1:], (1, checked.shape[1])):
            raise GPT2Error(f"position_ids has shape {positions.shape}, but the ids have {checked.shape}")
        in_range("position_ids", positions, context, "the context")
        return checked, mask, np.broadcast_to(positions, checked.shape)

    def _check_ids(self, ids: ArrayLike) -> Array:
        checked = integers("ids", ids)
        if checked.ndim == 1:
            checked = checked[None]
        if checked.ndim != 2:
            raise GPT2Error(f"ids must have the shape (batch, tokens), but have {checked.shape}")
        if checked.size == 0:
            raise GPT2Error(f"ids are empty (shape {checked.shape}): give at least one sequence of at least one token")
        in_range("ids", checked, self.config.vocab_size, "the vocabulary")
        return checked


def _check_mask(attention_mask: ArrayLike, ids: Array) -> Array:
    mask = integers("attention_mask", attention_mask)
    mask = mask[None] if mask.ndim == 1 else mask
    if mask.shape != ids.shape:
        raise GPT2Error(f"attention_mask has shape {mask.shape}, but the ids have {ids.shape}")
    in_range("attention_mask", mask, 2, "0 (pad) and 1 (token)")
    return mask


def left_padded(prompts: list[Array]) -> tuple[Array, Array]:
    """Prompts of any lengths as one batch, ids and attention_mask (B, T), padded on the left."""
    longest = max(map(len, prompts))
    ids, mask = np.zeros((2, len(prompts), longest), np.int64)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :], mask[i, longest - len(prompt) :] = prompt, 1
    return ids, mask


def positions(attention_mask: ArrayLike) -> Array:
    """Position ids (B, T) that count only the tokens of attention_mask (B, T); those of padding are meaningless."""
    return np.maximum(np.cumsum(np.asarray(attention_mask, np.int64), axis=1) - 1, 0)
