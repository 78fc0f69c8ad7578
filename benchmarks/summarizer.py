"""Train a small summariser, from Chinese abstracts to titles, here and on PyTorch: `python -m benchmarks.summarizer`.

Run it after `make peers`. For each seed, `gpt2 finetune summarize` trains a model, and so does torch.optim.AdamW on
transformers' GPT2LMHeadModel, with the same initial weights, micro-batches in the same order, settings and prompts.
ROUGE is computed on characters. Runs that are complete in the output folder are not repeated; an interrupted run is
resumed.

Data: CSL's pairs of abstract and title, dev.tsv for training and test.tsv for evaluation. The tokens are the word
pieces of bert-base-chinese that occur in dev.tsv.
"""

import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import race
from benchmarks.peers.client import ROOT, peer_python
from gpt2.data.corpus import Corpus, read_corpus
from gpt2.data.records import BrokenLines, read_records
from gpt2.data.settings import DataConfig
from gpt2.data.templates import find_template
from gpt2.evaluation import metrics
from gpt2.finetune.run import EVALUATION, SCORES, read_task
from gpt2.finetune.summarizer import Summarizer
from gpt2.model.hf_folder import write_folder
from gpt2.model.model import load
from gpt2.tokenizer import BERT_SPECIAL, encode, load_tokenizer
from gpt2.training.checkpoint import latest_checkpoint, read_checkpoint
from gpt2.training.initial_weights import initial_parameters
from gpt2.training.metrics_file import METRICS, plot_curves
from gpt2.training.run import CHECKPOINTS
from reference.config import GPT2Config
from reference.data import batches

DATA = Path(os.environ.get("GPT2_DATA", ROOT.parent / "shared" / "data"))
PAIRS, VOCABULARY = Path("csl_title_summarization"), Path("bert_base_chinese")
ARTICLE, SUMMARY = "2", "3"  # columns
STEPS, BATCH, JUDGED, JUDGE_BATCH = 300, 8, 200, 16
SETTINGS: dict[str, Any] = {
    # No dropout, as transformers would draw other masks.
    "model": {
        "n_positions": 256,
        "n_embd": 128,
        "n_layer": 4,
        "n_head": 4,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
    },
    "training": {"learning_rate": 2e-3},
    "data": {"held_out": 0.048, "split": "last", "score": "output"},
}
PEER = "transformers, PyTorch"

Facts = dict[str, Any]


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), default=DATA, help="Its folder.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the runs.")
@click.option("--backend", default="mindspore", show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(1, 2, 3), show_default=True, help="Repeatable.")
@click.option("--steps", type=click.IntRange(10), default=STEPS, show_default=True)
@click.option("--limit", type=click.IntRange(1), default=JUDGED, show_default=True, help="Pairs to evaluate.")
@click.option("--plot", "image", type=click.Path(dir_okay=False, path_type=Path), help="Draw all curves to this image.")
@race.json_option
def main(
    data: Path,
    output: Path,
    backend: str,
    seeds: tuple[int, ...],
    steps: int,
    limit: int,
    image: Path | None,
    file: Path | None,
) -> None:
    """Train a summariser with both, for every seed, and compare them by ROUGE."""
    if not peer_python().is_file():
        raise click.ClickException(f"no {peer_python()}: run `make peers` for the PyTorch to compare with")
    output = output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    vocabulary, settings = output / "vocab.txt", output / "settings.json"
    vocabulary.write_text("\n".join(word_pieces(data)) + "\n", encoding="utf-8")
    settings.write_text(json.dumps(SETTINGS, indent=2) + "\n", encoding="utf-8")
    runs, curves = [], {}
    for seed in seeds:
        ours, theirs = output / f"{backend}-{seed}", output / f"peer-{seed}"
        found = train_ours(data, ours, backend, seed, steps, limit)
        for engine, folder, scores in (
            (backend, ours, found["scores"]["model"]),
            (PEER, theirs, train_theirs(data, ours, theirs, found)),
        ):
            curves[f"{engine}, seed {seed}"] = folder / METRICS
            runs.append({"engine": engine, "seed": seed, "scores": scores, "seconds": seconds(folder / METRICS)})
        runs += [{"engine": name, "seed": seed, "scores": found["scores"][name]} for name in ("untrained", "lead")]
    if image is not None:
        plot_curves(curves, image)
    finish(runs, backend, {"steps": steps, "samples": found["samples"], "generation": found["generation"]}, file)


def word_pieces(data: Path) -> list[str]:
    """The lines of a vocab.txt: BERT's special tokens, and the word pieces that occur in the training texts."""
    tokenizer = load_tokenizer(data / VOCABULARY)
    if tokenizer is None:
        raise click.ClickException(f"no vocab.txt in {data / VOCABULARY}")
    texts = (data / PAIRS / "dev.tsv").read_text(encoding="utf-8")
    used = {tokenizer.id_to_token(i) for line in texts.splitlines() for i in encode(tokenizer, line, False)}
    return [*("[PAD]", *BERT_SPECIAL[:3], "[MASK]"), *sorted(used - set(BERT_SPECIAL))]


def train_ours(data: Path, folder: Path, backend: str, seed: int, steps: int, limit: int) -> Facts:
    """The evaluation of `gpt2 finetune summarize`, which is run if needed."""
    if not (folder / EVALUATION).is_file():
        pairs = data / PAIRS
        run(
            [
                sys.executable,
                "-m",
                "gpt2",
                "finetune",
                "summarize",
                "--data",
                pairs / "dev.tsv",
                "--test",
                pairs / "test.tsv",
                "--article",
                ARTICLE,
                "--summary",
                SUMMARY,
                "--limit",
                limit,
                "--output",
                folder,
                "--tokenizer",
                folder.parent / "vocab.txt",
                "--config",
                folder.parent / "settings.json",
                "--steps",
                steps,
                "--batch-size",
                BATCH,
                "--judge-batch",
                JUDGE_BATCH,
                "--seed",
                seed,
                "--backend",
                backend,
                "--resume",
            ]
        )
    return json.loads((folder / EVALUATION).read_text(encoding="utf-8"))


def train_theirs(data: Path, ours: Path, folder: Path, found: Facts) -> dict[str, float]:
    """ROUGE of the same training and prompts on PyTorch, which is run if needed."""
    template = find_template(*(read_task(ours)[name] for name in ("template", "output", "truncate")))
    model = load(ours, "numpy")
    summarizer = Summarizer(model, template, read_task(ours)["block_size"], found["generation"])
    records = read_records(data / PAIRS / "test.tsv", template, BrokenLines())[: found["samples"]]
    if not (folder / "answers.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        made = recipe_of(ours)
        export(data, ours, folder, made)
        inputs = {
            "training": made["training"],
            "generation": found["generation"],
            "judge_batch": JUDGE_BATCH,
            "eval_every": max(1, made["steps"] // 10),
            "stop_id": summarizer.stop_ids[0],
            "prompts": [summarizer.prompt(record.values)[0] for record in records],
        }
        (folder / "given.json").write_text(json.dumps(inputs), encoding="utf-8")
        run([peer_python(), "-m", "benchmarks.summarizer_peer", folder, "--threads", race.THREADS])
    answers = [summarizer.text(new) for new in json.loads((folder / "answers.json").read_text(encoding="utf-8"))]
    scores = metrics.rouge(answers, [record.values[template.output] for record in records])
    return {name: scores[name] for name in SCORES}


def recipe_of(folder: Path) -> Facts:
    """Every setting of a run, from its checkpoint."""
    path = latest_checkpoint(folder / CHECKPOINTS)
    if path is None:
        raise click.ClickException(f"{folder} holds no training run")
    return read_checkpoint(path).facts["recipe"]


def export(data: Path, ours: Path, folder: Path, made: Facts) -> None:
    """Write the initial weights and micro-batches of our run for the peer."""
    config = GPT2Config(**made["model"])
    corpus = read_corpus(
        data / PAIRS / "dev.tsv",
        DataConfig(**made["data"]),
        config.n_positions,
        load_tokenizer(ours),
        config.vocab_size,
        config.pad_token_id,
        seed=made["seed"],
    )
    if not (folder / "first").exists():
        write_folder(folder / "first", config, initial_parameters(config, made["seed"]), [])
    count = made["steps"] * made["training"]["accumulate_step"]
    learnt = itertools.islice(batches(corpus.training, made["batch_size"], made["seed"]), count)
    save(folder / "rows.npz", list(learnt))
    save(folder / "held_out.npz", in_order(corpus, made["batch_size"]))


def in_order(corpus: Corpus, size: int) -> list[dict[str, Any]]:
    """The held-out rows in full batches of `size`."""
    count = len(corpus.held_out["ids"])
    return [
        {name: x[i : i + size] for name, x in corpus.held_out.items()} for i in range(0, count - count % size, size)
    ]


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Micro-batches as one file: input_ids, attention_mask and labels, each (N, B, T)."""
    names = {"ids": "input_ids", "attention_mask": "attention_mask", "labels": "labels"}
    np.savez(path, **{their: np.stack([row[our] for row in rows]) for our, their in names.items()})


def run(command: list[Any]) -> None:
    """Run a command to its end. Raises click.ClickException if it fails."""
    words = list(map(str, command))
    click.echo(shlex.join(words), err=True)
    threads = {"OMP_NUM_THREADS": str(race.THREADS), "OPENBLAS_NUM_THREADS": str(race.THREADS)}
    ran = subprocess.run(words, cwd=ROOT, env=os.environ | threads, stdout=subprocess.DEVNULL, check=False)
    if ran.returncode:
        raise click.ClickException(f"ended with code {ran.returncode}: {shlex.join(words)}")


def seconds(path: Path) -> float:
    """The total time of a run's updates."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return sum(line["seconds"] for line in lines if "seconds" in line)


def finish(runs: list[Facts], backend: str, facts: Facts, file: Path | None) -> None:
    """Print means and spreads over the seeds, write all results, and exit, with code 1 if ours is not level.

    Level: the means differ by no more than the peer's scores do between seeds. It must also beat the untrained model.
    """
    means: Facts = {}
    for name in dict.fromkeys(row["engine"] for row in runs):
        scores = [row["scores"] for row in runs if row["engine"] == name]
        means[name] = {
            score: {
                "mean": statistics.mean(row[score] for row in scores),
                "spread": max(row[score] for row in scores) - min(row[score] for row in scores),
            }
            for score in SCORES
        }
    level = {
        score: abs(means[backend][score]["mean"] - means[PEER][score]["mean"]) <= means[PEER][score]["spread"]
        for score in SCORES
    }
    above = {
        name: {score: means[backend][score]["mean"] > means[name][score]["mean"] for score in SCORES}
        for name in ("untrained", "lead")
    }
    results = {
        "machine": race.machine(),
        "versions": race.versions_here(),
        **facts,
        "means": means,
        "level": level,
        "above": above,
        "runs": runs,
    }
    if file is not None:
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    table = Table(title=f"CSL titles, {facts['steps']} steps, {facts['samples']} pairs: mean (highest - lowest seed)")
    for heading in ("", *SCORES):
        table.add_column(heading)
    for name, found in means.items():
        table.add_row(name, *(f"{found[score]['mean']:.2f} ({found[score]['spread']:.2f})" for score in SCORES))
    Console(highlight=False).print(table)
    for what, by in (("level with the peer", level), *((f"above {name}", found) for name, found in above.items())):
        answers = [f"{score} {'yes' if yes else 'no'}" for score, yes in by.items()]
        click.echo(f"{what}: {', '.join(answers)}")
    sys.exit(0 if all(level.values()) and all(above["untrained"].values()) else 1)


if __name__ == "__main__":
    main()
