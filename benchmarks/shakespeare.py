"""Train a small GPT-2 on the characters of Shakespeare: with `gpt2 train` on each backend, and with nanoGPT's recipe.

Run `python -m benchmarks.shakespeare` after `make peers`. Size, steps and schedule are nanoGPT's for a CPU:
config/train_shakespeare_char.py with the changes of its README. The peer trains with this recipe on PyTorch: once
nanoGPT's model, without biases and with exact GELU, and once GPT-2's model, as we do. All are evaluated on the same
windows of 64 characters.

Remaining differences: random numbers; rows (ours start at multiples of 64, occur once per epoch and predict 63
characters; nanoGPT's start anywhere and predict 64); the warm-up (ours begins at rate 0).
"""

import dataclasses
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import race
from benchmarks.peers.client import ROOT, peer_python
from gpt2.training.metrics_file import METRICS, plot_curves, read_metrics
from reference.config import GPT2Config, TrainingConfig

DATA = Path(os.environ.get("GPT2_DATA", ROOT.parent / "shared" / "data")) / "tinyshakespeare" / "input.txt"
STEPS, BATCH, EVALUATE_EVERY = 2000, 12, 250
WARM_UP_STEPS = 100
SIZE = GPT2Config(n_positions=64, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
SETTINGS = TrainingConfig(
    learning_rate=1e-3,
    final_learning_rate=1e-4,
    schedule="cosine",
    warmup_steps=WARM_UP_STEPS,
    total_steps=STEPS,
    beta2=0.99,
    weight_decay=0.1,
    max_grad_norm=1.0,
)
PEERS = {"nanoGPT": "nanogpt", "nanoGPT, GPT-2's model": "gpt2"}
PEER = "nanoGPT"
BACKENDS = ("mindspore", "numpy")
ALLOWED = 1.02  # times the peer's validation loss

Facts = dict[str, Any]


@click.command()
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=DATA, help="The text.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Keep what the runs write here.")
@click.option("--backend", "backends", type=click.Choice(BACKENDS), multiple=True, default=BACKENDS, help="Repeatable.")
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2), show_default=True, help="Repeatable.")
@click.option("--steps", type=click.IntRange(WARM_UP_STEPS + 1), default=STEPS, show_default=True)
@click.option("--plot", "image", type=click.Path(dir_okay=False, path_type=Path), help="Draw all curves to this image.")
@race.json_option
def main(
    data: Path,
    output: Path | None,
    backends: tuple[str, ...],
    seeds: tuple[int, ...],
    steps: int,
    image: Path | None,
    file: Path | None,
) -> None:
    """Train a small GPT-2 on PyTorch and on our backends, with every seed."""
    if not peer_python().is_file():
        raise click.ClickException(f"no {peer_python()}: run `make peers` for the PyTorch to compare with")
    with tempfile.TemporaryDirectory(prefix="gpt2-shakespeare-") as temporary:
        folder = (output or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / "recipe.json"
        recipe.write_text(json.dumps(sections(data, steps), indent=2) + "\n", encoding="utf-8")
        options = [
            "--data",
            data.absolute(),
            "--config",
            recipe,
            "--steps",
            steps,
            "--batch-size",
            BATCH,
            "--eval-every",
            EVALUATE_EVERY,
        ]
        runs, curves = [], {}
        for engine, command in commands(backends).items():
            for seed in seeds:
                label = f"{engine}, seed {seed}"
                seconds, curves[label] = train([*command, *options, "--seed", seed], folder, label)
                runs.append({"run": label, "engine": engine, "seconds": seconds, **result(curves[label])})
        if image is not None:
            plot_curves(curves, image)
    finish(runs, steps, file)


def sections(data: Path, steps: int) -> Facts:
    """The config file of every run."""
    characters = set(data.read_text(encoding="utf-8"))
    model = dataclasses.replace(SIZE, vocab_size=len(characters))
    training = dataclasses.replace(SETTINGS, total_steps=steps)
    return {
        "model": dataclasses.asdict(model),
        "training": dataclasses.asdict(training),
        "data": {"tokenizer": "characters", "held_out": 0.1},
    }


def commands(backends: tuple[str, ...]) -> dict[str, list[Any]]:
    """The command that trains with each engine."""
    peers = {name: [peer_python(), "-m", "benchmarks.nanogpt", "--model", form] for name, form in PEERS.items()}
    ours = {name: [sys.executable, "-m", "gpt2", "train", "--backend", name] for name in backends}
    return peers | ours


def train(command: list[Any], folder: Path, label: str) -> tuple[float, Path]:
    """The duration of a run in seconds, and its metrics file. Raises click.ClickException if the run fails."""
    output = folder / re.sub(r"\W+", "-", label)
    click.echo(label, err=True)
    threads = {"OMP_NUM_THREADS": str(race.THREADS), "OPENBLAS_NUM_THREADS": str(race.THREADS)}
    whole = [*map(str, command), "--output", str(output)]
    start = time.perf_counter()
    ran = subprocess.run(whole, cwd=ROOT, env=os.environ | threads, stdout=subprocess.DEVNULL, check=False)
    if ran.returncode:
        raise click.ClickException(f"{label}: ended with code {ran.returncode}: {shlex.join(whole)}")
    return time.perf_counter() - start, output / METRICS


def result(metrics: Path) -> Facts:
    """The last validation loss of a run, and the tokens per second of its median update."""
    lines = read_metrics(metrics)
    return {
        "validation_loss": [line["validation_loss"] for line in lines if "validation_loss" in line][-1],
        "speed": statistics.median(line["tokens"] / line["seconds"] for line in lines if "tokens" in line),
    }


def finish(found: list[Facts], steps: int, file: Path | None) -> None:
    """Print each run's results, write them to file, and exit, with code 1 if one of our runs learns less."""
    theirs = statistics.mean(run["validation_loss"] for run in found if run["engine"] == PEER)
    compared = [{**run, "ratio": run["validation_loss"] / theirs} for run in found]
    facts: Facts = {"machine": race.machine(), "versions": race.versions_here(), "steps": steps, "runs": compared}
    if file is not None:
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    title = f"A small GPT-2 on the characters of a text, {steps} steps: {facts['machine']['processor']}"
    caption = f"ratio: to the mean of {PEER}; seconds: of the whole run; tokens/s: of the median update"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("run", no_wrap=True)
    for heading in ("validation loss", "ratio", "seconds", "tokens/s"):
        table.add_column(heading, justify="right")
    for run in compared:
        figures = f"{run['validation_loss']:.4f}", f"{run['ratio']:.4f}", f"{run['seconds']:.0f}", f"{run['speed']:.0f}"
        table.add_row(run["run"], *figures)
    Console(highlight=False).print(table)
    sys.exit(0 if all(run["ratio"] <= ALLOWED for run in compared if run["engine"] in BACKENDS) else 1)


if __name__ == "__main__":
    main()
