"""`gpt2 finetune`, `gpt2 summarize` and `gpt2 classify`: train for a task, evaluate, and use the model."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gpt2.commands.help import GroupedCommands
from gpt2.commands.options import (
    LOADING,
    echo_json,
    engine_facts,
    file_options,
    json_option,
    load_model,
    loading_options,
    require_one,
    standard_input,
)
from gpt2.commands.train import facts_table, notices, result_facts, show_training, stop_interrupted, training_options
from gpt2.data.records import BrokenLines, Record, read_texts
from gpt2.data.templates import find_template
from gpt2.errors import GPT2Error, counted
from gpt2.finetune import run
from gpt2.finetune.classifier import Classifier, label_names
from gpt2.finetune.summarizer import GENERATION, Summarizer
from gpt2.model.hf_folder import REGRESSION, find_folder, read_problem
from gpt2.model.model import Model
from gpt2.progress import ProgressBar

SHOWN = 3  # samples of an evaluation that are printed


def _shared(command: Any) -> Any:
    """Add the options that both kinds of fine-tuning share, beside those of training."""
    for option in (
        click.option("--limit", type=click.IntRange(1), help="Evaluate on the first samples only  [all]"),
        click.option(
            "--judge-batch",
            "batch",
            type=click.IntRange(1),
            default=run.BATCH_SIZE,
            show_default=True,
            help="Samples per batch of the evaluation.",
        ),
        click.option("--skip-bad", is_flag=True, help="Skip and count broken lines, instead of stopping."),
        click.option("--tokenizer", help="characters, bytes, bpe, or a path  [the model's own, or bpe]"),
        click.option("--test", type=click.Path(path_type=Path), help="Evaluate on this file  [the held-out share]"),
    ):
        command = option(command)
    return command


def _generation_options(command: Any) -> Any:
    """Add the options of generation; the defaults are the course's."""
    kinds = {
        "max_new_tokens": "Most tokens of a summary.",
        "num_beams": "Number of beams; 1: greedy.",
        "no_repeat_ngram_size": "Repeat no n-gram of this size, article included; 0: off.",
    }
    for name, text in reversed(kinds.items()):
        option = click.option(
            f"--{name.replace('_', '-')}", name, type=int, default=GENERATION[name], show_default=True, help=text
        )
        command = option(command)
    return command


@click.group("finetune", cls=GroupedCommands)
def tune() -> None:
    """Train a GPT-2 for a task, and evaluate it on that task at the end."""


@tune.command("summarize")
@click.option("--article", help="The field, or column by heading or number, of the article  [article]")
@click.option("--summary", help="The field, or column by heading or number, of the summary  [summarization]")
@_shared
@_generation_options
@training_options
def tune_summarizer(
    as_json: bool, max_new_tokens: int, num_beams: int, no_repeat_ngram_size: int, **options: Any
) -> None:
    """Train a summariser on pairs in JSON, CSV or TSV, and evaluate it by ROUGE in OUTPUT/evaluation.json.

    The template is the course's, "[CLS] article [SEP] summary [SEP]", or "article TL;DR: summary" for a tokenizer
    without these tokens. Exit code 130 if interrupted; --resume continues the training or the evaluation.
    """
    generation = {
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "no_repeat_ngram_size": no_repeat_ngram_size,
    }
    with ProgressBar() as bar:
        watch = functools.partial(show_training, bar)
        outcome = run.summarize(**options, generation=generation, watch=watch, count=bar.show, **notices(bar))
    _report(outcome, as_json, ("reference", "model", "lead"))


@tune.command("classify")
@click.option("--text", help="The field, or column by heading or number, of the text  [text]")
@click.option("--label", help="The field, or column by heading or number, of the label  [label]")
@_shared
@training_options
def tune_classifier(as_json: bool, **options: Any) -> None:
    """Train a classifier on labelled texts in JSON, CSV or TSV, and report its accuracy.

    Exit code 130 if interrupted; --resume continues.
    """
    with ProgressBar() as bar:
        watch = functools.partial(show_training, bar)
        outcome = run.classify(**options, watch=watch, count=bar.show, **notices(bar))
    _report(outcome, as_json, ("text", "label", "predicted"))


tune.add_sections({"Tasks": (tune_summarizer, tune_classifier)}, prefix="finetune ")


def _report(outcome: run.FinetuneResult, as_json: bool, shown: tuple[str, ...]) -> None:
    facts, report = result_facts(outcome.result), outcome.evaluation
    if outcome.result.plan.corpus.labels:
        del facts["perplexity"]  # meaningless for labels
    if as_json:
        without = None if report is None else {name: x for name, x in report.items() if name not in ("examples", "of")}
        more = {"interrupted": outcome.interrupted, "evaluation": without}
        echo_json(facts | more)
    else:
        console = Console(highlight=False)
        console.print(facts_table(facts))
        if report is not None:
            _show(console, report, shown)
    if outcome.result.interrupted:
        stop_interrupted(f"at step {outcome.result.step}")
    if outcome.interrupted:
        stop_interrupted("in the evaluation")


def _show(console: Console, report: dict[str, Any], shown: tuple[str, ...]) -> None:
    for example in report["examples"][:SHOWN]:
        for name in shown:
            console.print(f"{name}: {example[name]}", markup=False, soft_wrap=True)
        console.print()
    columns = list(next(iter(report["scores"].values())))
    table = Table(f"{counted(report['samples'], 'sample')}, in percent", *columns)
    for name, scores in report["scores"].items():
        table.add_row(name, *(f"{scores[column]:.2f}" for column in columns))
    console.print(table)


def _texts_options(command: Any) -> Any:
    """Add the options of the commands that use a fine-tuned model."""
    options: list[Any] = [
        json_option,
        loading_options,
        *file_options(),
        click.option("--field", help="The field or column of the texts in --file  [as in training]"),
        click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Texts per batch."),
        click.option("--file", type=click.Path(path_type=Path), help="Texts, one per line, or JSON, CSV or TSV."),
        click.argument("text", required=False),
        click.argument("folder"),
    ]
    for option in options:
        command = option(command)
    return command


@click.command()
@click.option("--template", help="The template of the training: a text with {fields}, or a name of `gpt2 tasks`.")
@_generation_options
@_texts_options
def summarize(
    folder: str,
    text: str | None,
    file: Path | None,
    batch_size: int,
    field: str | None,
    format: str | None,
    encoding: str | None,
    template: str | None,
    as_json: bool,
    max_new_tokens: int,
    num_beams: int,
    no_repeat_ngram_size: int,
    **engine: Any,
) -> None:
    """Summarise TEXT ("-": standard input) with the model in FOLDER, made by `gpt2 finetune summarize`.

    The end of an article that is too long is cut, with a note on standard error.
    """
    model, task = _load(folder, run.SUMMARIZE, engine)
    chosen = find_template(template or task.get("template", run.SUMMARIZE), *_names(task, template))
    generation = {
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "no_repeat_ngram_size": no_repeat_ngram_size,
    }
    block_size = task.get("block_size", model.config.n_positions)
    summarizer = Summarizer(model, chosen, block_size, generation)
    records = _records(text, file, field or summarizer.article, format, encoding)
    prompts = []
    for record in records:
        with BrokenLines().at(record.where):
            prompt, cut = summarizer.prompt({summarizer.article: next(iter(record.values.values()))})
        _note_cut(cut, record, "article")
        prompts.append(prompt)
    summaries: list[str] = []
    for answers in summarizer.write_all(prompts, batch_size):
        summaries += answers
        for answer in answers if not as_json else []:
            click.echo(answer)
    if as_json:
        echo_json({"summaries": summaries} | engine_facts(model))


def _names(task: dict[str, Any], template: str | None) -> tuple[str | None, str | None]:
    """The fields of output and article, unless the user gave a template."""
    return (None, None) if template else (task.get("output"), task.get("truncate") or None)


@click.command()
@_texts_options
def classify(
    folder: str,
    text: str | None,
    file: Path | None,
    batch_size: int,
    field: str | None,
    format: str | None,
    encoding: str | None,
    as_json: bool,
    **engine: Any,
) -> None:
    """Classify TEXT ("-": standard input) with the classifier in FOLDER, and show the probability of each label.

    One label, or several that do not exclude each other (problem_type of config.json), have a probability each; of a
    regression it is the value.
    """
    model, task = _load(folder, run.CLASSIFY, engine)
    found = find_folder(folder)
    labels, problem = label_names(found, model.config.num_labels), read_problem(found)
    classifier = Classifier(model, labels, task.get("block_size", model.config.n_positions), problem)
    records = _records(text, file, field or task.get("field", "text"), format, encoding)
    rows = []
    for record in records:
        with BrokenLines().at(record.where):
            row, cut = classifier.read(next(iter(record.values.values())))
        _note_cut(cut, record, "text")
        rows.append(row)
    chances = classifier.probabilities(rows, batch_size)
    what = "values" if problem == REGRESSION else "probabilities"
    results = [
        {"label": labels[row.argmax()], what: dict(zip(labels, map(float, row), strict=True))} for row in chances
    ]
    if as_json:
        echo_json({"labels": results} | engine_facts(model))
        return
    for line in _lines([result[what] for result in results]):
        click.echo(line)


def _lines(results: list[dict[str, float]]) -> Iterator[str]:
    """For one text: every label, the likeliest first. For several: the likeliest label of each."""
    for result in results:
        ranked = sorted(result.items(), key=lambda pair: -pair[1])
        for label, chance in ranked if len(results) == 1 else ranked[:1]:
            yield f"{label}\t{chance:.4f}"


def _load(folder: str, task: str, engine: dict[str, Any]) -> tuple[Model, dict[str, Any]]:
    """The model, and the contents of its task.json. Raises GPT2Error if it was trained for another task."""
    noted = run.read_task(find_folder(folder))
    if noted.get("task", task) != task:
        raise GPT2Error(f"{folder} was trained to {noted['task']}: use `gpt2 {noted['task']}`, or another folder")
    return load_model(folder, **{name: engine[name] for name in LOADING}), noted


def _records(text: str | None, file: Path | None, field: str, form: str | None, encoding: str | None) -> list[Record]:
    """The texts to read. Raises GPT2Error unless exactly one of text and file is given, or if the text is empty."""
    require_one({"TEXT": text, "--file": file}, "FOLDER")
    if file is not None:
        return read_texts(file, field, BrokenLines(), form, encoding)
    content = standard_input() if text == "-" else str(text)
    if not content.strip():
        raise GPT2Error("the text is empty: give some words")
    return [Record("the text", {field: content})]


def _note_cut(cut: bool, record: Record, what: str) -> None:
    if cut:
        click.echo(
            f"gpt2: note: {record.where}: the {what} is too long for the model, and was cut at its end", err=True
        )
