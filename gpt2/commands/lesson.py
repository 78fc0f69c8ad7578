"""`gpt2 lesson`: GPT-2 step by step as a web page."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import click

from gpt2.arguments import LANGUAGES
from gpt2.backends import Backend
from gpt2.commands.options import judged_engine, load_model, read_prompt, twin_options
from gpt2.errors import GPT2Error
from gpt2.files import require_writable, write_text
from gpt2.interrupt import one_interrupt

BESIDE = 100  # terminal columns that are needed to show the sources side by side
NOT_INSTALLED = "no second implementation to judge: pip install 'gpt2-parity[mindspore]'"


def second_engine(backend: str | None, device: str | None, dtype: str | None, mode: str | None) -> Backend:
    """The backend of these options; by default MindSpore in mode pynative, if it is installed."""
    default = "mindspore" if importlib.util.find_spec("mindspore") else "numpy"
    name = backend or os.environ.get("GPT2_BACKEND") or default
    return judged_engine(name, device, dtype, mode)


@click.command()
@click.option("--model", default="tiny", show_default=True, help="A GPT-2 folder, or a model name.")
@click.option("--prompt", help="The text to follow through the model; '-': standard input.")
@click.option("--ids", help="The prompt as token ids.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the page to this file  [lesson.html]")
@click.option("--serve", is_flag=True, help="Serve the page on this machine instead, to try any prompt.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port.")
@click.option("--notebook", type=click.Path(path_type=Path), help="Write a Jupyter notebook to this file instead.")
@click.option("--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of the notebook.")
@twin_options
def lesson(
    model: str,
    prompt: str | None,
    ids: str | None,
    output: Path | None,
    serve: bool,
    port: int,
    notebook: Path | None,
    language: str,
    **engine: Any,
) -> None:
    """Make a web page that walks through GPT-2 step by step, in English and Chinese.

    Each step shows the reference and its twin side by side, the tensors of the prompt, and the judge's verdict.
    --backend names the twin: by default MindSpore, if it is installed.
    """
    from gpt2 import lesson as course
    from gpt2.lesson.document import render

    if notebook is not None:
        if ids is not None or prompt == "-" or output is not None or serve or any(engine.values()):
            raise GPT2Error("--notebook goes with --model, --prompt and --language alone: change the rest in its cells")
        _write_notebook(notebook, model, prompt, language)
        return
    if not serve or output is not None:
        output = output or Path("lesson.html")
        if os.path.exists(output.parent):  # else it is made
            require_writable(output)
    loaded = load_model(model, backend=second_engine(**engine))
    start = read_prompt(loaded, prompt, ids) if (prompt, ids) != (None, None) else None
    payload = course.build(loaded, start, server=serve)
    if output is not None:
        _write(output, render(payload | {"server": False}), payload)
    if serve:
        _serve(loaded, render(payload), port)


def _write(path: Path, page: str, payload: dict[str, Any]) -> None:
    write_text(path, page)
    size = path.stat().st_size
    click.echo(f"{path}: {len(payload['steps'])} steps, {size / 1e6:.1f} MB; {_judged(payload['verdicts'])}")


def _write_notebook(path: Path, model: str, prompt: str | None, language: str) -> None:
    from gpt2.lesson import notebook as book

    cells = book.notebook(language, model, *([] if prompt is None else [prompt]))
    write_text(path, json.dumps(cells, ensure_ascii=False, indent=1) + "\n")
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
