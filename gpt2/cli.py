"""The command `gpt2`. Results go to standard output; what went wrong is one line on standard error, exit code 2."""

import functools
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpt2.backends import DTYPES
from gpt2.bar import Bar
from gpt2.errors import GPT2Error
from gpt2.eval_command import evaluation
from gpt2.finetune_command import classify, summarize, tune
from gpt2.generate_command import generate
from gpt2.lesson_command import compare, lesson
from gpt2.options import engine_facts, engine_options, json_option, load_model, read_prompt
from gpt2.tasks_command import tasks
from gpt2.train_command import train

console = Console(highlight=False)
Result = TypeVar("Result")


def main() -> None:
    """Run the command; turn every foreseen error into one line and exit code 2."""
    warnings.showwarning = lambda message, *_: click.echo(f"gpt2: note: {message}", err=True)
    try:
        cli(standalone_mode=False, prog_name="gpt2")
    except GPT2Error as error:
        _stop(f"gpt2: error: {error}")
    except click.exceptions.Abort:
        _stop("gpt2: interrupted", 130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = "gpt2" if context is None else context.command_path
        _stop(f"gpt2: error: {error.format_message()} (see {command} --help)", error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read the output has gone; nobody is left to tell
        sys.exit(1)


def _stop(message: str, code: int = 2) -> None:
    click.echo(message, err=True)
    sys.exit(code)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, invoke_without_command=True
)
@click.version_option(package_name="gpt2-parity", prog_name="gpt2")
@click.pass_context
def cli(context: click.Context) -> None:
    """GPT-2 twice, in NumPy to read and in MindSpore to run, and a judge that says whether the two agree."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli.add_command(classify)
cli.add_command(compare)
cli.add_command(evaluation)
cli.add_command(generate)
cli.add_command(lesson)
cli.add_command(summarize)
cli.add_command(tasks)
cli.add_command(train)
cli.add_command(tune)


@cli.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--ids", help="Prompt as token ids.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many next tokens to show.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all scores, (1, T, V), to this .npy file.")
@engine_options
@json_option
def logits(
    model: str, prompt: str | None, ids: str | None, top: int, output: Path | None, as_json: bool, **engine: Any
) -> None:
    """Show what MODEL expects after PROMPT."""
    loaded = load_model(model, **engine)
    start = read_prompt(loaded, prompt, ids)
    scores = loaded.logits(start)
    if output is not None:
        _save_array(output, scores)
    last = scores[0, -1].astype(np.float64)
    shifted = np.exp(last - last.max())
    probabilities = shifted / shifted.sum()
    best = np.argsort(-last, kind="stable")[:top]
    rows = [
        {
            "id": int(i),
            "token": None if loaded.tokenizer is None else loaded.decode([i]),
            "logit": float(last[i]),
            "probability": float(probabilities[i]),
        }
        for i in best
    ]
    if as_json:
        click.echo(json.dumps({"next": rows, "shape": scores.shape} | engine_facts(loaded), ensure_ascii=False))
        return
    table = Table("id", "token", "logit", "probability")
    for row in rows:
        token = "" if row["token"] is None else escape(repr(row["token"]))
        table.add_row(str(row["id"]), token, f"{row['logit']:.4f}", f"{row['probability']:.4f}")
    console.print(table)


def _save_array(path: Path, array: np.ndarray) -> None:
    try:
        with path.open("wb") as file:
            np.save(file, array)
    except OSError as error:
        raise GPT2Error(f"cannot write {path}: {error.strerror}") from error


@cli.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--n-head", type=click.IntRange(1), help="Number of heads, where the source does not say it.")
def convert(source: Path, folder: Path, n_head: int | None) -> None:
    """Turn SOURCE, a minGPT or nanoGPT state (.safetensors, or .json with base64 tensors), into a GPT-2 FOLDER."""
    from gpt2.convert import convert as run

    config, count = run(source, folder, n_head)
    click.echo(
        f"{folder}: {config.n_layer} layers, {config.n_head} heads, {config.n_embd} channels, vocabulary "
        f"{config.vocab_size}, context {config.n_positions}; {count} tensors"
    )


@cli.command()
@click.argument("model")
@json_option
def info(model: str, as_json: bool) -> None:
    """Say what MODEL is: its configuration, parameters and tokenizer."""
    from gpt2 import checkpoint
    from gpt2.tokenizer import load_tokenizer

    folder = checkpoint.find_folder(model)
    config = checkpoint.read_config(folder)
    parameters, tokenizer = checkpoint.read_parameters(folder, config), load_tokenizer(folder)
    facts = {
        "head": "classification" if "score.weight" in parameters else "language model",
        "parameters": sum(x.size for x in parameters.values()),
        "tensors": len(parameters),
        "dtype": ", ".join(sorted({x.dtype.name for x in parameters.values()})),
        "tokenizer": None if tokenizer is None else f"{tokenizer.get_vocab_size()} tokens",
        "config": config.to_dict(),
    }
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    table = Table("", escape(str(folder)), show_header=True)
    for name, value in facts.items():
        if name != "config":
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value or "none"))
    for name, value in config.to_dict().items():
        if name not in ("id2label", "label2id"):
            table.add_row(name, "null" if value is None else json.dumps(value))
    console.print(table)


@cli.command()
@click.argument("functions", nargs=-1)
@click.option("--examples", type=click.IntRange(1), default=25, show_default=True, help="Random cases per rule.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed draws the same cases."
)
@click.option("--backend", envvar="GPT2_BACKEND", default="mindspore", show_default=True, help="The engine to judge.")
@click.option("--device", help="CPU, Ascend or GPU  [CPU]")
@click.option("--dtype", type=click.Choice(DTYPES[1:]), default="float32", show_default=True)
@click.option("--mode", help="graph or pynative, for MindSpore  [pynative]")
@click.option("--measure-accuracy", is_flag=True, help="Instead: measure the backend's exp and sigmoid.")
@click.option("--mutants", is_flag=True, help="Instead: try the judge on planted bugs, and say which rule sees which.")
@click.option("--diagnose", is_flag=True, help="With --mutants: say what is made of each failure instead.")
@click.option("--other-rules", is_flag=True, help="Instead: what other projects' rules see of those bugs.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Of --mutants or --other-rules: write the page too.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the report as one HTML file too.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write the report as JUnit XML too.")
@click.option("--expected", type=click.Path(path_type=Path), help="Expected failures, a JSON file (docs/report.md).")
@click.option("--resume", type=click.Path(path_type=Path), help="Keep what is found in this file, and go on from it.")
@json_option
def check(
    functions: tuple[str, ...], examples: int, seed: int, backend: str, device: str | None, dtype: str,
    mode: str | None, measure_accuracy: bool, mutants: bool, diagnose: bool, other_rules: bool, markdown: Path | None,
    html: Path | None, junit: Path | None, expected: Path | None, resume: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Judge a backend against the reference, and by laws that it must keep by itself, on random cases.

    FUNCTIONS are rules by name: functions ("layer_norm"), files ("ops"), "laws", or none for all. Exit code 1 if
    anything differs.
    """
    from gpt2.backends import get_backend
    from parity import check as judge
    from parity.accuracy import measure
    from parity.report import print_results

    if diagnose and not mutants:
        raise GPT2Error("--diagnose is about planted bugs: gpt2 check --mutants --diagnose")
    if mutants or other_rules:
        trial = _diagnose_mutants if diagnose else _try_on_mutants if mutants else _try_other_rules
        sys.exit(trial(examples, seed, markdown, as_json))
    if mode is None and backend == "mindspore":
        mode = "pynative"  # a graph is compiled for every new shape
    engine = get_backend(backend, device, dtype, mode)
    if measure_accuracy:
        click.echo(json.dumps({"device": engine.device, "relative_error": measure(engine)}))
        return
    try:
        rules = judge.select(functions)
    except KeyError as error:
        raise GPT2Error(
            f"no function, file or law {error} in the mirror: try 'layer_norm', 'ops', 'laws' or no name at all"
        ) from error
    shown = None if as_json else console
    report = print_results(
        rules, engine, examples, seed, shown, html=html, junit=junit, expected=expected, resume=resume
    )
    if as_json:
        click.echo(report.to_json())
    sys.exit(report.exit_code)


def _with_progress(run: Callable[[Any], Result]) -> tuple[Result, bool]:
    """What run(work) returns, and whether Ctrl-C ended it early; its progress shows on standard error."""
    from parity.pool import Work

    with Bar() as bar:
        work = Work(watch=functools.partial(bar.show, ""))
        result = run(work)
    if work.interrupted:
        click.echo("gpt2: interrupted: this is what was found until then", err=True)
    return result, work.interrupted


def _write_page(path: Path | None, text: Callable[[], str], interrupted: bool) -> None:
    if path is not None and interrupted:
        click.echo(f"gpt2: note: {path} was not written", err=True)
    elif path is not None:
        _write_text(path, text())


def _exit_code(right: bool, interrupted: bool) -> int:
    return 130 if interrupted else 0 if right else 1


def _try_on_mutants(examples: int, seed: int, markdown: Path | None, as_json: bool) -> int:
    from parity import kill_table
    from parity.hunt import hunt
    from parity.mutants import MUTANTS

    kills, interrupted = _with_progress(lambda work: hunt(MUTANTS, examples, seed, work=work))
    if as_json:
        facts = {"schema": "gpt2-check/1", "seed": seed, "examples": examples, "interrupted": interrupted}
        click.echo(json.dumps(facts | {"mutants": [kill.to_dict() for kill in kills]}))
    else:
        console.print(kill_table.kill_table(kills, interrupted))
        console.print(kill_table.summary(kills), soft_wrap=True)
    _write_page(markdown, lambda: kill_table.markdown(kills, examples, seed), interrupted)
    return _exit_code(all(kill.right for kill in kills), interrupted)


def _diagnose_mutants(examples: int, seed: int, markdown: Path | None, as_json: bool) -> int:
    from parity import diagnosis_table
    from parity.mutants import MUTANTS

    found, interrupted = _with_progress(lambda work: diagnosis_table.measure(MUTANTS, examples, seed, work))
    if as_json:
        facts = {"schema": "gpt2-check/1", "seed": seed, "examples": examples, "interrupted": interrupted}
        click.echo(json.dumps(facts | {"diagnoses": [diagnosis.to_dict() for diagnosis in found]}))
    else:
        console.print(diagnosis_table.diagnosis_table(found))
        console.print(diagnosis_table.summary(found), soft_wrap=True)
    _write_page(markdown, lambda: diagnosis_table.markdown(found, examples, seed), interrupted)
    return _exit_code(diagnosis_table.all_well(found), interrupted)


def _try_other_rules(examples: int, seed: int, markdown: Path | None, as_json: bool) -> int:
    from parity import kill_table
    from parity.mutants import MUTANTS
    from parity.rivals import compare_rules, tried_on

    correct = ["twin:reordered", "mindspore"]
    planted = tried_on(MUTANTS)
    scores, interrupted = _with_progress(lambda work: compare_rules(planted, correct, examples, seed, work))
    if as_json:
        facts = {"schema": "gpt2-check/1", "seed": seed, "examples": examples, "interrupted": interrupted}
        click.echo(json.dumps(facts | {"bugs": len(planted), "rules": [score.to_dict() for score in scores]}))
    else:
        console.print(kill_table.scores_table(scores, len(planted)))
    _write_page(
        markdown, lambda: kill_table.scores_markdown(scores, len(planted), correct, examples, seed), interrupted
    )
    return _exit_code(True, interrupted)


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GPT2Error(f"cannot write {path}: {error.strerror}") from error


@cli.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--ids", help="Prompt as token ids, like '15496 995', for a model without a tokenizer.")
@engine_options
@json_option
def blame(model: str, prompt: str | None, ids: str | None, as_json: bool, **engine: Any) -> None:
    """Say at which stage of MODEL a backend parts from the reference on PROMPT, and by how much at each.

    Every stage is computed twice: in the run as it is, and from the reference's values, so that no error is inherited.
    Exit code 1 if a stage is wrong by itself.
    """
    from parity.blame import blame as find
    from parity.blame import first_wrong

    loaded = load_model(model, **engine)
    stages = find(loaded.backend, loaded.config, loaded.parameters, read_prompt(loaded, prompt, ids))
    first = first_wrong(stages)
    if as_json:
        rows = [
            {"stage": stage.name, "agrees": stage.alone.agrees, "alone": stage.alone.explain(),
             "in_the_run": stage.in_the_run.explain(), "lines": list(stage.lines)}
            for stage in stages
        ]  # fmt: skip
        click.echo(json.dumps({"first_wrong": first and first.name, "stages": rows} | engine_facts(loaded)))
    else:
        table = Table("stage", "by itself", "in the run", title=f"{loaded.backend.name} against the reference")
        for stage in stages:
            table.add_row(stage.name, *(_in_short(verdict) for verdict in (stage.alone, stage.in_the_run)))
        console.print(table)
        console.print(first.explain() if first else "Every stage agrees.", markup=False, soft_wrap=True)
    if first is not None:
        sys.exit(1)


def _in_short(verdict: Any) -> str:
    if verdict.reason or not verdict.agrees:
        return f"[bold red]{'wrong' if verdict.reason else f'{verdict.noise_ratio:.2g} x noise'}[/bold red]"
    return "identical" if verdict.error == 0 else f"{verdict.noise_ratio:.2g} x noise"


@cli.command()
@click.argument("number", required=False)
@click.option("--sources", type=click.Path(path_type=Path), help="Copy the sources with the bug into this new folder.")
@click.option("--answer", is_flag=True, help="Say what the bug is.")
def exercise(number: str | None, sources: Path | None, answer: bool) -> None:
    """Find the bug: each NUMBER is a NumPy GPT-2 with one planted bug, for the judge's tools to find."""
    from parity import exercise as exercises

    count = len(exercises.exercises())
    if number is None:
        click.echo(f"There are {count} exercises: gpt2 exercise 1 to gpt2 exercise {count}")
        return
    bug = exercises.exercise(number)
    if sources is not None:
        exercises.write_sources(number, sources)
        click.echo(f"{sources}: the reference with the bug in it")
    if answer:
        click.echo(f"{bug.name}: {bug.story}\n\n{exercises.difference(bug)}")
    elif sources is None:
        click.echo(
            f"Exercise {number} of {count}: somewhere in this NumPy GPT-2 a few lines are wrong. Which?\n\n"
            f"  gpt2 check --backend exercise:{number}               which functions differ, which laws are broken\n"
            f"  gpt2 blame MODEL PROMPT --backend exercise:{number}  where a model parts from the reference\n"
            f"  gpt2 exercise {number} --sources FOLDER              the sources, to read\n"
            f"  gpt2 exercise {number} --answer                      the solution"
        )


@cli.command()
@click.option("--backend", envvar="GPT2_BACKEND", default="numpy", show_default=True, help="The engine that trains.")
@click.option("--device", help="CPU, Ascend or GPU  [CPU]")
@json_option
def levels(backend: str, device: str | None, as_json: bool) -> None:
    """Show what runs in float16 at each level of mixed precision, O0 to O3, as seen on a small model."""
    from gpt2.backends import get_backend
    from gpt2.levels import dtypes_by_level

    found = dtypes_by_level(get_backend(backend, device))
    if as_json:
        click.echo(json.dumps(found))
        return
    table = Table("stage", *found, title=f"Mixed precision on {backend}", title_justify="left")
    for stage in next(iter(found.values())):
        words = [found[level][stage] for level in found]
        table.add_row(stage, *(f"[bold]{word}[/bold]" if word == "float16" else f"[dim]{word}[/dim]" for word in words))
    console.print(table)


@cli.command()
@click.option("--examples", type=click.IntRange(1), default=25, show_default=True, help="Random cases per function.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw what every head looks at into this PNG file.")
def demo(examples: int, picture: Path | None) -> None:
    """Show the project at work: both engines write with the small model, and are judged. Needs no download."""
    from gpt2.demo import run

    if not run(console, examples, picture):
        sys.exit(1)


if __name__ == "__main__":
    main()
