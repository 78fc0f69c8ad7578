"""Summarise articles with a model that was trained on pairs in the same template."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpt2.data.templates import Sample, Template
from gpt2.errors import GPT2Error
from gpt2.evaluation.metrics import words
from gpt2.model.model import NO_TOKENIZER, Model, left_padded
from gpt2.tokenizer import end_id
from gpt2.training.plan import closing_token

# The course's generation options; see gpt2.generation.GenerationConfig.
GENERATION: Mapping[str, Any] = {"max_new_tokens": 50, "num_beams": 5, "no_repeat_ngram_size": 2}


@dataclasses.dataclass(frozen=True)
class Summarizer:
    """A model, and the layout of its training samples. Raises GPT2Error if the model has no tokenizer."""

    model: Model
    template: Template
    block_size: int
    """Tokens per sample, summary included."""
    generation: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(GENERATION))
    """Options of `Model.generate_all`, max_new_tokens among them."""

    def __post_init__(self) -> None:
        if self.model.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}: a summary is text")

    @property
    def article(self) -> str:
        """The field of the article. Raises GPT2Error if the template has other fields than article and summary."""
        inputs = [field for field in self.template.fields if field != self.template.output]
        if len(inputs) != 1:
            raise GPT2Error(f"a template with an article and a summary is needed, but it is {self.template.text!r}")
        return inputs[0]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end a summary: the template's final special token, or the tokenizer's end of a text."""
        assert self.model.tokenizer is not None
        closing = closing_token(self.template, self.model.tokenizer)
        end = end_id(self.model.tokenizer) if closing is None else closing
        return self.model.end_ids if end is None else (end,)

    def prompt(self, record: Mapping[str, str]) -> tuple[list[int], bool]:
        """The prompt's ids, leaving room for the summary, and whether the article was cut.

        Only the end of the article is cut, as in training. Raises GPT2Error if nothing of it would remain.
        """
        assert self.model.tokenizer is not None
        new = self.generation["max_new_tokens"]
        room = self.block_size - new + 1  # the last new token is not read
        if room < 1:
            raise GPT2Error(f"{new} new tokens leave no room for an article in {self.block_size}: ask for fewer")
        whole = self.template.lay_out({**record, self.template.output: ""}, self.model.tokenizer)
        kept = [i for i, role in enumerate(whole.roles) if role not in ("output", "end")]
        prompt = Sample(whole.ids[kept], tuple(whole.roles[i] for i in kept), tuple(whole.fields[i] for i in kept))
        fitting = prompt.cut(room, self.template.truncate or self.article)
        return fitting.ids.tolist(), fitting is not prompt

    def write(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """One summary per prompt, without its end token. Raises KeyboardInterrupt at Ctrl-C."""
        ids, mask = left_padded([np.array(prompt, np.int64) for prompt in prompts])
        generation = self.model.generate_all(
            ids, attention_mask=mask, scored=False, stop_ids=self.stop_ids, **self.generation
        )
        if "interrupted" in generation.finish_reasons:
            raise KeyboardInterrupt
        return [self.text(new) for new in generation.new_ids]

    def text(self, new_ids: Sequence[int]) -> str:
        """Decode new ids, without the end token."""
        return self.model.decode([i for i in new_ids if i not in self.stop_ids]).strip()

    def write_all(
        self, prompts: Sequence[Sequence[int]], batch_size: int, watch: Callable[[int], Any] = lambda done: None
    ) -> Iterator[list[str]]:
        """Yield the summaries of each batch; watch is a callback that gets the number of prompts done."""
        for first in range(0, len(prompts), batch_size):
            batch = prompts[first : first + batch_size]
            yield self.write(batch)
            watch(first + len(batch))


def lead(article: str, count: int) -> str:
    """The first `count` words of an article, or characters if it is Chinese, counted as ROUGE does."""
    end = 0
    for i, match in enumerate(words().finditer(article)):
        if i == count:
            break
        end = match.end()
    return article[:end]


def mean_length(texts: Sequence[str]) -> int:
    """Mean length of texts in words or Chinese characters, at least 1."""
    return max(1, math.floor(sum(len(words().findall(text)) for text in texts) / len(texts) + 0.5))
