"""A model that knows texts by heart, and files of samples for it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from gpt2.backends import Array
from gpt2.model.model import Model
from gpt2.tokenizer import train_tokenizer
from reference.config import GPT2Config

LETTERS = "?" + "".join(map(chr, range(32, 127))).replace("?", "") + "\n中文好今天很气"


class ByHeart:
    """An engine that goes on as the texts do that it knows, and writes ? elsewhere. A token is a character."""

    name, device, dtype, mode = "by heart", "CPU", "float64", "eager"

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        self.texts, self.tokenizer = texts, tokenizer

    def model(self, config: GPT2Config, parameters: Any) -> "ByHeart":
        return self

    def next_scores(self, ids: Sequence[int]) -> Array:
        read = self.tokenizer.decode(list(ids))
        found = [text for text in self.texts if read in text[:-1]]
        known = found[0][found[0].index(read) + len(read)] if found else "?"
        scores = np.zeros(len(LETTERS))
        scores[self.tokenizer.token_to_id(known)] = 800  # so much that all else has the probability 0
        return scores

    def logits(self, ids: Array, attention_mask: Any = None, position_ids: Any = None) -> Array:
        return np.array([[self.next_scores(row[: i + 1]) for i in range(len(row))] for row in ids.tolist()])

    def decoder(self, batch_size: int, length: int) -> "Recital":
        return Recital(self, batch_size)


class Recital:
    """A batch that ByHeart continues."""

    def __init__(self, engine: ByHeart, rows: int) -> None:
        self.engine, self.read_ids = engine, [[] for _ in range(rows)]  # type: list[list[int]]

    def read(self, ids: Array, attention_mask: Array, position_ids: Array) -> None:
        for row, new, kept in zip(self.read_ids, ids, attention_mask, strict=True):
            row += new[kept != 0].tolist()

    def logits(self) -> Array:
        return np.array([self.engine.next_scores(row) for row in self.read_ids])

    def greedy(self) -> Array:
        self.chosen = self.logits().argmax(axis=1)
        return self.chosen

    def sample(self, uniform: Array, temperature: float, *cuts: float) -> Array:
        assert (temperature, *cuts) == (1.0, 2, 1.0, 0.0, 1.0)  # GPT-2 paper, section 3.6
        return self.greedy()

    def advance(self) -> None:
        for row, new in zip(self.read_ids, self.chosen.tolist(), strict=True):
            row.append(new)


def reciter(*texts: str, context: int = 4000) -> Model:
    """A model that knows these texts."""
    tokenizer = train_tokenizer("characters", [LETTERS])
    config = GPT2Config(vocab_size=len(LETTERS), n_positions=context, n_embd=2, n_layer=1, n_head=1)
    engine: Any = ByHeart(texts, tokenizer)
    return Model(config, {}, engine, tokenizer)


def written(folder: Path, name: str, content: Any) -> Path:
    """A file with that text; JSON lines of a list, JSON of an object."""
    path = folder / name
    if isinstance(content, list):
        content = "".join(json.dumps(line) + "\n" for line in content)
    path.write_bytes(
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    return path


def block(query: str, answer: str, candidates: str, before: str = "It is so .") -> str:
    """One sample of the Children's Book Test."""
    lines = [f"{i} {before}" for i in range(1, 21)]
    return "\n".join([*lines, f"21 {query}\t{answer}\t\t{candidates}"]) + "\n"


CBT = [
    block("`` Where is XXXXX ? '' he said .", "Tom", "Ann|Tom|Bob"),
    block("He did n't see XXXXX go .", "Bob", "Ann|Tom|Bob"),
]

ARTICLES = [
    {"article": "It rained all day.\nThe match was off.", "highlights": "Match off. Rain. Sad."},
    {"article": "今天天气很好", "highlights": "天气好"},
]


COQA = {
    "data": [
        {
            "story": "Ann has a cat.",
            "questions": [{"input_text": "Who?"}, {"input_text": "What?"}],
            "answers": [{"input_text": "Ann"}, {"input_text": "a cat"}],
            "additional_answers": {"0": [{"input_text": "Ann."}, {"input_text": "the black cat"}]},
        }
    ]
}
