"""`gpt2 logits`, `info`, `convert` and `levels`: show predictions, describe and convert models, show precision."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.markup import escape
from rich.table import Table

from gpt2.arguments import is_finite
from gpt2.commands.options import (
    console,
    echo_json,
    engine_facts,
    json_option,
    load_model,
    loading_options,
    read_prompt,
)
from gpt2.errors import GPT2Error, counted
from gpt2.files import write_whole
from reference.config import GPT2Config


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--ids", help="The prompt as token ids.")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Number of tokens to show.")
@click.option("--output", type=click.Path(path_type=Path), help="Write all logits, (1, T, V), to this .npy file.")
@loading_options
@json_option
def logits(
    model: str, prompt: str | None, ids: str | None, top: int, output: Path | None, as_json: bool, **engine: Any
) -> None:
    """Show the tokens that MODEL finds likeliest after PROMPT."""
    loaded = load_model(model, **engine)
    start = read_prompt(loaded, prompt, ids)
    scores = loaded.logits(start)
    if output is not None:
        _save_array(output, scores)
    last = scores[0, -1].astype(np.float64)
    if not is_finite(last):
        click.echo("gpt2: note: some of the scores are NaN or infinite", err=True)
    shifted = np.exp(last - last.max())
    probabilities = shifted / shifted.sum()
    best = np.argsort(-last, kind="stable")[:top]
    rows = [
        {
            "id": int(i),
            "token": None if loaded.tokenizer is None else loaded.decode([i]),
            "logit": float(last[i]),
            "probability": float(probabilities[i]),
        }
        for i in best
    ]
    if as_json:
        echo_json({"next": rows, "shape": scores.shape} | engine_facts(loaded))
        return
    table = Table("id", "token", "logit", "probability")
    for row in rows:
        token = "" if row["token"] is None else escape(repr(row["token"]))
        table.add_row(str(row["id"]), token, f"{row['logit']:.4f}", f"{row['probability']:.4f}")
    console.print(table)


def _save_array(path: Path, array: np.ndarray) -> None:
    with write_whole(path) as part, part.open("wb") as file:
        np.save(file, array)


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--n-head", type=click.IntRange(1), help="Number of heads, if SOURCE does not say.")
@click.option("--activation", help="Activation function: gelu_new (tanh), gelu (erf), ...  [what SOURCE suggests]")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["safetensors", "ckpt", "onnx"]),
    default="safetensors",
    show_default=True,
    help="Write a model as MindSpore's mindspore.ckpt, or as model.onnx.",
)
def convert(source: Path, folder: Path, n_head: int | None, activation: str | None, kind: str) -> None:
    """Convert SOURCE to a Hugging Face folder with safetensors, or such a folder to MindSpore's checkpoint or to ONNX.

    SOURCE is a state of minGPT or nanoGPT (.pt, .safetensors, or .json with base64 tensors), OpenAI's TensorFlow
    folder, a .bin of llm.c, a .ckpt of MindSpore, an .onnx, or a folder with pytorch_model.bin. Nothing in it is run.
    """
    from gpt2.model import convert as conversion

    if kind != "safetensors":
        if n_head is not None or activation is not None:
            raise GPT2Error(
                f"--n-head and --activation are for states of other projects: leave them out with --to {kind}"
            )
        config = (conversion.to_ckpt if kind == "ckpt" else conversion.to_onnx)(str(source), folder)
        click.echo(f"{folder}: {_described(config)}")
        return
    made = conversion.convert(source, folder, n_head, activation)
    click.echo(f"{folder}: {_described(made.config)}; {made.tensors} tensors")
    click.echo(f"activation {made.config.activation_function}: {made.activation_from}")


def _described(config: GPT2Config) -> str:
    size = ", ".join(map(counted, (config.n_layer, config.n_head, config.n_embd), ("layer", "head", "channel")))
    return f"{size}, vocabulary {config.vocab_size}, context {config.n_positions}"


@click.command()
@click.argument("model")
@json_option
def info(model: str, as_json: bool) -> None:
    """Show the configuration, parameters and tokenizer of MODEL."""
    from gpt2.model import hf_folder
    from gpt2.tokenizer import load_tokenizer

    folder = hf_folder.find_folder(model)
    config = hf_folder.read_config(folder)
    parameters, tokenizer = hf_folder.read_parameters(folder, config, allow_nan=True), load_tokenizer(folder)
    broken = [name for name, x in parameters.items() if not is_finite(x)]
    facts = {
        "head": "classification" if "score.weight" in parameters else "language model",
        "parameters": sum(x.size for x in parameters.values()),
        "tensors": len(parameters),
        "dtype": ", ".join(sorted({x.dtype.name for x in parameters.values()})),
        "NaN or infinity in": ", ".join(broken) or None,
        "tokenizer": None if tokenizer is None else f"{tokenizer.get_vocab_size()} tokens",
        "config": config.to_dict(),
    }
    if as_json:
        echo_json(facts)
        return
    table = Table("", escape(str(folder)), show_header=True)
    for name, value in facts.items():
        if name != "config":
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value or "none"))
    for name, value in config.to_dict().items():
        if name not in ("id2label", "label2id"):
            table.add_row(name, "null" if value is None else json.dumps(value))
    console.print(table)


@click.command()
@click.option("--backend", envvar="GPT2_BACKEND", default="numpy", show_default=True, help="The backend that trains.")
@click.option("--device", help="CPU, Ascend or GPU  [CPU]")
@json_option
def levels(backend: str, device: str | None, as_json: bool) -> None:
    """Show which stages run in float16 at each mixed-precision level, O0 to O3, as observed on a small model."""
    from gpt2.backends import get_backend
    from gpt2.training.levels import dtypes_by_level

    dtypes = dtypes_by_level(get_backend(backend, device))
    if as_json:
        echo_json(dtypes)
        return
    table = Table("stage", *dtypes, title=f"Mixed precision on {backend}", title_justify="left")
    for stage in next(iter(dtypes.values())):
        words = [dtypes[level][stage] for level in dtypes]
        table.add_row(stage, *(f"[bold]{word}[/bold]" if word == "float16" else f"[dim]{word}[/dim]" for word in words))
    console.print(table)
