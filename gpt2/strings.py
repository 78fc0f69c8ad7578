"""Text tasks on short strings: the training and test data of the packaged model `tiny`.

A sample is a record of the template "{task}: {input}\\n{output}". Its characters alone decide whether an input is held
out. A held-out input is never in the training data, for any task or seed.
"""

import hashlib
import itertools
import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np

from gpt2.files import write_text

CHARACTERS = string.ascii_lowercase + string.digits
LONGEST = 5
HELD_OUT = 0.1  # share of all inputs
# The packaged model is trained by `gpt2 train` with these settings and options, on SAMPLES samples.
RECIPE = Path(__file__).with_name("tiny") / "recipe.json"
SAMPLES, STEPS, BATCH_SIZE, SEED = 120000, 3500, 64, 1
JUDGED = 0.02  # the share of samples with held-out inputs: the recipe's held_out
TASKS: dict[str, Callable[[str], str]] = {
    "copy": lambda text: text,
    "reverse": lambda text: text[::-1],
    "sort": lambda text: "".join(sorted(text)),
    "upper": str.upper,
    "count": lambda text: str(len(text)),
    "first": lambda text: text[0],
    "last": lambda text: text[-1],
}

Sample = dict[str, str]


def is_held_out(text: str) -> bool:
    """Whether an input is held out: a tenth of all strings, chosen by their SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") < HELD_OUT * 2**32


def inputs(seed: int, held_out: bool) -> Iterator[str]:
    """Yield strings of 1 to LONGEST characters, endlessly: only held-out ones, or only others.

    No character occurs twice. Longer strings are harder, so the probability of a length is proportional to it.
    seed: from 0 to 2**64 - 1.
    """
    random = np.random.Generator(np.random.Philox(key=seed))
    ends = np.cumsum(np.arange(1, LONGEST + 1))
    while True:
        length = 1 + int(np.searchsorted(ends, random.integers(ends[-1]), side="right"))
        text = "".join(CHARACTERS[i] for i in random.permutation(len(CHARACTERS))[:length])
        if is_held_out(text) == held_out:
            yield text


def samples(seed: int, count: int, held_out: bool = False) -> list[Sample]:
    """`count` records with the fields task, input and output; the tasks alternate, each with a new input."""
    tasks = itertools.cycle(TASKS.items())
    drawn = itertools.islice(inputs(seed, held_out), count)
    return [
        {"task": name, "input": text, "output": solve(text)} for (name, solve), text in zip(tasks, drawn, strict=False)
    ]


def write_samples(path: Path, seed: int, count: int) -> None:
    """Write training data as JSON lines; the last ones, the recipe's held-out share, have held-out inputs.

    Raises GPT2Error if the file cannot be written.
    """
    judged = count - int(count * (1 - JUDGED))
    records = samples(seed, count - judged) + samples(seed, judged, held_out=True)
    write_text(path, "".join(f"{json.dumps(record)}\n" for record in records))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=SEED, show_default=True)
@click.option("--count", type=click.IntRange(1), default=SAMPLES, show_default=True, help="How many samples.")
def main(file: Path, seed: int, count: int) -> None:
    """Write the training data of the model `tiny` to FILE (.jsonl)."""
    write_samples(file, seed, count)
    click.echo(
        f"gpt2 train --data {file} --config {RECIPE} --steps {STEPS} --batch-size {BATCH_SIZE} --seed {seed} "
        "--backend mindspore --output FOLDER"
    )


if __name__ == "__main__":
    main()
