"""Tests of the judge: `gpt2 kill-table`, `diagnosis-table`, `explanation-table`, `other-rules`, `reach`, ..."""

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from gpt2.commands.options import console, echo_json, json_option, judged_engine, judged_engine_options, search_options
from gpt2.errors import GPT2Error
from gpt2.files import require_writable, write_text
from gpt2.progress import ProgressBar

Found = TypeVar("Found")

markdown_option = click.option("--markdown", type=click.Path(path_type=Path), help="Also write the docs page.")


def _require(engines: Iterable[str]) -> None:
    """Raise GPT2Error if MindSpore is among the engines that are to run, and not installed."""
    if "mindspore" in engines and importlib.util.find_spec("mindspore") is None:
        raise GPT2Error("this also runs MindSpore, which is not installed: pip install 'gpt2-parity[mindspore]'")


@click.command("kill-table")
@search_options(25)
@markdown_option
@json_option
def kill_table(examples: int, seed: int, markdown: Path | None, as_json: bool) -> None:
    """Try the judge on planted bugs: show which rule finds which bug, after how many cases.

    Exit code 1 if no rule finds a bug, or a rule objects to an equivalent form.
    """
    from parity.mutants import MUTANTS
    from parity.on_trial import kill_table as table
    from parity.on_trial.hunt import hunt

    _require(bug.engine for bug in MUTANTS)
    kills, interrupted = _with_progress(markdown, lambda work: hunt(MUTANTS, examples, seed, work=work))
    if as_json:
        _print_json(examples, seed, interrupted, mutants=[kill.to_dict() for kill in kills])
    else:
        console.print(table.kill_table(kills, interrupted))
        console.print(table.summary(kills), soft_wrap=True)
    _write_page(markdown, lambda: table.markdown(kills, examples, seed), interrupted)
    _exit(all(kill.right for kill in kills), interrupted)


@click.command("diagnosis-table")
@search_options(25)
@click.option("--bugs", multiple=True, help="Only bugs with this text in their name or in an edited function's.")
@click.option("--no-originals", is_flag=True, help="Blame as in a backend that is no copy of these sources.")
@markdown_option
@json_option
def diagnosis_table(
    examples: int,
    seed: int,
    markdown: Path | None,
    as_json: bool,
    bugs: tuple[str, ...] = (),
    no_originals: bool = False,
) -> None:
    """Try the judge on planted bugs: which place it blames, how small its failing case is, whether its script works.

    Exit code 1 if it blames too many wrong places.
    """
    from parity.mutants import MUTANTS
    from parity.on_trial import diagnosis_table as table

    chosen = table.chosen(MUTANTS, bugs)
    _require(bug.engine for bug in chosen)
    diagnoses, interrupted = _with_progress(
        markdown, lambda work: table.measure(chosen, examples, seed, work, not no_originals)
    )
    if as_json:
        _print_json(examples, seed, interrupted, diagnoses=[diagnosis.to_dict() for diagnosis in diagnoses])
    else:
        console.print(table.diagnosis_table(diagnoses))
        console.print(table.summary(diagnoses), soft_wrap=True)
    _write_page(markdown, lambda: table.markdown(diagnoses, examples, seed, bugs), interrupted)
    _exit(table.all_well(diagnoses), interrupted)


@click.command("explanation-table")
@search_options(25)
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Only every so many-th bug.")
@markdown_option
@json_option
def explanation_table(examples: int, seed: int, every: int, markdown: Path | None, as_json: bool) -> None:
    """Try the judge on planted bugs: is the right one named as the explanation of the failure?

    Exit code 1 if another one is said to explain it alone.
    """
    from parity.mutants import MUTANTS
    from parity.on_trial import explanation_table as table

    namings, interrupted = _with_progress(markdown, lambda work: table.measure(MUTANTS[::every], examples, seed, work))
    if as_json:
        _print_json(examples, seed, interrupted, namings=[naming.to_dict() for naming in namings])
    else:
        console.print(table.explanation_table(namings))
        console.print(table.summary(namings), soft_wrap=True)
    _write_page(markdown, lambda: table.markdown(namings, examples, seed, every), interrupted)
    _exit(all(naming.named != table.OTHER for naming in namings), interrupted)


@click.command("other-rules")
@search_options(25)
@markdown_option
@json_option
def other_rules(examples: int, seed: int, markdown: Path | None, as_json: bool) -> None:
    """Try other projects' rules on the planted bugs: how many they find, and how many false alarms they raise."""
    from parity.mutants import MUTANTS
    from parity.on_trial import kill_table as table
    from parity.on_trial.other_rules import compare_rules, tried_on

    correct = ["twin:reordered", "mindspore"]
    _require(correct)
    planted = tried_on(MUTANTS)
    scores, interrupted = _with_progress(markdown, lambda work: compare_rules(planted, correct, examples, seed, work))
    if as_json:
        rules = [score.to_dict() for score in scores]
        _print_json(examples, seed, interrupted, bugs=len(planted), rules=rules)
    else:
        console.print(table.scores_table(scores, len(planted)))
    _write_page(markdown, lambda: table.scores_markdown(scores, len(planted), correct, examples, seed), interrupted)
    _exit(True, interrupted)


@click.command()
@click.argument("functions", nargs=-1)
@search_options(25)
@click.option(
    "--backend",
    type=click.Choice(["numpy", "mindspore"]),
    default="mindspore",
    show_default=True,
    help="The engine whose sources are measured.",
)
@json_option
def reach(functions: tuple[str, ...], examples: int, seed: int, backend: str, as_json: bool) -> None:
    """Measure which lines and branches of an engine the judge's rules execute; list the others, with the reasons.

    FUNCTIONS are names as for gpt2 check: only their rules run, and only functions that they enter are listed. Compiled
    code cannot be traced: MindSpore runs op by op. Exit code 1 if a line or a branch is left out for no reason.
    """
    from parity.on_trial import reach as measured

    _require([backend])
    try:
        found, interrupted = _with_progress(None, lambda work: measured.reach(backend, functions, examples, seed, work))
    except KeyError as error:
        raise GPT2Error(f"no function, file or law {error} in the mirror: try 'layer_norm', 'ops' or 'laws'") from error
    if as_json:
        _print_json(examples, seed, interrupted, backend=backend, reach=[each.to_dict() for each in found])
    else:
        click.echo("\n\n".join(filter(None, (measured.listed(found), measured.summary(found)))))
    _exit(not any(each.unexplained for each in found), interrupted)


@click.command("measure-accuracy")
@judged_engine_options
def measure_accuracy(backend: str, device: str | None, dtype: str | None, mode: str | None) -> None:
    """Measure the error of a backend's exp, sigmoid and log, for its file accuracy.json. Prints JSON."""
    from parity.verdict.accuracy import measure

    engine = judged_engine(backend, device, dtype, mode)
    echo_json({"device": engine.device, "relative_error": measure(engine)})


@click.command()
@click.argument("number", required=False)
@click.option("--sources", type=click.Path(path_type=Path), help="Copy the sources with the bug into this new folder.")
@click.option("--answer", is_flag=True, help="Say what the bug is.")
def exercise(number: str | None, sources: Path | None, answer: bool) -> None:
    """Find the bug: each NUMBER is a NumPy GPT-2 with one planted bug, to be found with the judge's tools."""
    from parity.on_trial import exercise as exercises

    count = len(exercises.exercises())
    if number is None:
        click.echo(f"There are {count} exercises: gpt2 exercise 1 to gpt2 exercise {count}")
        return
    bug = exercises.exercise(number)
    if sources is not None:
        exercises.write_sources(number, sources)
        click.echo(f"{sources}: the sources with the bug in them")
    if answer:
        click.echo(f"{bug.name}: {bug.story}\n\n{exercises.difference(bug)}")
    elif sources is None:
        click.echo(
            f"Exercise {number} of {count}: somewhere in this NumPy GPT-2 a few lines are wrong. Which?\n\n"
            f"  gpt2 check --backend exercise:{number}               which functions differ, which laws fail\n"
            f"  gpt2 blame MODEL PROMPT --backend exercise:{number}  where a model first differs from the reference\n"
            f"  gpt2 exercise {number} --sources FOLDER              the sources, to read\n"
            f"  gpt2 exercise {number} --answer                      the solution"
        )


def _with_progress(page: Path | None, run: Callable[[Any], Found]) -> tuple[Found, bool]:
    """The result of run(work), and whether Ctrl-C ended it early; shows progress on standard error."""
    from gpt2.processes import Work

    if page is not None:
        require_writable(page)
    with ProgressBar() as bar:
        work = Work(watch=functools.partial(bar.show, ""))
        result = run(work)
    if work.interrupted:
        click.echo("gpt2: interrupted: these are the results so far", err=True)
    return result, work.interrupted


def _print_json(examples: int, seed: int, interrupted: bool, **found: Any) -> None:
    facts = {"schema": "gpt2-check/1", "seed": seed, "examples": examples, "interrupted": interrupted}
    echo_json(facts | found)


def _write_page(path: Path | None, text: Callable[[], str], interrupted: bool) -> None:
    if path is not None and interrupted:
        click.echo(f"gpt2: note: {path} was not written", err=True)
    elif path is not None:
        write_text(path, text())


def _exit(right: bool, interrupted: bool) -> None:
    sys.exit(130 if interrupted else 0 if right else 1)
