"""`gpt2 check --matrix`: which columns there are, and what is shown of them."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gpt2.backends import DTYPES
from gpt2.backends.registry import DEVICES
from gpt2.commands.options import console, judged_engine_named
from gpt2.errors import GPT2Error
from gpt2.peers import environments

Engine = tuple[str, str | None, str | None, str | None]
# What the last words of a column may be, besides parts of the name.
KINDS = {
    "dtype": DTYPES[1:],
    "mode": ("graph", "pynative", "eager", "plain"),
    "device": DEVICES,
}


def engine_named(column: str) -> Engine:
    """The engine of a column, such as "numpy:float16", "mindspore@2.9.0:graph" or "torch:ssh host python3:GPU".

    dtype, mode and device stand at the end, in any order; before them comes a name as --backend takes it.
    """
    name, found = column, dict[str, str]()
    while True:
        rest, _, last = name.rpartition(":")
        kind = next((kind for kind, known in KINDS.items() if last.lower() in map(str.lower, known)), None)
        if not rest or kind is None or kind in found:
            break
        name, found[kind] = rest, last
    return judged_engine_named(name, found.get("device"), found.get("dtype"), found.get("mode"))


def default_columns() -> list[str]:
    """What is installed here: NumPy in two precisions, MindSpore in both modes, and the peers."""
    columns = ["numpy", "numpy:float16"]
    if importlib.util.find_spec("mindspore") is not None:
        columns += ["mindspore:pynative", "mindspore:graph"]
    peers = dict.fromkeys(environments.installed())
    if os.environ.get("GPT2_PEER_PYTHON"):
        peers["torch"] = None
    return columns + [name for name in peers if environments.is_known(name)]


def check_matrix(
    columns: Sequence[str],
    functions: Sequence[str],
    *,
    with_script: bool,
    as_json: bool,
    html: Path | None,
    **options: Any,
) -> None:
    """Judge the columns (none: those that are installed), print the matrix, and exit with its code."""
    from parity.report.matrix import judge_matrix
    from parity.report.matrix_table import print_matrix

    named = list(columns) or default_columns()
    twice = next((name for number, name in enumerate(named) if name in named[:number]), None)
    if twice is not None:
        raise GPT2Error(f"--column {twice} is there twice: leave one of them out")

    def say(line: str) -> None:
        click.echo(f"gpt2: {line}", err=True)

    engines = {name: engine_named(name) for name in named}
    matrix = judge_matrix(engines, functions, html=html, say=say, **options)
    if as_json:
        click.echo(matrix.to_json())
    else:
        print_matrix(matrix, console, with_script)
    if html is not None:
        from gpt2.files import write_text
        from parity.report.matrix_page import matrix_page

        write_text(html, matrix_page(matrix))
    sys.exit(matrix.exit_code)
