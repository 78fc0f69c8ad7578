"""Short fine-tuning runs that tests ask for, by Python or by the command, and what they learn from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpt2.finetune import run as finetune_run
from gpt2.finetune.run import FinetuneResult

MODEL = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 24, "embd_pdrop": 0.1}
CONFIG_OF_RUN: dict[str, Any] = {"model": MODEL, "training": {"learning_rate": 2e-2}, "data": {"held_out": 0.25}}
WORDS = ["天", "地", "人", "山", "水", "火"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "sea", "##side", "。", ","]
GENERATION = {"max_new_tokens": 4, "num_beams": 2, "no_repeat_ngram_size": 0}
WEIGHTS = "model.safetensors"


def pairs(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Articles whose summary is their first two words."""
    random = np.random.default_rng(seed)
    articles = ["".join(random.choice(WORDS, 9)) for _ in range(count)]
    return [{"article": article, "summarization": article[:2]} for article in articles]


def texts(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Texts whose label says which of two words they begin with; two of three have the same."""
    random = np.random.default_rng(seed)
    labels = [("天", "high") if i % 3 else ("火", "hot") for i in range(count)]
    return [
        {"text": first + "".join(random.choice(WORDS[1:5], random.integers(1, 6))), "label": label}
        for first, label in labels
    ]


def lines_of(path: Path, records: list[Any]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), encoding="utf-8")
    return path


def summarize(data: Path, output: str, **changes: Any) -> FinetuneResult:
    """The run that the tests here are about, or one that differs in this."""
    usual = {
        "config": CONFIG_OF_RUN,
        "tokenizer": str(data / "vocab.txt"),
        "generation": GENERATION,
        "steps": 4,
        "batch_size": 3,
        "seed": 5,
        "save_every": 1,
        "eval_every": 2,
        "backend": "numpy",
    }
    return finetune_run.summarize(data / "pairs.jsonl", data / output, **{**usual, **changes})


def classify(data: Path, output: str, **changes: Any) -> FinetuneResult:
    """A classifier trained likewise."""
    usual = {
        "config": CONFIG_OF_RUN,
        "tokenizer": str(data / "vocab.txt"),
        "steps": 4,
        "batch_size": 3,
        "seed": 5,
        "save_every": 1,
        "eval_every": 2,
        "backend": "numpy",
    }
    return finetune_run.classify(data / "texts.jsonl", data / output, **{**usual, **changes})


KINDS: dict[str, Callable[..., FinetuneResult]] = {"summarize": summarize, "classify": classify}


def evaluation(folder: Path) -> dict[str, Any]:
    """What was found at the end of a run."""
    return json.loads((folder / finetune_run.EVALUATION).read_text(encoding="utf-8"))


def judged(folder: Path) -> list[int]:
    """The samples, from 0, that were judged at the end of a run."""
    return [int(example["where"].split()[-1]) - 1 for example in evaluation(folder)["examples"]]


def command(data: Path, kind: str, *more: Any, file: str = "", output: str = "run", **options: Any) -> list[Any]:
    """The words of `gpt2 finetune` for a short run."""
    given = {
        "data": data / (file or {"summarize": "pairs.jsonl", "classify": "texts.jsonl"}[kind]),
        "output": data / output,
        "config": data / "settings.json",
        "tokenizer": data / "vocab.txt",
        "steps": 2,
        "batch-size": 3,
        "backend": "numpy",
        **options,
    }
    words = [word for name, value in given.items() if value is not None for word in ("--" + name, value)]
    return ["finetune", kind, *words, *more, *(["--max-new-tokens", 4] if kind == "summarize" else [])]
