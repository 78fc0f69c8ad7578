"""`gpt2 explain`: which known mistake explains one result that somebody hands in."""

import ast
import dataclasses
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpt2.arguments import LANGUAGES
from gpt2.commands.options import console, echo_json, json_option
from gpt2.errors import GPT2Error


@click.command()
@click.argument("inputs", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--function", required=True, help="The function that it is a result of, such as ops.layer_norm.")
@click.option(
    "--set", "options", multiple=True, help="An argument that is no array, or a configuration's field: eps=1e-5."
)
@click.option("--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of the words.")
@json_option
def explain(inputs: Path, output: Path, function: str, options: tuple[str, ...], language: str, as_json: bool) -> None:
    """Say which known mistake explains a result: INPUTS is an .npz file of a function's arguments, OUTPUT an .npy file.

    An .npy file as INPUTS is the first argument. Parameters of a layer are named like "params.c_attn.weight". An .npz
    file as OUTPUT holds several arrays, in their order. Exit code 1 if the result differs from the reference.
    """
    from parity.explanation.handed_in import explain_result, trial_of
    from parity.explanation.words import explained
    from reference import find_function

    arrays = _arrays(inputs)
    if "" in arrays:
        try:
            code = getattr(find_function(function), "__wrapped__", find_function(function)).__code__
        except (AttributeError, ImportError, ValueError) as error:
            raise GPT2Error(
                f"no function is called {function!r}: name it with its file, like ops.layer_norm"
            ) from error
        arrays = {code.co_varnames[0]: arrays[""]}
    trial = trial_of(function, arrays, dict(map(_option, options)), list(_arrays(output).values()))
    verdicts, explanation = explain_result(trial)
    if as_json:
        facts = {"function": function, "agrees": explanation is None, "verdicts": [x.explain() for x in verdicts]}
        echo_json(facts | {"explanation": None if explanation is None else dataclasses.asdict(explanation)})
    else:
        for line in [*(x.explain() for x in verdicts), *explained(explanation, language)]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    sys.exit(0 if explanation is None else 1)


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays in a file by name; that of an .npy file has the name ""."""
    try:
        loaded = np.load(path, allow_pickle=False)
        return {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise GPT2Error(f"cannot read {path}: expected an .npy or .npz file that numpy.save or savez wrote") from error


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise GPT2Error(f"--set is NAME=VALUE, like eps=1e-5, but is {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value
