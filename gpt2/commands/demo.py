"""`gpt2 demo`: run the small model on both backends, and judge whether the backends agree."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpt2.backends import Backend, get_backend
from gpt2.commands.options import console
from gpt2.data.templates import find_template
from gpt2.files import write_whole
from gpt2.model.model import Model, load
from gpt2.tokenizer import END_OF_TEXT

Array = NDArray[np.floating]
TASKS, INPUT = ("copy", "reverse", "sort", "upper", "count", "first", "last"), "spore"
PICTURED = "reverse"
SHADES = " ░▒▓█"  # for attention weights from 0 to 1
NEW_TOKENS = len(INPUT) + 1  # the longest answer and its end


@click.command()
@click.option("--examples", type=click.IntRange(1), default=25, show_default=True, help="Random cases per function.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the attention of every head to this PNG file.")
def demo(examples: int, picture: Path | None) -> None:
    """Run the small model on both backends, and judge whether they agree. Needs no download."""
    if not run(console, examples, picture):
        sys.exit(1)


def run(console: Console, examples: int, picture: Path | None = None) -> bool:
    """Print the demonstration; True if everything agrees. picture: a PNG file for the attention of every head."""
    judged = get_backend("mindspore", mode="pynative")
    console.print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, MindSpore {version('mindspore')}, "
        f"{platform.machine()}\n\n[bold]1. The prompt names the task[/bold]: the small model inside the package "
        f"continues '{{task}}: {INPUT}' on both backends.\n",
        soft_wrap=True,
    )
    engines: list[Backend] = [get_backend("numpy"), get_backend("mindspore", mode="graph")]
    models = [load("tiny", backend=engine) for engine in engines]
    same = show_tasks(console, models)
    console.print(
        f"\n[bold]2. Which tokens does it attend to while it writes?[/bold] '{PICTURED}': a row for each new token; "
        "the darker a column, the more attention.\n",
        soft_wrap=True,
    )
    show_attention(console, models[0], picture)
    console.print(
        "\n[bold]3. Does every function of the forward pass agree with the reference?[/bold] Random shapes and "
        "values; the allowed error is measured on each input.\n",
        soft_wrap=True,
    )
    return judge(console, judged, examples) and same


def prompt_of(task: str) -> str:
    """The prompt of a task: the text before the answer in training."""
    return find_template("text").prompt({"task": task, "input": INPUT})


def show_tasks(console: Console, models: list[Model]) -> bool:
    """Print each model's answer to each task; True if the models write the same ids."""
    table = Table("task", *(model.backend.name for model in models), "the same ids")
    alike = True
    for task in TASKS:
        written = [answer(model, prompt_of(task)) for model in models]
        same = all(np.array_equal(ids, written[0]) for ids in written)
        alike = alike and same
        texts = [
            escape(model.decode(ids).removesuffix(END_OF_TEXT)) for model, ids in zip(models, written, strict=True)
        ]
        table.add_row(task, *texts, "[green]yes[/green]" if same else "[bold red]NO[/bold red]")
    console.print(table)
    return alike


def answer(model: Model, prompt: str) -> NDArray[np.integer]:
    """The ids (N,) that a model writes after a prompt, its end token included."""
    ids = model.encode(prompt)
    return model.generate(ids, NEW_TOKENS)[0, ids.shape[1] :]


def show_attention(console: Console, model: Model, picture: Path | None) -> None:
    """Print the attention from the new tokens to earlier ones, in one head; draw that of every head to picture."""
    ids = model.encode(prompt_of(PICTURED))
    prompt, ids = ids.shape[1], model.generate(ids, NEW_TOKENS)
    tokens = [model.decode([i]) for i in ids[0]]
    stages = model.stages(ids[:, :-1])  # the model never reads the last token
    weights = np.stack([stages[f"h.{layer}.attn.attn_weights"][0] for layer in range(model.config.n_layer)])
    writing = weights[:, :, prompt - 1 :]  # the rows that predict a new token
    letters = writing[..., : len(INPUT), prompt - 1 - len(INPUT) : prompt - 1]
    right = np.trace(letters[..., ::-1], axis1=2, axis2=3)  # from the row that writes a letter to it
    layer, head = np.unravel_index(right.argmax(), right.shape)
    console.print(f"  layer {layer}, head {head}, which attends most to the letter to write:\n", soft_wrap=True)
    for line in attention_lines(writing[layer, head], tokens, tokens[prompt:]):
        console.print(line, soft_wrap=True)
    if picture is not None:
        draw_attention(weights, [_shown(token) for token in tokens], picture)
        console.print(f"\nEvery head of every layer: {picture}", soft_wrap=True)


def attention_lines(weights: Array, tokens: list[str], written: list[str]) -> list[str]:
    """A line with the tokens read, and a line for each row of weights (N, T): the token written, then T shades."""
    lines = [" " * len("  writes x  ") + "".join(f" {_shown(token)}" for token in tokens[: weights.shape[1]])]
    for row, token in zip(weights, written, strict=True):
        shades = (SHADES[round(float(weight) * (len(SHADES) - 1))] for weight in row)
        lines.append((f"  writes {_shown(token)}  " + "".join(2 * shade for shade in shades)).rstrip())
    return lines


def _shown(token: str) -> str:
    return {"\n": "↵", " ": "␣", END_OF_TEXT: "∎"}.get(token, token)


def draw_attention(weights: Array, tokens: list[str], image: Path) -> None:
    """Draw weights (L, H, T, T) to a PNG image: one map per head, its rows and columns labelled with the tokens.

    Raises GPT2Error if the image cannot be written.
    """
    from matplotlib.figure import Figure

    layers, heads, count, _ = weights.shape
    figure = Figure(figsize=(3 * heads, 3 * layers), layout="constrained")
    for layer, row in enumerate(figure.subplots(layers, heads, squeeze=False)):
        for head, axes in enumerate(row):
            axes.imshow(weights[layer, head], vmin=0, vmax=1, cmap="viridis")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.set_xticks(range(count), tokens[:count], fontsize=6)
            axes.set_yticks(range(count), tokens[:count], fontsize=6)
    with write_whole(image) as part:
        figure.savefig(part, dpi=120, format="png")


def judge(console: Console, engine: Backend, examples: int) -> bool:
    """Judge every function of the forward pass, each on `examples` cases; True if all agree."""
    from parity.check import check_rule, rules
    from parity.report import print_results

    left_out = ("laws", "optim", "train", "training")  # slow: `gpt2 check` runs them
    forward = {
        name: rule for name, rule in rules().items() if name.split(".")[0] not in left_out and "_vjp" not in name
    }
    return print_results(forward, engine, examples, 0, console, check=check_rule).exit_code == 0
