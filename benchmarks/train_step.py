"""Time and memory of a training step: GPT-2 124M, 4 x 128 ids, float32, 2 threads; our backends against PyTorch.

Run `make bench`, or `python -m benchmarks.train_step`. A step is forward, backward, clipping by global norm and AdamW,
without dropout. Every engine runs in its own process on the same random weights. First its losses before and after
an update are judged against the float64 reference; then the engines take turns.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import race
from benchmarks.peers.client import Peer
from benchmarks.race import DTYPE, PEER, Array
from gpt2.backends import Batch, get_backend
from reference.config import TrainingConfig, flatten, nest
from reference.model import language_model_loss

BATCH, TOKENS = 4, 128
ROUNDS = {"numpy": race.WARM_UP + 2}  # fewer rounds, as it is slow
SETTINGS = TrainingConfig()
GIGABYTE = 1e9


@click.command()
@race.rounds_option
@race.json_option
def main(rounds: int, file: Path | None) -> None:
    """Time a training step of GPT-2 124M on every installed engine."""
    with race.engines() as running, tempfile.TemporaryDirectory(prefix="gpt2-train-step-") as temporary:
        folder = str(Path(temporary) / "124M")
        arguments, reference = race.reference(race.random_gpt2("model.language_model", BATCH, TOKENS), folder, learn)
        arrays = {"input_ids": arguments["ids"], "labels": arguments["ids"]}
        fields = {"folder": folder, "settings": dataclasses.asdict(SETTINGS)}
        verdicts = {name: reference.judge(losses(peer, arrays, fields)) for name, peer in running.items()}
        chosen = {name: min(rounds, ROUNDS.get(name, rounds)) for name in running}
        seconds = race.take_turns(running, chosen, "time_train_step", arrays, **fields)
        memory = {name: peer.ask("peak_memory")[0]["bytes"] for name, peer in running.items()}
        versions, _ = running[PEER].ask("ping")
    work = f"GPT-2 124M, a training step on {BATCH} x {TOKENS} ids"
    columns = {"gigabytes": "peak GB", "memory": "x GB"}
    race.finish(
        work, with_memory(race.summary(seconds, verdicts), memory), versions, file, result="loss", columns=columns
    )


def learn(arguments: race.Arguments) -> Array:
    """The first two losses (2,) of the NumPy reference, in the dtype of the weights."""
    config, parameters, ids = arguments["config"], flatten(arguments["params"]), arguments["ids"]
    dtype = parameters["wte.weight"].dtype.name
    trainer = get_backend("numpy", dtype=dtype).trainer(config, parameters, SETTINGS)
    first = trainer.step(Batch(ids, ids)).loss
    return np.array([first, language_model_loss(nest(trainer.parameters()), ids, ids, config)], dtype)


def losses(peer: Peer, given: dict[str, Array], fields: dict[str, Any]) -> Array:
    """The losses (2,) of an engine before and after one update."""
    return np.array([peer.ask("time_train_step", given, **fields)[0]["loss"] for _ in range(2)], DTYPE)


def with_memory(found: list[dict[str, Any]], memory: dict[str, int | None]) -> list[dict[str, Any]]:
    """Add to each engine's results the peak memory of its process, weights and compiler included."""
    theirs = memory[PEER]
    return [
        {
            **engine,
            "gigabytes": None if (held := memory[engine["engine"]]) is None else held / GIGABYTE,
            "memory": None if held is None or theirs is None else held / theirs,
        }
        for engine in found
    ]


if __name__ == "__main__":
    main()
