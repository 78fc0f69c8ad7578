"""`gpt2 train`: train a model, showing progress and the result."""

import functools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from gpt2.commands.options import echo_json, engine_options, file_options, json_option
from gpt2.errors import counted
from gpt2.progress import ProgressBar
from gpt2.training import run
from gpt2.training.plan import Plan
from reference.config import parameter_shapes


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every training run: the arguments of `gpt2.training.train`."""
    options: list[Callable[..., Any]] = [
        click.option(
            "--data", type=click.Path(path_type=Path), required=True, help="Text, JSON lines or array, CSV or TSV."
        ),
        *file_options(),
        click.option(
            "--output", type=click.Path(path_type=Path), required=True, help="Folder for the model and the run's files."
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="JSON file with settings of model, training and data; or tiny.",
        ),
        click.option("--model", help="Start from the weights of this GPT-2 folder  [new weights]"),
        click.option("--steps", type=click.IntRange(1), help=f"Updates of the weights.  [{run.STEPS}]"),
        click.option("--batch-size", type=click.IntRange(1), help=f"Rows per micro-batch.  [{run.BATCH_SIZE}]"),
        click.option("--seed", type=click.IntRange(0, 2**64 - 1), help=f"Of weights, order and dropout.  [{run.SEED}]"),
        click.option("--save-every", type=click.IntRange(1), help="Steps between two checkpoints.  [a tenth of all]"),
        click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Checkpoints to keep."),
        click.option("--eval-every", type=click.IntRange(1), help="Steps between two evaluations.  [a tenth of all]"),
        click.option(
            "--eval-batches", type=click.IntRange(1), default=200, show_default=True, help="Most per evaluation."
        ),
        click.option(
            "--resume", is_flag=True, help="Resume from the last checkpoint in the output folder, if there is one."
        ),
        click.option(
            "--pipeline", type=click.Choice(["numpy", "mindspore"]), help="What reads the rows; both give the same."
        ),
        click.option("--tensorboard", is_flag=True, help="Also write event files for TensorBoard."),
        click.option("--log", type=click.Path(path_type=Path), help="Append a log to this file."),
        engine_options,
        json_option,
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@click.command()
@click.option("--text", help="The field, or column by heading or number, of the text  [text]")
@training_options
def train(as_json: bool, **options: Any) -> None:
    """Train a GPT-2 on a file. Ctrl-C saves a checkpoint; --resume continues as if there had been no interruption.

    Exit code 130 if interrupted.
    """
    with ProgressBar() as bar:
        result = run.train(**options, watch=functools.partial(show_training, bar), **notices(bar))
    facts = result_facts(result)
    if as_json:
        echo_json(facts)
    else:
        Console(highlight=False).print(facts_table(facts))
    if result.interrupted:
        stop_interrupted(f"at step {result.step}")


def notices(bar: ProgressBar) -> dict[str, Any]:
    """Callbacks of a run: what it is, at its start, and that an interrupt was heard, at once."""
    return {"on_start": lambda plan: bar.say(_summary(plan)), "on_interrupt": _say_interrupted}


def _summary(plan: Plan) -> str:
    recipe, rows, held_out = plan.recipe, plan.corpus.training["ids"], plan.corpus.held_out["ids"]
    model, per_step = recipe.model, recipe.batch_size * recipe.training.accumulate_step
    numbers = sum(math.prod(shape) for shape in parameter_shapes(model, plan.head).values())
    size = ", ".join(map(counted, (model.n_layer, model.n_head, model.n_embd), ("layer", "head", "channel")))
    return (
        f"{size}: {counted(numbers, 'parameter')}; "
        f"{counted(recipe.steps, 'step')} of {per_step} x {counted(rows.shape[1], 'token')}, "
        f"{recipe.steps * per_step / len(rows):.3g} times through {counted(len(rows), 'row')}; "
        f"{counted(len(held_out), 'row')} held out"
    )


def _say_interrupted() -> None:
    """Written past the buffers of standard error, which the interrupted code may be writing to."""
    os.write(2, b"\ngpt2: interrupted: this step is finished first, and a checkpoint is written\n")


def result_facts(result: run.TrainingResult) -> dict[str, Any]:
    """The result of a run, for JSON."""
    return {
        "folder": str(result.folder),
        "step": result.step,
        "loss": _finite(result.loss),
        "validation_loss": _finite(result.validation_loss),
        "perplexity": _finite(result.perplexity),
        "interrupted": result.interrupted,
    }


def stop_interrupted(where: str) -> NoReturn:
    """Exit with code 130, after Ctrl-C."""
    click.echo(f"gpt2: interrupted {where}: --resume continues from there", err=True)
    sys.exit(130)


def show_training(bar: ProgressBar, progress: run.TrainingProgress) -> None:
    """Update the progress bar after a step."""
    words = [f"loss {progress.loss:.4f}"]
    if not math.isnan(progress.validation_loss):
        words.append(f"validation {progress.validation_loss:.4f}")
    words.append(f"lr {progress.lr:.2e}")
    if progress.scale != 1:
        words.append(f"scale {progress.scale:g}")
    words.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    bar.show("  ".join(words), progress.step, progress.steps)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def facts_table(facts: dict[str, Any]) -> Table:
    """The facts of a run as a table."""
    table = Table(show_header=False)
    for name, value in facts.items():
        if name != "interrupted":
            table.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
    return table
