"""Options and helpers that several commands of `gpt2` share."""

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import numpy as np
from rich.console import Console

from gpt2.backends import DTYPES, Array, Backend, get_backend
from gpt2.data.formats import FORMATS
from gpt2.errors import GPT2Error, NotFiniteError

Command = Callable[..., Any]

console = Console(highlight=False)
OURS = ("numpy", "mindspore")
FOREIGN: list[Backend] = []  # other people's backends that this run has loaded: what they raise is not our error
ENGINE = ("backend", "device", "dtype", "mode")
LOADING = (*ENGINE, "allow_nan")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


encoding_option = click.option(
    "--encoding", help="The file's encoding, such as gb18030  [UTF-8, or as its byte-order mark says]"
)


def file_options() -> list[Callable[[Command], Command]]:
    """The options --format and --encoding, of commands that read texts from a file."""
    return [
        click.option("--format", type=click.Choice(FORMATS), help="The file's format  [looked at]"),
        encoding_option,
    ]


def engine_options(command: Command) -> Command:
    """Add --backend, --device, --dtype and --mode: where and how to compute."""
    backend = click.option(
        "--backend", help="numpy, mindspore, a peer, or another registered backend  [$GPT2_BACKEND, or numpy]"
    )
    return _add_engine(command, backend, DTYPES, "graph")


def loading_options(command: Command) -> Command:
    """Add the engine's options and --allow-nan: how to load a model that is there."""
    allow = click.option("--allow-nan", is_flag=True, help="Load weights that hold NaN or infinity.")
    return engine_options(allow(command))


def twin_options(command: Command) -> Command:
    """Add the same options for the twin that is compared with the reference. (float64 is only for the oracle.)"""
    backend = click.option("--backend", help="The twin  [$GPT2_BACKEND, or mindspore if it is installed]")
    return _add_engine(command, backend, DTYPES[1:], "pynative")


def _add_engine(command: Command, backend: Callable[[Command], Command], dtypes: Sequence[str], mode: str) -> Command:
    """Add --backend as it is given, and the options that are alike for all commands; mode is MindSpore's default."""
    how = f"MindSpore: graph or pynative  [{mode}]; NumPy: eager or plain  [eager]"
    options = [
        backend,
        click.option("--device", help="CPU, Ascend or GPU  [CPU]"),
        click.option("--dtype", type=click.Choice(dtypes), help="Precision of weights and results  [float32]"),
        click.option("--mode", help=how),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def judged_engine_options(command: Command) -> Command:
    """Add the same options for the backend to judge; the default is MindSpore in float32."""
    backend = click.option(
        "--backend", envvar="GPT2_BACKEND", default="mindspore", show_default=True, help="The backend to judge."
    )
    return _add_engine(command, backend, DTYPES[1:], "pynative")


def judged_engine_named(
    backend: str, device: str | None, dtype: str | None, mode: str | None
) -> tuple[str, str | None, str, str | None]:
    """The arguments of `get_backend` for the backend to judge, in float32 by default.

    MindSpore's default mode is pynative here, in any of its versions: graphs compile every new shape.
    """
    mode = "pynative" if mode is None and backend.partition("@")[0] == "mindspore" else mode
    return backend, device, dtype or "float32", mode


def judged_engine(backend: str, device: str | None, dtype: str | None, mode: str | None) -> Backend:
    """The backend to judge: the one that `judged_engine_named` names."""
    return get_backend(*judged_engine_named(backend, device, dtype, mode))


def search_options(examples: int) -> Callable[[Command], Command]:
    """Add --examples, with this default, and --seed: the number of random cases, and their seed."""

    def add(command: Command) -> Command:
        cases = click.option(
            "--examples", type=click.IntRange(1), default=examples, show_default=True, help="Random cases per rule."
        )
        seed = click.option(
            "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed draws the same cases."
        )
        return cases(seed(command))

    return add


def load_model(
    model: str,
    backend: str | Backend | None = None,
    device: str | None = None,
    dtype: str | None = None,
    mode: str | None = None,
    **loading: Any,
) -> Any:
    """Load the model of this name or folder, on the backend that the options name. loading: other options of load."""
    import gpt2

    engine = get_backend(backend, device, dtype, mode) if backend is None or isinstance(backend, str) else backend
    if engine.name not in OURS:
        FOREIGN.append(engine)
    try:
        return gpt2.load(model, engine, **loading)
    except GPT2Error as error:
        if not isinstance(error.__cause__, NotFiniteError):
            raise
        allow = ", or load it all the same: --allow-nan" if "allow_nan" in loading else ""  # not every command has it
        raise GPT2Error(f"{error.__cause__}{allow}") from error


def echo_json(value: Any) -> None:
    """Print a value as JSON, which knows neither NaN nor infinity: they become null."""
    click.echo(json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _without_nan(x) for name, x in value.items()}
    return [_without_nan(x) for x in value] if isinstance(value, list | tuple) else value


def engine_facts(loaded: Any) -> dict[str, Any]:
    """The backend, device, dtype and mode of a model, for --json."""
    backend = loaded.backend
    return {"backend": backend.name, "device": backend.device, "dtype": backend.dtype, "mode": backend.mode}


def require_one(given: Mapping[str, Any], after: str) -> None:
    """Raise GPT2Error unless one value is not None; the first is that of an argument, which comes after another."""
    argument, *options = given
    count = sum(value is not None for value in given.values())
    if count == 0:
        raise GPT2Error(
            f"{argument} is missing: give it after {after} ('-': standard input), or give {' or '.join(options)}"
        )
    if count > 1:
        raise GPT2Error(f"give only one of {', '.join(given)}")


def read_prompt(loaded: Any, text: str | None, ids: str | None) -> Array:
    """Ids of the prompt, (1, T), from a text ("-": standard input) or ids. Raises GPT2Error unless one is given."""
    require_one({"PROMPT": text, "--ids": ids}, "MODEL")
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
