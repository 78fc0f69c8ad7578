"""Log-probabilities of given tokens under a model: the basis of perplexity, last words and cloze tests."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from gpt2.backends import Array
from gpt2.errors import GPT2Error
from gpt2.evaluation.base import Run
from gpt2.model.model import NO_TOKENIZER, Model
from gpt2.tokenizer import encode_prompt
from reference.ops import log_softmax


@dataclasses.dataclass(frozen=True)
class Span:
    """Tokens to read, ids (T,); those from index `first` on are scored. first is at least 1."""

    ids: Array
    first: int


@dataclasses.dataclass(frozen=True)
class Scored:
    """For each scored token: its natural log-probability in float64, and whether it is the likeliest token."""

    log_probabilities: Array
    likeliest: Array


def score(model: Model, spans: Sequence[Span], run: Run) -> Iterator[Scored]:
    """Yield the scores of each span, computed in batches.

    Rows are padded on the right, which a causal model ignores. They are padded to few different lengths, as MindSpore
    compiles for every new shape.
    """
    rows = max(1, min(run.batch_size, len(spans)))
    for start in range(0, len(spans), rows):
        batch = spans[start : start + rows]
        longest = max(len(span.ids) for span in batch)
        ids = np.zeros((rows, min(1 << (longest - 1).bit_length(), model.config.n_positions)), np.int64)
        for row, span in zip(ids, batch, strict=False):
            row[: len(span.ids)] = span.ids
        scores = model.logits(ids)
        run.watch(start + len(batch), len(spans))
        for logits, span in zip(scores, batch, strict=False):
            yield _score(logits[span.first - 1 : len(span.ids) - 1], span.ids[span.first :])


def _score(logits: Array, targets: Array) -> Scored:
    """Score the tokens targets (N,) by logits (N, V)."""
    wide = logits.astype(np.float64)
    log_probabilities = log_softmax(wide)[np.arange(len(targets)), targets]
    return Scored(log_probabilities, wide.argmax(axis=-1) == targets)


def windows(tokens: int, context: int, stride: int) -> list[tuple[int, int, int]]:
    """Windows (begin, first, end) on a text: tokens begin to end are read, tokens first to end are scored.

    Each token is scored once, except the very first, which nothing predicts. A window begins every `stride` tokens and
    is as long as the context, so after the first window each scored token has at least context - stride before it.
    With a stride equal to the context, nothing predicts the first token of any window, and it is not scored.
    Raises GPT2Error for a stride outside 1 to context, or a context of one token.
    Source: "Perplexity of fixed-length models" in the documentation of Hugging Face transformers.
    """
    if context < 2:
        raise GPT2Error("the model's context is one token: it predicts no token of a text from another")
    if not 1 <= stride <= context:
        raise GPT2Error(f"stride must be from 1 to {context}, the model's context, but is {stride}")
    result, scored = [], 1
    for begin in range(0, tokens, stride):
        end = min(begin + context, tokens)
        first = max(scored, begin + 1)
        if first < end:
            result.append((begin, first, end))
        if end == tokens:
            break
        scored = end
    return result


def token_log_probabilities(model: Model, ids: Array, stride: int, run: Run) -> Array:
    """Log-probabilities, float64, of those of a text's ids (N,) that `windows` scores, in their order."""
    places = windows(len(ids), model.config.n_positions, stride)
    spans = [Span(ids[begin:end], first - begin) for begin, first, end in places]
    return np.concatenate([scored.log_probabilities for scored in score(model, spans, run)])


def continuation(model: Model, before: str, after: str) -> Span:
    """The tokens of before + after; those of `after` are scored.

    A space between them belongs to `after`, as GPT-2's tokens begin with their space. The tokens that the tokenizer
    puts before a text, such as [CLS], are its beginning. If the text exceeds the context, its beginning is left out.
    Raises GPT2Error if `after` has no token, or no token of `before` remains.
    """
    if model.tokenizer is None:
        raise GPT2Error(f"{NO_TOKENIZER}: a task is text")
    first = len(encode_prompt(model.tokenizer, before))
    ids = np.array(encode_prompt(model.tokenizer, before + after), np.int64)
    count = len(ids) - first
    if first == 0 or count < 1:
        raise GPT2Error(f"expected at least a token before, and one of, {after!r}")
    context = model.config.n_positions
    cut = max(0, len(ids) - context)
    if cut >= first:
        raise GPT2Error(f"{count} tokens to score leave no room for one before them: the context is {context}")
    return Span(ids[cut:], first - cut)
