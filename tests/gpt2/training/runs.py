"""A short training run that tests ask for, by Python or by the command, and what is compared of two of them."""

import itertools
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpt2
from gpt2.training import run as training_run
from gpt2.training.metrics_file import read_metrics

STEPS, BATCH_SIZE, SEED = 6, 3, 5
MODEL = {
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 2,
    "n_positions": 8,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "resid_pdrop": 0.1,
}
LEARNING = {
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "warmup_steps": 2,
    "accumulate_step": 2,
    "max_grad_norm": 0.5,
}
CONFIG: dict[str, Any] = {"model": MODEL, "training": LEARNING, "data": {}}
CONSTANT = CONFIG | {"training": LEARNING | {"schedule": "constant"}}
WEIGHTS = "model.safetensors"


def write_text(path: Path, characters: int = 700, seed: int = 0) -> Path:
    """A file of random words, each letter of the first few in it."""
    drawn = random.Random(seed)
    path.write_text("abcdefg \n" + "".join(drawn.choice("abcdefg \n") for _ in range(characters)))
    return path


def train(data: Path, output: Path, **changes: Any) -> training_run.TrainingResult:
    """The run that the tests here are about, or one that differs in this."""
    usual = {"config": CONFIG, "steps": STEPS, "batch_size": BATCH_SIZE, "seed": SEED, "save_every": 1, "eval_every": 2}
    return gpt2.train(data, output, **{"backend": "numpy", **usual, **changes})


def train_to(step: int) -> Callable[[training_run.TrainingProgress], None]:
    """What, put as watch, ends a run after that step as Ctrl-C does."""
    return lambda progress: signal.raise_signal(signal.SIGINT) if progress.step == step else None


def command(data: Path, output: Path, *more: Any, config: Any = CONFIG, **options: Any) -> list[Any]:
    """The words of `gpt2 train` for the same run; an option that is None is left out."""
    given = {"steps": STEPS, "batch-size": BATCH_SIZE, "seed": SEED, "save-every": 1, "eval-every": 2, **options}
    if config is not None:
        file = data.parent / "settings.json"
        file.write_text(config if isinstance(config, str) else json.dumps(config))
        given["config"] = file
    words = [("--" + name, value) for name, value in given.items() if value is not None]
    return ["train", "--data", data, "--output", output, *itertools.chain(*words), *more]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What a run noted, but for the time that it took."""
    return [
        {name: x for name, x in line.items() if name != "seconds"} for line in read_metrics(folder / "metrics.jsonl")
    ]


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs made the same weights, bit for bit, and noted the same."""
    return (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes() and metrics(one) == metrics(other)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoints(folder: Path) -> list[str]:
    """The names in the folder of checkpoints."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def other_settings(section: str, **changes: Any) -> dict[str, Any]:
    """The configuration of the run, changed."""
    return CONFIG | {section: CONFIG[section] | changes}


def samples_file(folder: Path) -> Path:
    """JSON lines with pieces of abcdeabcde...: longer ones than fit, and shorter ones than can be scored."""
    drawn = random.Random(1)
    lines = [
        {"text": "".join(itertools.islice(itertools.cycle("abcde"), drawn.randrange(5), drawn.randint(6, 17)))}
        for _ in range(60)
    ]
    path = folder / "samples.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path
