"""Race engines, each in its own process, that take turns at the same work. All benchmarks share this file."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.peers.client import Peer, peer_python
from gpt2.model.hf_folder import write_folder
from parity.cases.cases import Case, build
from parity.cases.contracts import contracts
from parity.verdict import orbit
from parity.verdict.verdict import Reference, Verdict
from reference.config import GPT2Config, axis_sizes, flatten, map_tree

Array = NDArray[Any]
Arguments = dict[str, Any]
DTYPE = np.dtype(np.float32)
THREADS, WARM_UP = 2, 2
MEMBERS = 3  # equivalent forms; few, as each is large
PEER = "transformers, sdpa"

rounds_option = click.option(
    "--rounds", type=click.IntRange(WARM_UP + 1), default=9, show_default=True, help=f"The first {WARM_UP} warm up."
)
json_option = click.option("--json", "file", type=click.Path(path_type=Path), help="Write the results to this file.")


def random_gpt2(function: str, batch_size: int, tokens: int, config: GPT2Config = GPT2Config()) -> Case:  # noqa: B008
    """Random live weights, by default of GPT-2 124M, and ids, as arguments of a function."""
    contract = contracts()[function]
    return Case(
        contract=contract,
        sizes={**axis_sizes(config), "B": batch_size, "T": tokens, "S": tokens, "P": 0},
        scalars={"config": config},
        absent=frozenset(contract.optional),
        padding="none",
        regime="live",
        seed=0,
    )


def reference(case: Case, folder: str, compute: Callable[[Arguments], Array]) -> tuple[Arguments, Reference]:
    """The arguments of a case, and the reference for `compute` on them; saves the weights to folder.

    compute is called with float64 weights, and with float32 weights in equivalent forms.
    """
    arguments, axes = build(case, DTYPE)
    write_folder(Path(folder), arguments["config"], flatten(arguments["params"]), [])
    wide = map_tree(lambda name, x: x.astype(np.float64), arguments["params"])
    oracle = compute({**arguments, "params": wide})
    del wide
    members = []
    for member in range(MEMBERS):
        chosen = orbit.permutations(case, member)
        params = orbit.permute(arguments["params"], axes["params"], case, chosen)
        members.append(compute({**arguments, "params": params}))
    return arguments, Reference(oracle, members)


@contextlib.contextmanager
def engines() -> Iterator[dict[str, Peer]]:
    """Start a process for each engine, with its number of threads set before it imports anything.

    Raises click.ClickException if there is no PyTorch to compare with.
    """
    if not peer_python().is_file():
        raise click.ClickException(f"no {peer_python()}: run `make peers` for the PyTorch to compare with")
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": str(THREADS)}
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # would force slow kernels of another processor
        environment.pop(name, None)
    if hasattr(os, "sched_setaffinity"):  # MindSpore's threads ignore the variables and count processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    ours = Path(sys.executable)
    started = {"numpy": (ours, ["benchmarks.engine", "numpy"])}
    if importlib.util.find_spec("mindspore") is not None:
        started["mindspore, graph"] = ours, ["benchmarks.engine", "mindspore"]
    started[PEER] = peer_python(), ["benchmarks.peers.pytorch"]
    with contextlib.ExitStack() as stack:
        running = {}
        for name, (python, module) in started.items():
            running[name] = Peer(python, *module, environment=environment)
            stack.callback(running[name].close)
        yield running


def take_turns(
    running: Mapping[str, Peer], rounds: Mapping[str, int], request: str, given: Mapping[str, Array], **fields: Any
) -> dict[str, list[float]]:
    """Seconds of every round after the warm-up, by engine. An engine with fewer rounds runs only in the first."""
    answers = all_turns(running, rounds, request, given, **fields)
    return {name: [answer["seconds"] for answer in measured] for name, measured in answers.items()}


def all_turns(
    running: Mapping[str, Peer], rounds: Mapping[str, int], request: str, given: Mapping[str, Array], **fields: Any
) -> dict[str, list[dict[str, Any]]]:
    """Like take_turns, with the engines' whole answers."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in running}
    for i in range(max(rounds.values())):
        for name, peer in running.items():
            if i < rounds[name]:
                time.sleep(0.5)  # until the last engine's threads stop spinning
                answers[name].append(peer.ask(request, given, **fields)[0])
    return {name: measured[WARM_UP:] for name, measured in answers.items()}


def summary(seconds: Mapping[str, list[float]], verdicts: Mapping[str, Verdict]) -> list[dict[str, Any]]:
    """For each engine: its times, its speed relative to transformers, and the judge's verdict on its results."""
    theirs = statistics.median(seconds[PEER])
    return [
        {
            "engine": name,
            "median": statistics.median(measured),
            "min": min(measured),
            "speed": theirs / statistics.median(measured),
            "agrees": verdicts[name].agrees,
            "noise_ratio": verdicts[name].noise_ratio,
            "verdict": verdicts[name].explain(),
            "seconds": measured,
        }
        for name, measured in seconds.items()
    ]


def finish(
    work: str,
    engines: list[dict[str, Any]],
    versions: Mapping[str, str],
    file: Path | None,
    result: str,
    columns: Mapping[str, str],
) -> None:
    """Print each engine's results, write them to file, and exit, with code 1 if an engine disagrees.

    work: what was timed. result: what was judged. columns: further keys of engines, with their headings.
    """
    facts: dict[str, Any] = {"machine": machine(), "versions": {**versions, **versions_here()}, "engines": engines}
    if file is not None:
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    title = f"{work} in float32: {facts['machine']['processor']}, {THREADS} threads"
    used = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    caption = f"x speed etc.: multiples of {PEER}'s figure; x noise: multiples of this input's rounding noise. {used}"
    shown = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    shown.add_column("engine", no_wrap=True)
    headings = {"median": "median s", "min": "min s", "speed": "x speed", **columns, "noise_ratio": "x noise"}
    for heading in headings.values():
        shown.add_column(heading, justify="right")
    shown.add_column(result)
    for engine in engines:
        figures = [_figure(engine[key]) for key in headings]
        shown.add_row(engine["engine"], *figures, "agree" if engine["agrees"] else engine["verdict"])
    Console(highlight=False).print(shown)
    sys.exit(0 if all(engine["agrees"] for engine in engines) else 1)


def _figure(x: float | None) -> str:
    """A figure with three digits."""
    return "?" if x is None else f"{x:#.3g}"


def machine() -> dict[str, Any]:
    """The processor, its number of cores, the threads used, and the platform."""
    model = platform.processor()
    with contextlib.suppress(OSError):  # only Linux has /proc
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {"processor": model, "processors": os.cpu_count(), "threads": THREADS, "platform": platform.platform()}


def versions_here() -> dict[str, str]:
    """The versions that our backends run on."""
    ours = {"python": platform.python_version(), "numpy": importlib.metadata.version("numpy")}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        ours["mindspore"] = importlib.metadata.version("mindspore")
    return ours
