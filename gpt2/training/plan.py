"""The plan of a training run: its settings, its rows, its tokenizer, and the weights that it starts from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from gpt2.backends import Array, Batch
from gpt2.data.corpus import Corpus, read_corpus
from gpt2.data.dropout_masks import draw_keep
from gpt2.data.templates import SPECIAL, Template
from gpt2.errors import GPT2Error, counted
from gpt2.files import write_text
from gpt2.model import hf_folder
from gpt2.tokenizer import end_id, id_count, load_tokenizer, settings_of, surroundings
from gpt2.training import recipe
from gpt2.training.checkpoint import Checkpoint
from gpt2.training.initial_weights import initial_parameters
from gpt2.training.recipe import Recipe

TOKENIZER, TOKENIZER_SETTINGS = "tokenizer.json", "tokenizer_config.json"
SCORE = "score.weight"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a run: its settings, as given and resolved, its rows, and the model that it starts from."""

    given: dict[str, Any]
    recipe: Recipe
    corpus: Corpus
    start: Path | None
    """The folder with the initial weights; None for new weights."""

    def facts(self) -> dict[str, Any]:
        """Everything that must not change when the run is resumed, for JSON."""
        return {
            "given": self.given,
            "recipe": json.loads(json.dumps(self.recipe.to_dict())),
            "data": self.corpus.fingerprint,
            "tokenizer": hashlib.sha256(self.corpus.tokenizer.to_str().encode()).hexdigest(),
        }

    @property
    def head(self) -> str:
        """The model's head: with labels a classifier."""
        return "sequence_classifier" if self.corpus.labels else "language_model"

    def parameters(self) -> Mapping[str, Array]:
        """The initial weights. A language model that becomes a classifier gets a head initialised from the seed."""
        if self.start is None:
            return initial_parameters(self.recipe.model, self.recipe.seed, self.head)
        parameters = hf_folder.read_parameters(self.start, self.recipe.model)
        if self.head == "language_model" and SCORE in parameters:
            raise GPT2Error(f"{self.start} holds a classifier ({SCORE}): start from a language model instead")
        if self.head == "sequence_classifier" and SCORE not in parameters:
            return parameters | {SCORE: initial_parameters(self.recipe.model, self.recipe.seed, self.head)[SCORE]}
        return parameters

    def batch(self, rows: dict[str, Array], micro_batch: int) -> Batch:
        """The micro-batch of this number: its rows and its dropout masks."""
        batch_size, tokens = rows["ids"].shape
        keep = draw_keep(self.recipe.model, batch_size, tokens, self.recipe.seed, micro_batch)
        return Batch(**rows, keep=keep)


def make_plan(data: Path, given: dict[str, Any], pipeline: str | None, begun: Path | None) -> Plan:
    """Read everything that the settings name; begun is the folder of the resumed run, which has the tokenizer.

    Raises GPT2Error for anything missing, damaged or contradictory.
    """
    sections, steps, batch_size = given["config"], given["steps"], given["batch_size"]
    start = None if given["model"] is None else begun or hf_folder.find_folder(given["model"])
    fields = recipe.model_fields(sections) if start is None else hf_folder.read_config(start).to_dict()
    settings, training = recipe.data_settings(sections, pipeline), recipe.training_settings(sections, steps)
    shape = recipe.model_settings(fields)
    corpus = read_corpus(
        data,
        settings,
        shape.n_positions,
        _tokenizer_of(begun or start),
        shape.vocab_size if "vocab_size" in fields else None,
        shape.pad_token_id,
        training.ignore_index,
        None if start is None else hf_folder.read_labels(start),
        given["seed"],
    )
    tokens = _tokens_of(corpus.tokenizer, settings.layout_template())
    if start is None:
        config = recipe.model_settings(tokens | fields)
    else:
        config = recipe.with_dropout(hf_folder.read_config(start), sections)
    if corpus.labels:  # Hugging Face needs a pad id to find a row's last token; GPT-2 has none, so the end id serves
        pads = (config.pad_token_id, tokens["pad_token_id"], tokens["eos_token_id"])
        pad = next((token for token in pads if token is not None), None)
        config = dataclasses.replace(config, num_labels=len(corpus.labels), pad_token_id=pad)
    if len(corpus.training["ids"]) < batch_size:
        raise GPT2Error(
            f"{data} gives {counted(len(corpus.training['ids']), 'row')} to train on, but a batch has {batch_size}: "
            "give more text, or a smaller batch size or block_size"
        )
    return Plan(given, Recipe(config, training, settings, steps, batch_size, given["seed"]), corpus, start)


def _tokenizer_of(folder: Path | None) -> Tokenizer | None:
    return None if folder is None else load_tokenizer(folder)


def _tokens_of(tokenizer: Tokenizer, template: Template | None) -> dict[str, Any]:
    """The configuration fields of a new model that follow from its tokenizer, unless the settings override them.

    A text ends with what the template ends with, with what the tokenizer puts after it (BERT's [SEP]), or with the
    end-of-text token. It begins with what the tokenizer puts before it (BERT's [CLS]), or after the end of another.
    """
    opening, end = surroundings(tokenizer)[0], None if template is None else closing_token(template, tokenizer)
    end = end_id(tokenizer) if end is None else end
    return {
        "vocab_size": id_count(tokenizer),
        "bos_token_id": opening[-1] if opening else end,
        "eos_token_id": end,
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
    }


def closing_token(template: Template, tokenizer: Tokenizer) -> int | None:
    """The id of the special token that the template ends with, such as [SEP]; None if there is none."""
    last = template.parts[-1]
    return tokenizer.token_to_id(last.text) if last.role == "end" and last.text in SPECIAL else None


def require_as_before(plan: Plan, checkpoint: Checkpoint) -> None:
    """Raise GPT2Error, naming the setting, if anything that affects the weights has changed since the checkpoint."""
    now, before = plan.facts(), checkpoint.facts
    for name, what in (("data", "the data file"), ("tokenizer", "the tokenizer")):
        if now[name] != before[name]:
            raise GPT2Error(f"{what} has changed since the checkpoint: give the one that the run began with")
    old, new = before["recipe"], now["recipe"]
    for section in recipe.SECTIONS:
        defaults = type(getattr(plan.recipe, section))  # for settings that are newer than the checkpoint
        for field, value in new[section].items():
            was = old[section].get(field, getattr(defaults, field, None))
            if field != "pipeline" and value != was:
                raise GPT2Error(
                    f"{field} is {value!r} now, but was {was!r} when the run was begun (with "
                    f"{counted(old['steps'], 'step')}): leave out --config and --steps to resume, or begin a new run"
                )
    for field, is_now, was in (
        ("batch_size", new["batch_size"], old["batch_size"]),
        ("seed", new["seed"], old["seed"]),
        ("model", now["given"]["model"], before["given"]["model"]),
    ):
        if is_now != was:
            raise GPT2Error(f"{field} is {is_now} now, but was {was} when the run was begun: leave it out")
    if plan.recipe.steps < checkpoint.step:
        raise GPT2Error(
            f"the run has made {counted(checkpoint.step, 'step')}, more than {plan.recipe.steps}: give more, or none"
        )


def write_beginning(folder: Path, plan: Plan, dtype: str) -> None:
    """Write tokenizer and configuration, which are known before training."""
    config, tokenizer = plan.recipe.model, plan.corpus.tokenizer
    fields = hf_folder.config_fields(config, plan.head, dtype, plan.corpus.labels)
    end = next(iter(config.end_ids), None)  # a tokenizer has one
    named = {"bos_token": config.bos_token_id, "eos_token": end, "pad_token": config.pad_token_id}
    for name, text in (
        (TOKENIZER, tokenizer.to_str(pretty=True)),
        (TOKENIZER_SETTINGS, json.dumps(settings_of(tokenizer, **named), indent=2, ensure_ascii=False) + "\n"),
        (hf_folder.CONFIG, json.dumps(fields, indent=2) + "\n"),
    ):
        write_text(folder / name, text)
