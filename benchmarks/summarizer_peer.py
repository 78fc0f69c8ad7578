"""Train and run a summariser on PyTorch and transformers: `python -m benchmarks.summarizer_peer FOLDER`.

It reads initial weights, micro-batches, settings and prompts that benchmarks/summarizer.py has written to the folder.
It writes metrics like those of `gpt2 train`, and the ids of the summaries.
"""

import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.peers.generating import until_stop
from benchmarks.peers.hugging_face import load
from benchmarks.peers.learning import Training, loss_of

Facts = dict[str, Any]
Arrays = dict[str, np.ndarray]


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(folder: Path, threads: int) -> None:
    """Train, writing FOLDER/metrics.jsonl; then summarise, writing FOLDER/answers.json."""
    torch.set_num_threads(threads)
    facts = json.loads((folder / "given.json").read_text(encoding="utf-8"))
    model = load(str(folder / "first"), attention="sdpa")
    train(model, facts, arrays(folder / "rows.npz"), arrays(folder / "held_out.npz"), folder / "metrics.jsonl")
    answers = [
        summary for batch in batches(facts["prompts"], facts["judge_batch"]) for summary in write(model, batch, facts)
    ]
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")


def arrays(path: Path) -> Arrays:
    """Micro-batches: input_ids, attention_mask and labels, each (N, B, T)."""
    with np.load(path) as file:
        return {name: x.astype(np.int64) for name, x in file.items()}


def train(model: PreTrainedModel, facts: Facts, rows: Arrays, held_out: Arrays, path: Path) -> None:
    """Train on the micro-batches in order."""
    training, every, losses = Training(model, facts["training"]), facts["training"]["accumulate_step"], []
    start = time.perf_counter()
    with path.open("w", encoding="utf-8") as metrics:
        for i in range(len(rows["labels"])):
            lr = training.schedule.get_last_lr()[0]
            losses.append(training.step({name: x[i] for name, x in rows.items()}))
            if len(losses) < every:
                continue
            step, loss, losses = (i + 1) // every, statistics.mean(losses), []
            seconds, start = time.perf_counter() - start, time.perf_counter()
            print(json.dumps({"step": step, "loss": loss, "lr": lr, "seconds": seconds}), file=metrics, flush=True)
            if step % facts["eval_every"] == 0:
                mean_loss = validation_loss(model, held_out)
                line = {"step": step, "validation_loss": mean_loss, "perplexity": math.exp(mean_loss)}
                print(json.dumps(line), file=metrics, flush=True)
                start = time.perf_counter()


@torch.no_grad()
def validation_loss(model: PreTrainedModel, held_out: Arrays) -> float:
    """The mean loss over all scored tokens."""
    losses, counts = [], []
    for i in range(len(held_out["labels"])):
        batch = {name: x[i] for name, x in held_out.items()}
        losses.append(loss_of(model, batch).item())
        counts.append(int((batch["labels"][:, 1:] != -100).sum()))
    return float(np.average(losses, weights=counts))


def batches(prompts: list[list[int]], size: int) -> list[list[list[int]]]:
    """The prompts in batches of `size`."""
    return [prompts[i : i + size] for i in range(0, len(prompts), size)]


@torch.no_grad()
def write(model: PreTrainedModel, prompts: list[list[int]], facts: Facts) -> list[list[int]]:
    """New ids of each prompt, by transformers' generate, with padding on the left."""
    longest, stop = max(map(len, prompts)), facts["stop_id"]
    ids = torch.tensor([[stop] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    config = GenerationConfig(do_sample=False, eos_token_id=stop, pad_token_id=stop, **facts["generation"])
    written = model.generate(ids, attention_mask=mask, generation_config=config)
    return [until_stop(new, [stop]) for new in written[:, longest:].tolist()]


if __name__ == "__main__":
    main()
