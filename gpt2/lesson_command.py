"""`gpt2 lesson`, GPT-2 step by step as a web page, and `gpt2 compare`, two implementations in the terminal."""

import dataclasses
import functools
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from gpt2.backends import DTYPES, Backend, get_backend
from gpt2.errors import GPT2Error
from gpt2.interrupt import one_interrupt
from gpt2.options import json_option, load_model, read_prompt

LANGUAGES = ("en", "zh")
BESIDE = 100  # columns of a terminal from which on the sources stand beside each other
NOT_INSTALLED = "no second implementation to judge: pip install 'gpt2-parity[mindspore]'"


def twin_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--backend, --device, --dtype and --mode of what is judged. (float64 is the oracle's own.)"""
    options = [
        click.option("--backend", help="The twin  [$GPT2_BACKEND, or mindspore if it is installed]"),
        click.option("--device", help="CPU, Ascend or GPU  [CPU]"),
        click.option("--dtype", type=click.Choice(DTYPES[1:]), help="Precision of weights and results  [float32]"),
        click.option("--mode", type=click.Choice(["graph", "pynative"]), help="How MindSpore runs  [pynative]"),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def second_engine(backend: str | None, device: str | None, dtype: str | None, mode: str | None) -> Backend:
    """The engine of these options; by default MindSpore where it is installed, run eagerly."""
    default = "mindspore" if importlib.util.find_spec("mindspore") else "numpy"
    name = backend or os.environ.get("GPT2_BACKEND") or default
    if mode is None and name == "mindspore":
        mode = "pynative"  # a graph is compiled for every new shape
    return get_backend(name, device, dtype, mode)


@click.command()
@click.option("--model", default="tiny", show_default=True, help="A GPT-2 folder, or a model's name.")
@click.option("--prompt", help="The text to follow through the model; '-': standard input.")
@click.option("--ids", help="The prompt as token ids.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the page to this file  [lesson.html]")
@click.option("--serve", is_flag=True, help="Serve the page on this machine instead, where any prompt can be tried.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option("--notebook", type=click.Path(path_type=Path), help="Write a Jupyter notebook to this file instead.")
@click.option("--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of the notebook.")
@twin_options
def lesson(
    model: str, prompt: str | None, ids: str | None, output: Path | None, serve: bool, port: int,
    notebook: Path | None, language: str, **engine: Any,
) -> None:  # fmt: skip
    """Make a web page that walks through GPT-2 step by step, in English and Chinese.

    Each step shows the reference and its twin side by side, the numbers of the prompt, and the judge's verdict.
    --backend is the twin: MindSpore where it is installed.
    """
    from gpt2 import lesson as course
    from gpt2.lesson.document import render

    if notebook is not None:
        if ids is not None or prompt == "-" or output is not None or serve or any(engine.values()):
            raise GPT2Error("--notebook goes with --model, --prompt and --language alone: change the rest in its cells")
        _write_notebook(notebook, model, prompt, language)
        return
    loaded = load_model(model, backend=second_engine(**engine))
    start = read_prompt(loaded, prompt, ids) if (prompt, ids) != (None, None) else None
    payload = course.build(loaded, start, server=serve)
    if not serve or output is not None:
        _write(output or Path("lesson.html"), render(payload | {"server": False}), payload)
    if serve:
        _serve(loaded, render(payload), port)


def _write(path: Path, page: str, payload: dict[str, Any]) -> None:
    from gpt2.snapshot import write_whole

    encoded = page.encode()
    with write_whole(path) as part:
        part.write_bytes(encoded)
    click.echo(f"{path}: {len(payload['steps'])} steps, {len(encoded) / 1e6:.1f} MB; {_judged(payload['verdicts'])}")


def _write_notebook(path: Path, model: str, prompt: str | None, language: str) -> None:
    from gpt2.lesson import notebook as book
    from gpt2.snapshot import write_whole

    cells = book.notebook(language, model, *([] if prompt is None else [prompt]))
    with write_whole(path) as part:
        part.write_text(json.dumps(cells, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{path}: {len(cells['cells'])} cells, to be run by Jupyter")


def _judged(verdicts: dict[str, Any]) -> str:
    if not verdicts:
        return NOT_INSTALLED
    wrong = [name for name, verdict in verdicts.items() if not verdict["agrees"]]
    if wrong:
        return f"{len(wrong)} of {len(verdicts)} results differ from the reference, first {wrong[0]}"
    return f"all {len(verdicts)} results agree with the reference"


def _serve(loaded: Any, page: str, port: int) -> None:
    from gpt2.lesson import of_prompt
    from gpt2.lesson.server import LessonServer

    with LessonServer(port, page, lambda text: of_prompt(loaded, loaded.encode(text))) as server, one_interrupt():
        click.echo(f"The lesson is at {server.url} (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("The lesson has ended.")


@click.command()
@click.argument("function")
@click.option("--examples", type=click.IntRange(1), default=10, show_default=True, help="Random cases to judge by.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@twin_options
@json_option
def compare(function: str, examples: int, seed: int, as_json: bool, **engine: Any) -> None:
    """Show FUNCTION of the reference, such as layer_norm, beside that of its twin, and whether the two agree.

    --backend is the twin: MindSpore where it is installed. Exit code 1 if they differ.
    """
    from gpt2.lesson import sources

    name = sources.full_name(function)
    backend = second_engine(**engine)
    folder = sources.twin_folder(backend)
    pair = sources.find_source(sources.REFERENCE, name), folder and sources.find_source(folder, name)
    result = _result(name, backend, examples, seed)
    if as_json:
        click.echo(json.dumps(_facts(name, pair, result, backend), ensure_ascii=False))
    else:
        _print(Console(highlight=False), name, pair, _verdict(result, backend))
    sys.exit(0 if result is None or result.agrees else 1)


def _result(name: str, backend: Any, examples: int, seed: int) -> Any:
    """What the judge finds, or None: where there is nobody to judge, and of what promises no shapes."""
    from parity.check import check_rule, rules

    if backend.name == "numpy" or name not in rules():
        return None
    return check_rule(rules()[name], backend, examples, seed)


def _verdict(result: Any, backend: Any) -> str:
    if result is None:
        return NOT_INSTALLED if backend.name == "numpy" else "the judge has no rule for it by itself"
    if not result.offered:
        return f"{backend.name} does not offer it"
    shown = result.failure or result.worst
    said = result.error or ("" if shown is None else shown.explain())
    return f"{backend.name}, {backend.dtype}, {result.cases} random cases, the worst: {said}"


def _facts(name: str, pair: Any, result: Any, backend: Any) -> dict[str, Any]:
    from gpt2.lesson import sources

    own, twin = (None if side is None else dataclasses.asdict(side) | {"folder": str(side.folder)} for side in pair)
    return {
        "function": name,
        "shapes": sources.shapes(name),
        "reference": own,
        "twin": twin,
        "rows": [] if twin is None else sources.matched_rows(pair[0].lines, pair[1].lines),
        "verdict": None if result is None else result.to_dict(),
        "backend": backend.name,
        "dtype": backend.dtype,
    }


def _print(console: Console, name: str, pair: Any, verdict: str) -> None:
    from gpt2.lesson import sources

    own, twin = pair
    console.print(f"[bold]{name}[/bold]  {escape(sources.shapes(name))}\n", soft_wrap=True)
    if twin is None:
        _print_one(console, own)
        words = "The twin has no such function."
        console.print(words + " Its gradients are automatic." * name.endswith("_vjp") + "\n", soft_wrap=True)
    elif console.width < BESIDE:
        _print_one(console, own)
        _print_one(console, twin)
    else:
        table = Table(f"{own.file}:{own.line}", f"{twin.file}:{twin.line}", box=None, padding=(0, 2, 0, 0))
        left, right = _coloured(own), _coloured(twin)
        for a, b in sources.matched_rows(own.lines, twin.lines):
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
    """A line whose wrapped rest keeps its indentation."""
    depth = len(line.plain) - len(line.plain.lstrip())
    return Padding(line[depth:], (0, 0, 0, depth))


def _coloured(source: Any) -> list[Text]:
    code = "\n".join(source.lines)
    return list(Syntax("", "python", theme="ansi_dark").highlight(code).split("\n", allow_blank=True))
