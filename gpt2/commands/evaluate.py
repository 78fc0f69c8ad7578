"""`gpt2 eval`: zero-shot evaluation on the tasks of the GPT-2 paper."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from gpt2.commands.generate import SEPARATOR
from gpt2.commands.options import (
    LOADING,
    echo_json,
    encoding_option,
    engine_facts,
    json_option,
    load_model,
    loading_options,
)
from gpt2.errors import GPT2Error
from gpt2.evaluation import EvaluationReport, evaluate, find_task
from gpt2.progress import ProgressBar


@click.command("eval")
@click.argument("model")
@click.argument("task")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The file with the samples.")
@encoding_option
@click.option("--limit", type=click.IntRange(1), help="Use only the first samples (perplexity: lines)  [all]")
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Samples per batch.")
@click.option("--stride", type=int, help="Perplexity: tokens between windows  [half the context]")
@click.option("--option", "pairs", multiple=True, metavar="NAME=VALUE", help="An option of the task. Repeatable.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of sampling.")
@click.option("--skip-bad", is_flag=True, help="Skip and count broken samples, instead of stopping.")
@click.option("--examples", is_flag=True, help="Show each sample: prompt, expected answer, answer.")
@loading_options
@json_option
def evaluation(
    model: str,
    task: str,
    data: Path,
    encoding: str | None,
    limit: int | None,
    batch_size: int,
    stride: int | None,
    pairs: tuple[str, ...],
    seed: int,
    skip_bad: bool,
    examples: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Evaluate MODEL on TASK: perplexity, lambada, cbt, tldr, translation, questions, or a task of another package."""
    options = dict(map(_option, pairs)) | ({} if stride is None else {"stride": stride})
    chosen = find_task(task, options)
    loaded = load_model(model, **{name: engine[name] for name in LOADING})
    with ProgressBar() as bar:
        report = evaluate(
            loaded,
            chosen,
            data,
            limit=limit,
            batch_size=batch_size,
            seed=seed,
            skip_bad=skip_bad,
            encoding=encoding,
            watch=functools.partial(bar.show, task),
        )
    if as_json:
        echo_json(_facts(task, report, examples) | engine_facts(loaded))
        return
    for example in report.examples if examples else []:
        for name, value in example.items():
            click.echo(f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
        click.echo(SEPARATOR)
    _show(task, report)


def _option(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise GPT2Error(f"--option must be NAME=VALUE, but is {pair!r}")
    return name.replace("-", "_"), value


def _facts(task: str, report: EvaluationReport, examples: bool) -> dict[str, Any]:
    scores = {name: score if math.isfinite(score) else None for name, score in report.scores.items()}  # JSON has no NaN
    facts: dict[str, Any] = {"task": task, "scores": scores, "samples": report.samples, "skipped": report.skipped}
    return facts | report.facts | ({"examples": report.examples} if examples else {})


def _show(task: str, report: EvaluationReport) -> None:
    table = Table(task, "")
    for name, score in report.scores.items():
        table.add_row(name, f"{score:.6g}")
    for name, fact in ({"samples": report.samples} | report.facts).items():
        table.add_row(name, str(fact))
    Console(highlight=False).print(table)
