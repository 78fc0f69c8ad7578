"""Time to read a prompt: GPT-2 124M, 1 x 512 ids, float32, 2 threads; our backends against transformers.

Run `make bench`, or `python -m benchmarks.prefill`. Every engine runs in its own process on the same random weights.
First the logits are judged against the float64 reference; then the engines take turns.
"""

import tempfile
from pathlib import Path

import click

from benchmarks import race

TOKENS = 512


@click.command()
@race.rounds_option
@race.json_option
def main(rounds: int, file: Path | None) -> None:
    """Time the prefill of GPT-2 124M on every installed engine."""
    with race.engines() as running, tempfile.TemporaryDirectory(prefix="gpt2-prefill-") as temporary:
        folder = str(Path(temporary) / "124M")
        case = race.random_gpt2("model.language_model", 1, TOKENS)
        arguments, reference = race.reference(case, folder, lambda arguments: case.contract.target(**arguments)[0])
        arrays, verdicts = {"input_ids": arguments["ids"]}, {}
        for name, peer in running.items():
            _, answer = peer.ask("time_prefill", arrays, folder=folder, keep=True)
            verdicts[name] = reference.judge(answer["logits"])
        del reference
        seconds = race.take_turns(running, dict.fromkeys(running, rounds), "time_prefill", arrays, folder=folder)
        versions, _ = running[race.PEER].ask("ping")
    work = f"GPT-2 124M reads 1 x {TOKENS} ids"
    race.finish(work, race.summary(seconds, verdicts), versions, file, result="scores", columns={})


if __name__ == "__main__":
    main()
