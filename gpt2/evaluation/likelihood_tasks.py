"""Tasks that score the likelihood of given text: perplexity, LAMBADA, the Children's Book Test."""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpt2.data.formats import read_source
from gpt2.data.records import BrokenLines
from gpt2.errors import GPT2Error
from gpt2.evaluation.base import EvaluationReport, Run
from gpt2.evaluation.files import json_records, text_lines
from gpt2.evaluation.likelihood import Span, continuation, score, token_log_probabilities
from gpt2.json_input import Filled, object_with
from gpt2.model.model import Model


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """Perplexity of a whole file as one stream of tokens, by a sliding window.

    Source: GPT-2 paper, section 3.1. It divides by units of the original data (words, bytes, characters), as do
    word_perplexity, bits_per_byte and bits_per_character here; perplexity is per token, as in Hugging Face's guide.
    Different: the first token, which nothing predicts, is not scored (with a stride equal to the context that of each
    window, which then counts as the mean of the others); the paper's invertible de-tokenizers are not
    applied; the paper does not state its stride.
    """

    stride: int | None = None
    """Tokens from one window to the next. None: half the context, as in Hugging Face's guide (512 of 1024)."""

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[str]:
        """The lines of a text file."""
        return [line for _, line in text_lines(path, broken, encoding)]

    def judge(self, model: Model, samples: list[str], run: Run) -> EvaluationReport:
        """The scores. Raises GPT2Error for a stride that does not fit, or a text of fewer than two tokens."""
        text = "\n".join(samples)
        ids = model.encode(text)[0]
        if len(ids) < 2:
            raise GPT2Error(f"the text has {len(ids)} token, and the first is not predicted: give at least two")
        stride = max(1, model.config.n_positions // 2) if self.stride is None else self.stride
        scored = token_log_probabilities(model, ids, stride, run)
        loss, count = -float(scored.sum()), len(scored)
        whole = loss * ((len(ids) - 1) / count)  # a token that no window predicts counts as the mean of the others
        bits = whole / math.log(2)
        scores = {
            "perplexity": _exp(loss / count),
            "loss": loss / count,
            "word_perplexity": _exp(whole / max(1, len(text.split()))),
            "bits_per_byte": bits / len(text.encode()),
            "bits_per_character": bits / len(text),
        }
        return EvaluationReport(scores, count, [], {"stride": stride, "context": model.config.n_positions})


def _exp(x: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(x))


class Passage(NamedTuple):
    """A text, and the word that follows it and is to be predicted."""

    where: str
    before: str
    word: str


@dataclasses.dataclass(frozen=True)
class Lambada:
    """LAMBADA: the last word of a passage. Files: JSON lines with the field "text", or one passage per line.

    A word counts as right if each of its tokens is the likeliest; perplexity is per word, not per token.
    Source: GPT-2 paper, section 3.3. Different: no stop-word filter (the paper: 52.66 without, 63.24 with it).
    """

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[Passage]:
        """One sample for each line that is not blank."""
        source = read_source(path, encoding=encoding)
        if source.form not in ("jsonl", "json"):
            texts = [(where, line) for where, line in text_lines(path, broken, encoding) if line.strip()]
            return _each(broken, texts, _passage)
        records = list(json_records(source, object_with({"text": Filled}), broken))
        return _each(broken, records, lambda where, record: _passage(where, record["text"]))

    def judge(self, model: Model, samples: list[Passage], run: Run) -> EvaluationReport:
        """Accuracy and perplexity of the last words."""
        pairs = _spans(model, samples, run, _last_word)
        examples, losses = [], []
        for (passage, _), scored in zip(pairs, score(model, [span for _, span in pairs], run), strict=True):
            right, log_probability = bool(scored.likeliest.all()), float(scored.log_probabilities.sum())
            losses.append(-log_probability)
            examples.append(
                {
                    "where": passage.where,
                    "text": passage.before,
                    "expected": passage.word,
                    "right": right,
                    "log_probability": log_probability,
                }
            )
        if not examples:
            return EvaluationReport({}, 0, [])
        scores = {"accuracy": _percent(examples), "perplexity": _exp(float(np.mean(losses)))}
        return EvaluationReport(scores, len(examples), examples)


def _passage(where: str, text: str) -> Passage:
    words = text.split()
    if len(words) < 2:
        raise GPT2Error(f"expected a passage of at least two words, but it has {len(words)}")
    return Passage(where, text.rstrip().removesuffix(words[-1]).rstrip(), words[-1])


def _last_word(model: Model, passage: Passage) -> Span:
    return continuation(model, passage.before, f" {passage.word}")


BLANK = "XXXXX"
SENTENCES = 21  # the last one is the query
# Undo what the Penn Treebank tokenizer did to the text.
DETOKENIZE = (
    (r"-LRB-\s*", "("),
    (r"\s*-RRB-", ")"),
    (r"``\s*", '"'),
    (r"\s*''", '"'),
    (r"\s+([,.;:!?])", r"\1"),
    (r"\s+(n't|'(?:s|re|ve|ll|d|m))\b", r"\1"),
)


class Cloze(NamedTuple):
    """A text with a blank in its last sentence, the candidates for it, and the answer."""

    where: str
    before: str
    after: str
    candidates: tuple[str, ...]
    answer: str


@dataclasses.dataclass(frozen=True)
class ChildrensBookTest:
    """Children's Book Test: choose the candidate for the blank. Files: such as cbtest_CN_test_2500ex.txt.

    The choice is the candidate for which candidate and rest of the sentence are the most probable.
    Source: GPT-2 paper, section 3.2; Hill et al. 2015. Different: the paper's de-tokenizer is not published; this one
    joins punctuation, quotes, brackets and contractions.
    """

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[Cloze]:
        """Read blocks of 20 numbered lines and a query: sentence, tab, answer, two tabs, candidates separated by |."""
        blocks: list[tuple[str, list[str]]] = []
        for where, line in text_lines(path, broken, encoding):
            if line.startswith("1 ") or (line.strip() and not blocks):
                blocks.append((where, []))
            if line.strip():
                blocks[-1][1].append(line.rstrip("\r"))
        return _each(broken, blocks, _cloze)

    def judge(self, model: Model, samples: list[Cloze], run: Run) -> EvaluationReport:
        """Accuracy."""
        pairs = _spans(model, samples, run, _fillings)
        scored = score(model, [span for _, spans in pairs for span in spans], run)
        examples = []
        for cloze, spans in pairs:
            totals = [float(next(scored).log_probabilities.sum()) for _ in spans]
            chosen = cloze.candidates[int(np.argmax(totals))]
            examples.append(
                {
                    "where": cloze.where,
                    "text": f"{cloze.before}{BLANK}{cloze.after}",
                    "expected": cloze.answer,
                    "answer": chosen,
                    "right": chosen == cloze.answer,
                    "log_probabilities": dict(zip(cloze.candidates, totals, strict=True)),
                }
            )
        return EvaluationReport({"accuracy": _percent(examples)} if examples else {}, len(examples), examples)


def _cloze(where: str, lines: list[str]) -> Cloze:
    """Parse a block; where is the place of its first line."""
    sentences = [line.removeprefix(f"{number} ") for number, line in enumerate(lines, 1)]
    wrong = next((line for line, sentence in zip(lines, sentences, strict=True) if line == sentence), None)
    if wrong is not None:
        raise GPT2Error(f"the block that begins here has a line without its number: {wrong[:60]!r}")
    if len(lines) != SENTENCES:
        raise GPT2Error(f"the block that begins here has {len(lines)} sentences: expected {SENTENCES}")
    columns = [column.strip() for column in sentences[-1].split("\t")]
    if len(columns) != 4:
        raise GPT2Error(f"expected sentence, answer, nothing, candidates with tabs between, but {len(columns)} columns")
    query, answer, _, listed = columns
    candidates = tuple(listed.split("|"))
    if BLANK not in query:
        raise GPT2Error(f"the query has no {BLANK}")
    if answer not in candidates or "" in candidates or len(set(candidates)) != len(candidates):
        raise GPT2Error(f"expected different candidates of which {answer!r} is one, but they are {listed!r}")
    text = " ".join([*sentences[:-1], query])
    for pattern, by in DETOKENIZE:
        text = re.sub(pattern, by, text)
    before, _, after = text.rpartition(BLANK)
    return Cloze(where, before, after, candidates, answer)


def _fillings(model: Model, cloze: Cloze) -> list[Span]:
    """A span for each candidate with the rest of the sentence, all after the same text."""
    before = cloze.before.rstrip()
    space = cloze.before[len(before) :]
    spans = [continuation(model, before, f"{space}{candidate}{cloze.after}") for candidate in cloze.candidates]
    shared = min(span.first for span in spans)
    return [Span(span.ids[span.first - shared :], shared) for span in spans]


def _spans(model: Model, samples: list[Any], run: Run, make: Callable[[Model, Any], Any]) -> list[tuple[Any, Any]]:
    """Each sample with its span or spans to score; samples that the model cannot read are left out."""
    items = [(sample.where, sample) for sample in samples]
    return _each(run.broken, items, lambda where, sample: (sample, make(model, sample)))


def _each(broken: BrokenLines, items: list[tuple[str, Any]], make: Callable[[str, Any], Any]) -> list[Any]:
    """make(where, item) for each item; broken items are left out."""
    made = []
    for where, item in items:
        with broken.at(where):
            made.append(make(where, item))
    return made


def _percent(examples: list[dict[str, Any]]) -> float:
    return 100 * sum(example["right"] for example in examples) / len(examples)
