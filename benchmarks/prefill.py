"""Time to read a prompt: GPT-2 124M, 1 x 512 ids, float32, 2 threads; ours against Hugging Face transformers.

Run it by `make bench`, or `python -m benchmarks.prefill`. Every engine runs in a process of its own on the same random
weights. First their scores are judged by the float64 reference, then they take turns.
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
    """Time the prefill of GPT-2 124M on every engine that is installed."""
    with race.engines() as running, tempfile.TemporaryDirectory(prefix="gpt2-prefill-") as temporary:
        folder = str(Path(temporary) / "124M")
        case = race.random_gpt2("model.language_model", 1, TOKENS)
        arguments, reference = race.reference(case, folder, lambda arguments: case.contract.target(**arguments)[0])
        given, verdicts = {"input_ids": arguments["ids"]}, {}
        for name, peer in running.items():
            _, answer = peer.ask("time_prefill", given, folder=folder, keep=True)
            verdicts[name] = reference.judge(answer["logits"])
        del reference
        seconds = race.take_turns(running, dict.fromkeys(running, rounds), "time_prefill", given, folder=folder)
        versions, _ = running[race.PEER].ask("ping")
    work = f"GPT-2 124M reads 1 x {TOKENS} ids"
    race.finish(work, race.summary(seconds, verdicts), versions, file, result="scores", columns={})


if __name__ == "__main__":
    main()
