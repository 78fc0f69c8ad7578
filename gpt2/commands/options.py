"""Options and helpers that several commands of `gpt2` share."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import click
import numpy as np
from rich.console import Console

from gpt2.backends import DTYPES, Array, Backend, get_backend
from gpt2.errors import GPT2Error

console = Console(highlight=False)
MODES = ("graph", "pynative", "eager", "plain")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --backend, --device, --dtype and --mode: where and how to compute."""
    options = [
        click.option("--backend", help="numpy, mindspore, or another registered backend  [$GPT2_BACKEND, or numpy]"),
        click.option("--device", help="CPU, Ascend or GPU  [CPU]"),
        click.option("--dtype", type=click.Choice(DTYPES), help="Precision of weights and results  [float32]"),
        click.option("--mode", type=click.Choice(MODES), help="How it runs: MindSpore [graph] or NumPy [eager]"),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def judged_engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same options for the backend to judge; the default is MindSpore in float32."""
    options = [
        click.option(
            "--backend", envvar="GPT2_BACKEND", default="mindspore", show_default=True, help="The backend to judge."
        ),
        click.option("--device", help="CPU, Ascend or GPU  [CPU]"),
        click.option("--dtype", type=click.Choice(DTYPES[1:]), default="float32", show_default=True),
        click.option("--mode", help="MindSpore: graph or pynative; NumPy: eager or plain  [pynative, eager]"),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def judged_engine(backend: str, device: str | None, dtype: str | None, mode: str | None) -> Backend:
    """The backend to judge. MindSpore's default here is pynative, as graph mode compiles for every new shape."""
    return get_backend(backend, device, dtype, "pynative" if mode is None and backend == "mindspore" else mode)


def search_options(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --examples, with this default, and --seed: the number of random cases, and their seed."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        cases = click.option(
            "--examples", type=click.IntRange(1), default=examples, show_default=True, help="Random cases per rule."
        )
        seed = click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed draws the same cases."
        )
        return cases(seed(command))

    return add


def load_model(model: str, **engine: Any) -> Any:
    """Load the model of this name or folder, on the backend that the options name."""
    import gpt2

    return gpt2.load(model, **engine)


def engine_facts(loaded: Any) -> dict[str, Any]:
    """The backend, device, dtype and mode of a model, for --json."""
    backend = loaded.backend
    return {"backend": backend.name, "device": backend.device, "dtype": backend.dtype, "mode": backend.mode}


def read_prompt(loaded: Any, text: str | None, ids: str | None) -> Array:
    """Ids of the prompt, (1, T), from a text ("-": standard input) or ids. Raises GPT2Error unless one is given."""
    if (text is None) == (ids is None):
        raise GPT2Error("give either a PROMPT or --ids")
    if text is not None:
        return loaded.encode(standard_input() if text == "-" else text)
    return np.array([token_ids("--ids", ids or "")], np.int64)


def standard_input() -> str:
    """All of standard input. Raises GPT2Error if it is not text."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise GPT2Error(f"the prompt from standard input is not valid text: {error}") from error


def token_ids(name: str, text: str) -> list[int]:
    """Parse ids that are separated by spaces or commas. Raises GPT2Error, naming the option."""
    return [_token_id(name, word) for word in text.replace(",", " ").split()]


def _token_id(name: str, word: str) -> int:
    try:
        return int(np.int64(int(word)))
    except (ValueError, OverflowError) as error:
        raise GPT2Error(f"{name} must be token ids, like '15496 995', but holds {word!r}") from error
