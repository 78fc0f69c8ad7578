"""`gpt2 check` and `gpt2 blame`: judge a backend, and find where a model first differs from the reference."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.table import Table

from gpt2.commands import on_trial
from gpt2.commands.options import (
    ENGINE,
    console,
    echo_json,
    engine_facts,
    json_option,
    judged_engine,
    judged_engine_named,
    judged_engine_options,
    load_model,
    read_prompt,
    search_options,
    twin_options,
)
from gpt2.errors import GPT2Error


@click.command()
@click.argument("functions", nargs=-1)
@search_options(25)
@judged_engine_options
@click.option("--with", "port", help="Judge a function or model of your own: FILE.py:NAME, or MODULE:NAME.")
@click.option("--framework", help="What it computes with: numpy, torch or mindspore  [what its file imports].")
@click.option("--as", "preset", help="What it supports: course (plain GPT-2 alone), inference or training.")
@click.option("--map", "names", multiple=True, help="What it calls an argument or module of ours: x=hidden_states.")
@click.option("--script", "with_script", is_flag=True, help="Also print the script that reproduces each failure.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write the report as one HTML file.")
@click.option("--junit", type=click.Path(path_type=Path), help="Also write the report as JUnit XML.")
@click.option("--expected", type=click.Path(path_type=Path), help="Expected failures, a JSON file (docs/report.md).")
@click.option("--resume", type=click.Path(path_type=Path), help="Save results to this file, and resume from it.")
@click.option("--shard", help="Judge only this part of the rules: 2/8. `gpt2 report merge` puts all parts together.")
@click.option("--matrix", is_flag=True, help="Judge several backends side by side: those of --column.")
@click.option("--column", "columns", multiple=True, help="Such as numpy:float16 or torch  [what is installed].")
@click.option("--time", "seconds", type=click.FloatRange(0.0), default=0.0, help="Go on so many seconds per rule.")
@click.option("--processes", type=click.IntRange(1), help="Processes [default: one per core for many rules].")
@click.option("--measure-accuracy", is_flag=True, hidden=True)
@click.option("--mutants", is_flag=True, hidden=True)
@click.option("--diagnose", is_flag=True, hidden=True)
@click.option("--other-rules", is_flag=True, hidden=True)
@click.option("--reach", is_flag=True, hidden=True)
@click.option("--markdown", type=click.Path(path_type=Path), hidden=True)
@json_option
@click.pass_context
def check(
    context: click.Context,
    functions: tuple[str, ...],
    examples: int,
    seed: int,
    backend: str,
    device: str | None,
    dtype: str | None,
    mode: str | None,
    port: str | None,
    framework: str | None,
    preset: str | None,
    names: tuple[str, ...],
    with_script: bool,
    html: Path | None,
    junit: Path | None,
    expected: Path | None,
    resume: Path | None,
    shard: str | None,
    matrix: bool,
    columns: tuple[str, ...],
    seconds: float,
    processes: int | None,
    measure_accuracy: bool,
    mutants: bool,
    diagnose: bool,
    other_rules: bool,
    reach: bool,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Judge a backend on random cases: against the reference, and by laws that need no reference.

    FUNCTIONS are names of functions ("layer_norm"), files ("ops"), laws ("laws") or groups of laws ("data", "convert",
    "evaluation"); none: everything. A rule that trains is judged on a third of the examples, an activation or a
    function of generation on twelve times as many, a law about such a function on four times as many. Exit code 1 if
    anything differs, 3 if nothing was judged.
    """
    from parity import check as judge
    from parity.report import Shard, print_results, processes_for

    if matrix or columns:
        _matrix(context, columns, functions)
    if port is not None:
        if context.get_parameter_source("backend") is ParameterSource.COMMANDLINE:
            raise GPT2Error("--with names what is judged, and so does --backend: leave one of them out")
        backend = _port(port, functions, framework, preset, names)
    elif framework or preset or names:
        raise GPT2Error("--framework, --as and --map say how to call what --with names: give that too")
    engine_named: dict[str, Any] = {"backend": backend, "device": device, "dtype": dtype, "mode": mode}
    tried = {"examples": examples, "seed": seed, "markdown": markdown, "as_json": as_json}
    if diagnose and not mutants:
        raise GPT2Error("--diagnose is about planted bugs: gpt2 diagnosis-table")
    if mutants:
        old = "--mutants --diagnose" if diagnose else "--mutants"
        _forward(context, old, on_trial.diagnosis_table if diagnose else on_trial.kill_table, tried)
    if other_rules:
        _forward(context, "--other-rules", on_trial.other_rules, tried)
    if reach:
        measured = {"functions": functions, "examples": examples, "seed": seed, "backend": backend, "as_json": as_json}
        _forward(context, "--reach", on_trial.reach, measured)
    if measure_accuracy:
        _forward(context, "--measure-accuracy", on_trial.measure_accuracy, engine_named)
        return
    engine = judged_engine(**engine_named)
    try:
        rules = judge.select(functions, engine)
    except KeyError as error:
        raise _unknown(error) from error
    part = None if shard is None else Shard.of(shard, rules, functions)
    shown = None if as_json else console
    report = print_results(
        rules,
        engine,
        examples,
        seed,
        shown,
        html=html,
        junit=junit,
        expected=expected,
        resume=resume,
        engine=judged_engine_named(**engine_named),
        processes=processes or processes_for(rules if part is None else part.part(rules), engine),
        seconds=seconds,
        with_absent=bool(functions),
        with_scripts=with_script,
        shard=part,
    )
    if as_json:
        click.echo(report.to_json())
    sys.exit(report.exit_code)


def _unknown(name: object) -> GPT2Error:
    tried = "try 'layer_norm', 'ops', 'laws' or no name at all"
    return GPT2Error(f"no function, file or law {name} in the mirror: {tried}")


# The options of `gpt2 check` that a matrix has, by the names of their parameters.
PASSED_ON = ("examples", "seed", "html", "resume", "processes", "seconds", "as_json", "with_script")
OF_A_MATRIX = ("functions", "matrix", "columns", *PASSED_ON)


def _matrix(context: click.Context, columns: tuple[str, ...], functions: tuple[str, ...]) -> None:
    """Judge several backends side by side. Raises GPT2Error for an option that is about one backend."""
    from gpt2.commands.matrix import check_matrix

    for option in context.command.params:
        named = context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if named and option.name not in OF_A_MATRIX:
            raise GPT2Error(f"--matrix has no {option.opts[0]}: name what to judge, like --column numpy:float16")
    try:
        check_matrix(columns, functions, **{name: context.params[name] for name in PASSED_ON})
    except KeyError as error:
        raise _unknown(error) from error


def _port(
    place: str, functions: tuple[str, ...], framework: str | None, preset: str | None, names: tuple[str, ...]
) -> str:
    """The name of the backend for what --with names."""
    from parity.ports.port import port_for

    pairs = [pair.partition("=") for pair in names]
    wrong = [pair for pair, (ours, _, theirs) in zip(names, pairs, strict=True) if not (ours and theirs)]
    if wrong:
        raise GPT2Error(f"--map is OURS=THEIRS, like x=hidden_states, but is {wrong[0]!r}")
    called = tuple(sorted((ours, theirs) for ours, _, theirs in pairs))
    twice = [ours for i, (ours, _) in enumerate(called) if i and called[i - 1][0] == ours]
    if twice:
        raise GPT2Error(f"--map names {twice[0]!r} twice: leave one of them out")
    return f"port:{port_for(place, functions, framework=framework or '', preset=preset or '', names=called)}"


def _forward(context: click.Context, old: str, command: click.Command, arguments: dict[str, Any]) -> None:
    """Run the command that replaced an option of `gpt2 check`. Raises GPT2Error for an option that it does not have."""
    for option in context.command.params:
        given = context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if given and option.name not in arguments and option.opts[0] not in old.split():
            name, them = (
                ("names of functions", "them") if isinstance(option, click.Argument) else (option.opts[0], "it")
            )
            raise GPT2Error(f"gpt2 check {old} takes no {name}: leave {them} out")
    click.echo(f"gpt2: note: `gpt2 check {old}` is `gpt2 {command.name}` now", err=True)
    context.invoke(command, **arguments)


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--ids", help="The prompt as token ids, like '15496 995'.")
@click.option("--with", "port", help="Blame a model of your own: FILE.py:NAME, a function build(config, parameters).")
@click.option("--framework", help="What it computes with: numpy, torch or mindspore  [what its file imports].")
@click.option("--map", "names", multiple=True, help="What it calls a part of Hugging Face's names: h=blocks.")
@twin_options
@json_option
def blame(
    model: str,
    prompt: str | None,
    ids: str | None,
    port: str | None,
    framework: str | None,
    names: tuple[str, ...],
    backend: str | None,
    as_json: bool,
    **engine: Any,
) -> None:
    """Find the stage of MODEL where a backend first differs from the reference on PROMPT; show every stage's error.

    Every stage is computed twice: in the normal run, and from the reference's values, so that it inherits no error.
    Exit code 1 if a stage is wrong by itself, or the same input gives other numbers the second time.
    """
    from parity.diagnosis.blame import RANDOM, first_wrong, is_random, recorded_too_late
    from parity.diagnosis.blame import blame as find
    from parity.explanation.explain import explain_stages
    from parity.explanation.words import explained

    named = backend or os.environ.get("GPT2_BACKEND") or "mindspore"
    if port is not None:
        named = _port(port, (), framework, None, names)
    elif framework or names:
        raise GPT2Error("--framework and --map say how to call what --with names: give that too")
    loaded = load_model(model, **dict(zip(ENGINE, judged_engine_named(named, **engine), strict=True)))
    inputs = loaded.backend, loaded.config, loaded.parameters, read_prompt(loaded, prompt, ids)
    stages, random = find(*inputs), is_random(*inputs)
    first = first_wrong(stages)
    wrong = [stage.name for stage in stages if not stage.alone.agrees]
    explanation = explain_stages(*inputs, wrong) if wrong and not random else None
    if as_json:
        rows = [
            {
                "stage": stage.name,
                "agrees": stage.alone.agrees,
                "alone": stage.alone.explain(),
                "in_the_run": stage.in_the_run.explain(),
                "lines": list(stage.lines),
            }
            for stage in stages
        ]
        mistakes = explanation and dataclasses.asdict(explanation)
        facts = {"first_wrong": first and first.name, "random": random, "stages": rows, "explanation": mistakes}
        echo_json(facts | engine_facts(loaded))
    else:
        table = Table("stage", "by itself", "in the run", title=f"{loaded.backend.name} against the reference")
        for stage in stages:
            table.add_row(stage.name, *(_in_short(verdict) for verdict in (stage.alone, stage.in_the_run)))
        console.print(table)
        late = recorded_too_late(loaded.backend, stages)
        said = first.explain() if first else late or ("" if random else "Every stage agrees.")
        lines = filter(None, [said, RANDOM if random else "", *explained(explanation)])
        console.print("\n".join(lines), markup=False, soft_wrap=True)
    if first is not None or random:
        sys.exit(1)


def _in_short(verdict: Any) -> str:
    if verdict.reason or not verdict.agrees:
        return f"[bold red]{'wrong' if verdict.reason else f'{verdict.noise_ratio:.2g} x noise'}[/bold red]"
    return "identical" if verdict.error == 0 else f"{verdict.noise_ratio:.2g} x noise"
