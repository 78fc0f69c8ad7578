"""The data settings of a run: layout, fields, tokenizer, template, held-out share."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from gpt2.data.formats import FORMATS
from gpt2.data.templates import SCORES, TASK, Template, find_template
from gpt2.errors import GPT2Error

LAYOUTS = ("packed", "padded")
SPLITS = ("drawn", "last")
PIPELINES = {"numpy": "reference.data", "mindspore": "ms_backend.data"}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How to turn a file into rows. Raises GPT2Error, naming the field, for a value outside its range."""

    layout: str | None = None
    """"packed": one stream of tokens, cut into windows; "padded": one row per sample. None: packed for text."""
    block_size: int | None = None
    """Tokens per row. None: the model's context."""
    field: str = "text"
    """The field of a JSON object with the text, or the column of a table: its heading, or its number from 1."""
    format: str | None = None
    """How the file is laid out: "text", "jsonl", "json" (an array), "csv", "tsv", "tsv-plain". None: looked at."""
    encoding: str | None = None
    """The file's encoding, such as "gb18030". None: UTF-8. A byte-order mark goes before both."""
    held_out: float = 0.1
    """The share that is not trained on: the last tokens of packed text, else samples chosen as `split` says."""
    split: str = "drawn"
    """Which samples are held out: "drawn" by the seed, of each label or task its share; "last": the file's last."""
    tokenizer: str = ""
    """"characters", "bytes", "bpe", or a path of a tokenizer. "": the model's, or characters if it has none."""
    pipeline: str = "numpy"
    """"numpy" or "mindspore"; both give the same arrays in the same order."""
    template: str = ""
    """How a record of several fields becomes one text: "{task}: {input}\\n{output}", or a name of `gpt2 tasks`."""
    output: str | None = None
    """The template's field with the answer. None: that of the named template, or "output"."""
    truncate: str | None = None
    """The field that is cut if a padded sample is too long. None: that of the named template, or "input"."""
    score: str = "output"
    """With a template: "output" scores the output and its end, "all" every token."""
    weights: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """How many times the training rows of each task (field "task") are used; 0 leaves them out."""
    label: str = ""
    """The field with the label of a text. If set, a classifier is trained on padded rows of the field `field`."""
    skip_bad: bool = False
    """Skip and count broken lines, instead of stopping at the first."""

    def __post_init__(self) -> None:
        size, share = self.block_size, self.held_out
        self._require("layout", self.layout in (None, *LAYOUTS), f"null or one of {', '.join(LAYOUTS)}")
        self._require(
            "block_size",
            size is None or (type(size) is int and size >= 2),
            "null (the model's context) or an integer of at least 2",
        )
        self._require("held_out", type(share) in (int, float) and 0 <= share < 1, "a number from 0 to below 1")
        self._require("split", self.split in SPLITS, f"one of {', '.join(SPLITS)}")
        self._require("format", self.format in (None, *FORMATS), f"null or one of {', '.join(FORMATS)}")
        self._require("pipeline", self.pipeline in PIPELINES, f"one of {', '.join(PIPELINES)}")
        for field in ("field", "tokenizer", "template", "label"):
            self._require(field, isinstance(getattr(self, field), str), "a string")
        for field in ("output", "truncate", "encoding"):
            self._require(field, isinstance(getattr(self, field), str | None), "null or a string")
        self._require("score", self.score in SCORES, f"one of {', '.join(SCORES)}")
        self._require("skip_bad", isinstance(self.skip_bad, bool), "true or false")
        weights: Any = self.weights
        weighted = isinstance(weights, Mapping) and all(
            isinstance(task, str) and type(weight) is int and weight >= 0 for task, weight in weights.items()
        )
        self._require("weights", weighted, "an object of tasks and whole numbers from 0")
        for field in ("output", "truncate", "weights"):
            self._require(field, bool(self.template) or not getattr(self, field), "left out where there is no template")
        if self.label:
            self._require("layout", self.layout != "packed", "null or 'padded' where there are labels")
            self._require("template", not self.template, "left out where there are labels")
            self._require("label", self.label != self.field, "another field than 'field', which has the text")
        template = self.layout_template()
        if template is not None and self.weights and TASK not in template.fields:
            raise GPT2Error(
                f"data field 'weights' needs a template with the field {TASK!r}, but it is {template.text!r}"
            )

    def layout_template(self) -> Template | None:
        """The template of these settings, or None. Raises GPT2Error if it is not valid."""
        return find_template(self.template, self.output, self.truncate) if self.template else None

    def _require(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise GPT2Error(f"data field {field!r} must be {expected}, but is {getattr(self, field)!r}")


def get_pipeline(name: str) -> Any:
    """The module that makes rows and micro-batches, with the functions windows, pad_rows, batches and order.

    Raises GPT2Error if the name is unknown, or MindSpore is needed and not installed.
    """
    if name not in PIPELINES:
        raise GPT2Error(f"unknown pipeline {name!r}: choose one of {', '.join(PIPELINES)}")
    if name == "mindspore" and importlib.util.find_spec("mindspore") is None:
        raise GPT2Error("pipeline 'mindspore' needs MindSpore: pip install 'gpt2-parity[mindspore]', or take 'numpy'")
    return importlib.import_module(PIPELINES[name])
