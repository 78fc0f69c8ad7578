"""`gpt2 compare`: show two implementations of a function side by side in the terminal."""

import dataclasses
import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from gpt2.commands.lesson import BESIDE, NOT_INSTALLED, second_engine
from gpt2.commands.options import echo_json, json_option, search_options, twin_options


@click.command()
@click.argument("function")
@search_options(10)
@twin_options
@json_option
def compare(function: str, examples: int, seed: int, as_json: bool, **engine: Any) -> None:
    """Show FUNCTION of the reference, such as layer_norm, beside its twin, and say whether the two agree.

    --backend names the twin: by default MindSpore, if it is installed. Exit code 1 if the two differ.
    """
    from gpt2.lesson import sources

    name = sources.full_name(function)
    backend = second_engine(**engine)
    folder = sources.twin_folder(backend)
    pair = sources.find_source(sources.REFERENCE, name), folder and sources.find_source(folder, name)
    result = _result(name, backend, examples, seed)
    if as_json:
        echo_json(_facts(name, pair, result, backend))
    else:
        _print(Console(highlight=False), name, pair, _verdict(result, backend))
    sys.exit(0 if result is None or result.agrees else 1)


def _result(name: str, backend: Any, examples: int, seed: int) -> Any:
    """The judge's result; None without a second backend, and for functions whose docstring names no shapes."""
    from parity.check import check_rule, rules

    if backend.name == "numpy" or name not in rules():
        return None
    return check_rule(rules()[name], backend, examples, seed)


def _verdict(result: Any, backend: Any) -> str:
    if result is None:
        return NOT_INSTALLED if backend.name == "numpy" else "the judge has no rule for this function alone"
    if not result.offered:
        return f"{backend.name} does not offer it"
    shown = result.failure or result.worst
    text = result.error or ("" if shown is None else shown.explain())
    return f"{backend.name}, {backend.dtype}, {result.cases} random cases, the worst: {text}"


def _facts(name: str, pair: Any, result: Any, backend: Any) -> dict[str, Any]:
    from gpt2.lesson import sources

    source, twin = (None if side is None else dataclasses.asdict(side) | {"folder": str(side.folder)} for side in pair)
    return {
        "function": name,
        "shapes": sources.shapes(name),
        "reference": source,
        "twin": twin,
        "rows": [] if twin is None else sources.matched_rows(pair[0].lines, pair[1].lines),
        "verdict": None if result is None else result.to_dict(),
        "backend": backend.name,
        "dtype": backend.dtype,
    }


def _print(console: Console, name: str, pair: Any, verdict: str) -> None:
    from gpt2.lesson import sources

    source, twin = pair
    console.print(f"[bold]{name}[/bold]  {escape(sources.shapes(name))}\n", soft_wrap=True)
    if twin is None:
        _print_one(console, source)
        words = "The twin has no such function."
        console.print(words + " Its gradients are automatic." * name.endswith("_vjp") + "\n", soft_wrap=True)
    elif console.width < BESIDE:
        _print_one(console, source)
        _print_one(console, twin)
    else:
        table = Table(f"{source.file}:{source.line}", f"{twin.file}:{twin.line}", box=None, padding=(0, 2, 0, 0))
        left, right = _coloured(source), _coloured(twin)
        for a, b in sources.matched_rows(source.lines, twin.lines):
            table.add_row("" if a is None else _indented(left[a]), "" if b is None else _indented(right[b]))
        console.print(table)
        console.print()
    console.print(verdict, markup=False, soft_wrap=True)


def _print_one(console: Console, source: Any) -> None:
    console.print(f"[bold]{source.file}:{source.line}[/bold]", soft_wrap=True)
    for line in _coloured(source):
        console.print(line, soft_wrap=True)
    console.print()


def _indented(line: Text) -> Padding:
    """The line, padded so that its wrapped part keeps the indentation."""
    depth = len(line.plain) - len(line.plain.lstrip())
    return Padding(line[depth:], (0, 0, 0, depth))


def _coloured(source: Any) -> list[Text]:
    code = "\n".join(source.lines)
    return list(Syntax("", "python", theme="ansi_dark").highlight(code).split("\n", allow_blank=True))
