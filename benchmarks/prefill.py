"""Time to read a prompt: GPT-2 124M, 1 x 512 ids, float32, 2 threads; ours against Hugging Face transformers.

Run it by `make bench`, or `python -m benchmarks.prefill`. Every engine runs in a process of its own on the same random
weights. First their scores are judged by the float64 reference, then they take turns.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gpt2.checkpoint import write_folder
from parity import orbit
from parity.cases import Case, build
from parity.contracts import contracts
from parity.verdict import Verdict, judge
from reference.config import GPT2Config, axis_sizes, flatten, map_tree
from tests.peers.client import HUGGING_FACE, Peer, peer_python

Array = NDArray[Any]
DTYPE = np.dtype(np.float32)
TOKENS, THREADS, WARM_UP, MEMBERS = 512, 2, 2, 3
PEER = "transformers, sdpa"


@click.command()
@click.option("--rounds", type=click.IntRange(WARM_UP + 1), default=9, show_default=True, help="The first 2 warm up.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the same facts to this file.")
def main(rounds: int, file: Path | None) -> None:
    """Time the prefill of GPT-2 124M on every engine that is installed."""
    if not peer_python().is_file():
        raise click.ClickException(f"no {peer_python()}: run `make peers` for the PyTorch to compare with")
    case = prompt()
    with tempfile.TemporaryDirectory(prefix="gpt2-prefill-") as room:
        folder = str(Path(room) / "124M")
        ids, oracle, members = reference(case, folder)
        with engines() as running:
            given = {"input_ids": ids}
            verdicts = {}
            for name, peer in running.items():
                _, answer = peer.ask("time_prefill", given, folder=folder, keep=True)
                verdicts[name] = judge(answer["logits"], oracle, members)
            del oracle, members
            seconds = take_turns(running, given, folder, rounds)
            versions, _ = running[PEER].ask("ping")
    facts = {"machine": machine(), "versions": versions | versions_here(), "engines": summary(seconds, verdicts)}
    if file is not None:
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    Console(highlight=False).print(table(facts))
    sys.exit(0 if all(verdict.agrees for verdict in verdicts.values()) else 1)


def prompt() -> Case:
    """Live weights of the shape of GPT-2 124M, and ids, from a seed."""
    config = GPT2Config()
    return Case(
        contract=contracts()["model.language_model"],
        sizes={**axis_sizes(config), "B": 1, "T": TOKENS, "S": TOKENS, "P": 0},
        scalars={"config": config},
        absent=frozenset({"attention_mask", "position_ids", "past"}),
        padding="none",
        regime="live",
        seed=0,
    )


def reference(case: Case, folder: str) -> tuple[Array, Array, list[Array]]:
    """ids (1, T), their logits in float64, and in float32 on equivalent weights; the weights are saved in folder."""
    arguments, axes = build(case, DTYPE)
    write_folder(Path(folder), arguments["config"], flatten(arguments["params"]), [])
    wide = map_tree(lambda name, x: x.astype(np.float64), arguments["params"])
    oracle = case.contract.target(**{**arguments, "params": wide})[0]
    del wide
    members = []
    for member in range(MEMBERS):
        chosen = orbit.permutations(case, member)
        params = orbit.permute(arguments["params"], axes["params"], case, chosen)
        members.append(case.contract.target(**{**arguments, "params": params})[0])
    return arguments["ids"], oracle, members


@contextlib.contextmanager
def engines() -> Iterator[dict[str, Peer]]:
    """A process for each engine; what counts threads is in place before it imports anything."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": str(THREADS)}
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # would force OpenBLAS to kernels of another processor: slow
        environment.pop(name, None)
    if hasattr(os, "sched_setaffinity"):  # MindSpore's own threads know no such variable: they count processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    commands: dict[str, list[str | Path]] = {"numpy": [sys.executable, "-m", "benchmarks.engine", "numpy"]}
    if importlib.util.find_spec("mindspore") is not None:
        commands["mindspore, graph"] = [sys.executable, "-m", "benchmarks.engine", "mindspore"]
    commands[PEER] = [peer_python(), HUGGING_FACE]
    with contextlib.ExitStack() as stack:
        running = {}
        for name, command in commands.items():
            running[name] = Peer(command, environment)
            stack.callback(running[name].close)
        yield running


def take_turns(running: dict[str, Peer], given: dict[str, Array], folder: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round after the warm-up, by engine."""
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, peer in running.items():
            time.sleep(0.5)  # until the threads of the engine before have stopped spinning
            answer, _ = peer.ask("time_prefill", given, folder=folder, keep=False)
            seconds[name].append(answer["seconds"])
    return {name: measured[WARM_UP:] for name, measured in seconds.items()}


def summary(seconds: dict[str, list[float]], verdicts: dict[str, Verdict]) -> list[dict[str, Any]]:
    """For each engine: times, how many times as fast as transformers it is, and what the judge says of its scores."""
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


def machine() -> dict[str, Any]:
    """The processor, and how much of it is used."""
    model = platform.processor()
    with contextlib.suppress(OSError):  # /proc is Linux's
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {"processor": model, "processors": os.cpu_count(), "threads": THREADS, "platform": platform.platform()}


def versions_here() -> dict[str, str]:
    """The versions that our engines run on."""
    ours = {"python": platform.python_version(), "numpy": importlib.metadata.version("numpy")}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        ours["mindspore"] = importlib.metadata.version("mindspore")
    return ours


def table(facts: dict[str, Any]) -> Table:
    """The facts for a person."""
    machine, versions = facts["machine"], facts["versions"]
    title = f"GPT-2 124M reads 1 x {TOKENS} ids in float32: {machine['processor']}, {machine['threads']} threads"
    caption = ", ".join(f"{name} {version}" for name, version in versions.items())
    shown = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    shown.add_column("engine", no_wrap=True)
    for heading in ("median s", "min s", "x transformers", "error x noise"):
        shown.add_column(heading, justify="right")
    shown.add_column("scores")
    for engine in facts["engines"]:
        figures = [f"{engine[key]:.3f}" for key in ("median", "min")]
        figures += [f"{engine[key]:.2f}" for key in ("speed", "noise_ratio")]
        shown.add_row(engine["engine"], *figures, "agree" if engine["agrees"] else engine["verdict"])
    return shown


if __name__ == "__main__":
    main()
