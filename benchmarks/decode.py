"""Time to generate 64 tokens after 64, greedily: our backends against Hugging Face's generate; float32, 2 threads.

Run `make bench`, or `python -m benchmarks.decode`. Three races: GPT-2 124M with one sequence and with eight, and a
model of 4 layers and 128 channels. Every engine runs in its own process on the same random weights. First the ids
are compared with those of transformers; then the engines take turns.
"""

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks import race
from benchmarks.peers.client import Peer
from benchmarks.race import DTYPE, PEER, Array
from gpt2.model.hf_folder import write_folder
from parity.cases.cases import build
from parity.verdict.verdict import identical
from reference.config import GPT2Config, flatten

PROMPT, NEW = 64, 64
SMALL = GPT2Config(n_layer=4, n_embd=128, n_head=4, vocab_size=1000)
# Config, sequences, and repetitions per turn: the small model's 0.05 s would be too short to time.
RACES = {
    "124M x 1": (GPT2Config(), 1, 1),
    "124M x 8": (GPT2Config(), 8, 1),
    "small x 1": (SMALL, 1, 10),
}


@click.command()
@race.rounds_option
@race.json_option
def main(rounds: int, file: Path | None) -> None:
    """Time greedy decoding on every installed engine."""
    results = []
    with race.engines() as running, tempfile.TemporaryDirectory(prefix="gpt2-decode-") as temporary:
        for number, (name, (config, batch_size, times)) in enumerate(RACES.items()):
            folder = str(Path(temporary) / str(number))
            given = {"input_ids": random_prompts(config, batch_size, folder)}
            results += [
                {**engine, "engine": f"{name}: {engine['engine']}"}
                for engine in compete(running, rounds, given, folder, times)
            ]
        versions, _ = running[PEER].ask("ping")
    work = f"GPT-2 writes {NEW} ids after {PROMPT}"
    race.finish(work, results, versions, file, result="ids", columns={"processor": "CPU s", "work": "x CPU"})


def random_prompts(config: GPT2Config, batch_size: int, folder: str) -> Array:
    """Random prompts (B, T) for a random model, whose weights are saved to folder."""
    arguments, _ = build(race.random_gpt2("model.language_model", batch_size, PROMPT, config), DTYPE)
    write_folder(Path(folder), config, flatten(arguments["params"]), [])
    return arguments["ids"]


def compete(
    running: Mapping[str, Peer], rounds: int, given: Mapping[str, Array], folder: str, times: int
) -> list[dict[str, Any]]:
    """Run one race: the results of each engine, with its processor time over all threads."""
    fields = {"folder": folder, "new": NEW, "times": times}
    ids = {name: peer.ask("time_decode", given, **fields)[1]["ids"] for name, peer in running.items()}
    verdicts = {name: identical(x, ids[PEER]) for name, x in ids.items()}
    answers = race.all_turns(running, dict.fromkeys(running, rounds), "time_decode", given, **fields)
    seconds, processor = (
        {name: [answer[key] for answer in measured] for name, measured in answers.items()}
        for key in ("seconds", "processor")
    )
    theirs = statistics.median(processor[PEER])
    return [
        {**engine, "processor": (own := statistics.median(processor[engine["engine"]])), "work": theirs / own}
        for engine in race.summary(seconds, verdicts)
    ]


if __name__ == "__main__":
    main()
