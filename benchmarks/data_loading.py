"""Time to load a micro-batch and to draw its dropout masks: GPT-2 124M, 4 x 128 and 4 x 1024 ids.

Run `python -m benchmarks.data_loading`. Both pipelines read the same rows, packed and padded. The masks are those of
`gpt2.data.dropout_masks`, for 12 layers. `benchmarks.train_step` measures the training step itself.
"""

import importlib.util
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import race
from gpt2.data.dropout_masks import draw_keep
from gpt2.data.settings import get_pipeline
from reference.config import GPT2Config

BATCH, LENGTHS = 4, (128, 1024)
ROWS = 2000  # 500 micro-batches in an epoch
MICRO_BATCHES = 600  # from the first epoch into the second
MASKS = 5  # repetitions of drawing masks, which is slow
CONFIG = GPT2Config()


@click.command()
@race.json_option
def main(file: Path | None) -> None:
    """Time the preparation of data for a training step of GPT-2 124M."""
    pipelines = ["numpy", *(["mindspore"] if importlib.util.find_spec("mindspore") is not None else [])]
    measured = {}
    for length in LENGTHS:
        works: dict[str, tuple[Callable[[], Iterator[Any]], int]] = {}
        for layout, arrays in rows(length).items():
            for name in pipelines:
                works[f"{name}, {layout}"] = (make_reader(name, arrays), MICRO_BATCHES)
        works["dropout masks"] = (lambda length=length: draw(length), MASKS)
        measured[length] = {name: milliseconds(start(), number) for name, (start, number) in works.items()}
    facts = {
        "machine": race.machine(),
        "versions": race.versions_here(),
        "milliseconds": {f"{BATCH} x {length}": figures for length, figures in measured.items()},
    }
    if file is not None:
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    show(facts)


def rows(length: int) -> dict[str, dict[str, np.ndarray]]:
    """Random ids from a fixed seed, packed and padded."""
    random = np.random.default_rng(0)
    pipeline = get_pipeline("numpy")
    stream = random.integers(0, CONFIG.vocab_size, ROWS * length, np.int32)
    packed = pipeline.windows(stream, length)
    lengths = random.integers(1, length + 1, ROWS)
    padded = pipeline.pad_rows([row[:n] for row, n in zip(packed, lengths, strict=True)], length, pad_id=0)
    return {"packed": {"ids": packed, "labels": packed}, "padded": padded}


def make_reader(pipeline: str, arrays: Mapping[str, np.ndarray]) -> Callable[[], Iterator[Any]]:
    """A function that starts reading micro-batches with this pipeline."""
    return lambda: get_pipeline(pipeline).batches(arrays, BATCH, seed=0)


def draw(length: int) -> Iterator[Any]:
    """Yield the masks of each micro-batch."""
    return (draw_keep(CONFIG, BATCH, length, seed=0, step=step) for step in itertools.count())


def milliseconds(made: Iterator[Any], number: int) -> dict[str, float]:
    """Median and maximum time of one item; the first item of an epoch also shuffles."""
    next(made)  # imports modules and fills read-ahead buffers
    seconds = []
    for _ in range(number):
        start = time.perf_counter()
        next(made)
        seconds.append(time.perf_counter() - start)
    return {name: 1000 * of(seconds) for name, of in (("median", statistics.median), ("max", max))}


def show(facts: Mapping[str, Any]) -> None:
    """Print the figures as a table."""
    used = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    table = Table(title="ms per micro-batch, median (max)", caption=used, title_justify="left", caption_justify="left")
    table.add_column("", no_wrap=True)
    columns = facts["milliseconds"]
    for size in columns:
        table.add_column(size, justify="right")
    for name in next(iter(columns.values())):
        figures = (column[name] for column in columns.values())
        table.add_row(name, *(f"{figure['median']:#.3g} ({figure['max']:#.3g})" for figure in figures))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
