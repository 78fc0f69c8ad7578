"""Train a GPT-2 on the characters of a text as nanoGPT does, on PyTorch: `python -m benchmarks.nanogpt`.

It takes options and the config file of `gpt2 train`, and writes the same metrics. The model is that of transformers.
Everything else is as in nanoGPT's train.py: windows at random places, in which every character is predicted; AdamW
with weight decay on matrices only; clipping; a warm-up and half a cosine.
"""

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

import click
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

HELD_OUT = 0.1  # the last share of the text
ROWS = 128  # windows per batch of the evaluation
Fields = dict[str, Any]


@click.command()
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--config", "recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--steps", type=click.IntRange(1), required=True)
@click.option("--batch-size", type=click.IntRange(1), required=True)
@click.option("--seed", type=int, required=True)
@click.option("--eval-every", type=click.IntRange(1), required=True)
@click.option(
    "--model", "form", type=click.Choice(["nanogpt", "gpt2"]), default="nanogpt", help="nanoGPT's: no biases."
)
def main(
    data: Path, output: Path, recipe: Path, steps: int, batch_size: int, seed: int, eval_every: int, form: str
) -> None:
    """Train, writing OUTPUT/metrics.jsonl."""
    fields = json.loads(recipe.read_text(encoding="utf-8"))
    torch.manual_seed(seed)
    model = make_model(fields["model"], form)
    training, held_out = split(data)
    length, settings = model.config.n_positions, fields["training"]
    optimizer = make_optimizer(model, settings)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "metrics.jsonl").open("w", encoding="utf-8") as metrics:
        for step in range(1, steps + 1):
            start = time.perf_counter()
            batch = random_windows(training, length + 1, batch_size)
            facts = update(model, optimizer, batch, rate(step - 1, settings), settings["max_grad_norm"])
            write(metrics, step=step, **facts, tokens=batch_size * length, seconds=time.perf_counter() - start)
            if step % eval_every == 0 or step == steps:
                loss = evaluate(model, held_out.unfold(0, length, length))
                write(metrics, step=step, validation_loss=loss, perplexity=math.exp(loss))


def write(metrics: TextIO, **facts: Any) -> None:
    """Write one JSON object on a line."""
    print(json.dumps(facts), file=metrics, flush=True)


def make_model(fields: Fields, form: str) -> GPT2LMHeadModel:
    """A GPT-2 with new weights. nanoGPT's form has exact GELU and no biases, so biases stay at 0."""
    if form == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**fields)).train()
    model = GPT2LMHeadModel(GPT2Config(**{**fields, "activation_function": "gelu"})).train()
    for name, x in model.named_parameters():
        x.requires_grad_(not name.endswith("bias"))
    return model


def split(data: Path) -> tuple[Tensor, Tensor]:
    """Split the text, as ids of its sorted characters, into training data (N,) and held-out data (M,)."""
    text = data.read_text(encoding="utf-8")
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([number[character] for character in text])
    end = int(len(ids) * (1 - HELD_OUT))
    return ids[:end], ids[end:]


def random_windows(stream: Tensor, length: int, rows: int) -> Tensor:
    """Windows (rows, length) of a stream (N,), at random places."""
    places = torch.randint(len(stream) - length + 1, (rows, 1))
    return stream[places + torch.arange(length)]


def make_optimizer(model: nn.Module, settings: Fields) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices, not on vectors."""
    learning = [x for x in model.parameters() if x.requires_grad]
    decay = settings["weight_decay"]
    groups = [
        {"params": [x for x in learning if x.dim() >= 2], "weight_decay": decay},
        {"params": [x for x in learning if x.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(settings["beta1"], settings["beta2"]), eps=settings["epsilon"])


def rate(step: int, settings: Fields) -> float:
    """The learning rate of update number `step`, from 0: linear warm-up, then half a cosine down."""
    highest, lowest = settings["learning_rate"], settings["final_learning_rate"]
    warmup, total = settings["warmup_steps"], settings["total_steps"]
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / (total - warmup))
    return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * progress))


def update(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor, lr: float, max_norm: float) -> Fields:
    """Update the weights on windows (B, T)."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, batch)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return {"loss": loss.item(), "lr": lr, "grad_norm": norm.item()}


def loss_of(model: nn.Module, windows: Tensor) -> Tensor:
    """The mean loss, (), over all tokens of windows (B, T) except the first of each."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def evaluate(model: nn.Module, windows: Tensor) -> float:
    """The mean loss over all windows (R, T)."""
    model.eval()
    total = sum(loss_of(model, some).item() * len(some) for some in windows.split(ROWS))
    model.train()
    return total / len(windows)


if __name__ == "__main__":
    main()
