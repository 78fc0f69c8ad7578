"""Make dumps by the real msprobe: `python -m benchmarks.recorded.make_dumps FOLDER --correct 500 --bugs ...`.

--pytorch and --mindspore take the interpreter of an environment with that and mindstudio-probe. What is there already,
is not made again.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.peers.client import ROOT
from benchmarks.recorded import cells_bugs, transformers_bugs
from benchmarks.recorded.bugs import Bug
from benchmarks.recorded.cases import write_case
from benchmarks.recorded.plain import CaseOfRun
from parity.cases.cases import NO_MASK
from reference.config import GPT2Config

BUGS = (*transformers_bugs.BUGS, *cells_bugs.BUGS)
# Which models run, in which dtypes, and how often. MindSpore has hardly an operator for bfloat16 on the CPU, and is
# slow in float16.
KINDS = (
    *[("transformers", "float32"), ("transformers", "float16"), ("transformers", "bfloat16")] * 4,
    *[("cells", "float32"), ("twin", "float32")] * 3,
    ("cells", "float16"),
    ("twin", "float16"),
)
REGIMES = ("live", "live", "live", "live", "usual init", "tiny variance", "large offset", "large scores")
PADDINGS = (NO_MASK, NO_MASK, "none", "left", "right", "both")
SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_inner": 128, "n_positions": 10, "vocab_size": 61}


def draw_correct(folder: Path, number: int) -> None:
    """A random model and random inputs."""
    random = np.random.default_rng(number)
    model, dtype = KINDS[number % len(KINDS)]
    heads, tokens = int(random.integers(1, 5)), int(random.integers(2, 25))
    width = heads * int(random.integers(2, 17))
    train = bool(model == "transformers" and random.random() < 0.3)
    rate = 0.1 if not train or random.random() < 0.2 else 0.0
    activations = ("gelu_new", "gelu_new", "gelu", "relu", "silu")
    if model == "transformers":
        activations += ("quick_gelu", "mish", "relu2")
    config = GPT2Config(
        n_layer=int(random.integers(1, 4)),
        n_head=heads,
        n_embd=width,
        n_inner=None if random.random() < 0.7 else int(random.integers(1, 65)),
        n_positions=tokens + int(random.integers(0, 4)),
        vocab_size=int(random.integers(5, 102)),
        activation_function=str(random.choice(activations)),
        layer_norm_epsilon=float(random.choice([1e-5, 1e-5, 1e-6, 1e-3])),
        scale_attn_weights=bool(random.random() < 0.85),
        scale_attn_by_inverse_layer_idx=bool(random.random() < 0.2),
        reorder_and_upcast_attn=bool(model != "cells" and random.random() < 0.15),
        tie_word_embeddings=bool(random.random() < 0.8),
        resid_pdrop=rate,
        embd_pdrop=rate,
        attn_pdrop=rate,
    )
    case = CaseOfRun(
        model,
        dtype,
        train=train,
        padding=str(random.choice(PADDINGS)),
        regime=str(random.choice(REGIMES)),
        seed=number,
    )
    write_case(folder, case, config, int(random.integers(1, 5)), tokens)


def draw_bug(folder: Path, number: int, bug: Bug) -> None:
    """A model and inputs that show the bug."""
    needs: dict[str, Any] = dict(bug.needs)
    run = {name: needs.pop(name) for name in ("padding", "regime", "dtype") if name in needs}
    config = GPT2Config(**SIZES | needs, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    write_case(folder, CaseOfRun(bug.model, bug=bug.name, seed=1000 + number, **run), config, 3, 8)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--correct", default=0, show_default=True, help="How many correct dumps.")
@click.option("--bugs", is_flag=True, help="One dump of each planted bug, and one of the same model without it.")
@click.option("--large", is_flag=True, help="One step of the 124M model, 1 x 64 tokens, on PyTorch.")
@click.option("--pytorch", type=click.Path(exists=True), help="Runs transformers.")
@click.option("--mindspore", type=click.Path(exists=True), help="Runs MindSpore.")
def main(folder: Path, correct: int, bugs: bool, large: bool, pytorch: str | None, mindspore: str | None) -> None:
    """Draw the cases, and let the real msprobe dump them."""
    for number in range(correct):
        place = folder / "correct" / f"{number:04d}"
        if not place.exists():
            draw_correct(place, number)
    for number, bug in enumerate(BUGS if bugs else ()):
        place = folder / "bugs" / f"{number:04d}"
        if not place.exists():
            draw_bug(place, number, bug)
    if large and not (folder / "large" / "124M").exists():
        write_case(folder / "large" / "124M", CaseOfRun("transformers"), GPT2Config(), 1, 64)
    for module, python in (("pytorch", pytorch), ("mindspore", mindspore)):
        if python:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MSPROBE_LOG_LEVEL": "4"}
            command = [python, "-m", f"benchmarks.recorded.{module}", str(folder.absolute())]
            if subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode:
                raise click.ClickException(f"the dumps with {module} were not finished")


if __name__ == "__main__":
    main()
