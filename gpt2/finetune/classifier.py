"""Classify texts with a fine-tuned model."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.arguments import is_finite
from gpt2.backends import Array
from gpt2.data.rows import classifier_ids
from gpt2.errors import GPT2Error, counted
from gpt2.model import hf_folder
from gpt2.model.hf_folder import MULTI_LABEL, REGRESSION
from gpt2.model.model import NO_TOKENIZER, Model
from reference.data import pad_rows
from reference.elementary import sigmoid
from reference.ops import softmax


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model with the head `score`, its label names, and the number of tokens of a text that it reads.

    Raises GPT2Error if the model has no such head or no tokenizer, or a different number of labels.
    """

    model: Model
    labels: Sequence[str]
    block_size: int
    problem: str | None = None
    """The config's problem_type: what the scores of the labels mean."""

    def __post_init__(self) -> None:
        if "score.weight" not in self.model.parameters:
            raise GPT2Error("this model has no classification head (score.weight): gpt2 finetune classify makes one")
        if self.model.tokenizer is None:
            raise GPT2Error(f"{NO_TOKENIZER}: what is classified is text")
        if len(self.labels) != self.model.config.num_labels:
            names = counted(len(self.labels), "name")
            raise GPT2Error(f"{names} for {counted(self.model.config.num_labels, 'label')}: fix id2label")

    def read(self, text: str) -> tuple[Array, bool]:
        """The ids of a text, and whether it was cut. Raises GPT2Error if it has no token."""
        assert self.model.tokenizer is not None
        return classifier_ids(self.model.tokenizer, text, self.block_size)

    def probabilities(
        self, rows: Sequence[Array], batch_size: int, watch: Callable[[int], Any] = lambda done: None
    ) -> Array:
        """Probability of every label, (R, K), for R rows from `read`. watch is a callback that gets the number done.

        Labels exclude each other (softmax), unless problem is "multi_label_classification" or there is one label
        (sigmoid). Of a "regression" it is the scores themselves. Raises GPT2Error for scores that are NaN or infinite.
        Source: `TextClassificationPipeline` of Hugging Face transformers.
        """
        padded, batches = pad_rows(rows, max(map(len, rows)), self.model.config.pad_token_id or 0), []
        for first in range(0, len(rows), batch_size):
            part = slice(first, first + batch_size)
            scores = self.model.classify(padded["ids"][part], padded["attention_mask"][part])
            batches.append(self._chances(scores.astype(np.float32)))
            watch(first + len(scores))
        return np.concatenate(batches)

    def _chances(self, scores: Array) -> Array:
        if not is_finite(scores):
            raise GPT2Error("the scores of the labels are NaN or infinite: in float16, use --dtype float32")
        if self.problem == REGRESSION:
            return scores
        return sigmoid(scores) if self.problem == MULTI_LABEL or scores.shape[1] == 1 else softmax(scores)


def label_names(folder: Path, count: int) -> Sequence[str]:
    """The label names of a folder, or Hugging Face's placeholders if it has none."""
    return hf_folder.read_labels(folder) or [f"LABEL_{i}" for i in range(count)]
