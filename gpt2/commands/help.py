"""What `--help` shows: the commands in groups, in whole sentences, and two examples at the end of each."""

from collections.abc import Mapping, Sequence

import click

# Two for every command, each as it can be typed. A test parses them.
EXAMPLES: Mapping[str, tuple[str, str]] = {
    "generate": (
        "printf 'reverse: spore\\n' | gpt2 generate tiny -",
        "gpt2 generate gpt2 'The meaning of life is' --temperature 0.8 --top-p 0.9 --backend mindspore",
    ),
    "summarize": (
        "gpt2 summarize titles --file articles.txt --num-beams 1",
        "cat article.txt | gpt2 summarize titles - --json",
    ),
    "classify": (
        "gpt2 classify sentiment 'What a fine day'",
        "gpt2 classify sentiment --file reviews.jsonl --field review --json",
    ),
    "logits": (
        "gpt2 logits gpt2 'The capital of France is' --top 3",
        "gpt2 logits tiny --ids '1 2 3' --output logits.npy",
    ),
    "info": ("gpt2 info tiny", "gpt2 info FOLDER --json"),
    "convert": (
        "gpt2 convert nanogpt.safetensors FOLDER --n-head 4",
        "gpt2 convert model.onnx FOLDER",
    ),
    "train": (
        "gpt2 train --data input.txt --output run --steps 1000",
        "gpt2 train --data input.txt --output run --resume",
    ),
    "finetune": (
        "gpt2 finetune summarize --data pairs.jsonl --output titles --model gpt2",
        "gpt2 finetune classify --data reviews.tsv --text review --label label --output sentiment",
    ),
    "finetune summarize": (
        "gpt2 finetune summarize --data pairs.jsonl --output titles --tokenizer bert-base-chinese/vocab.txt",
        "gpt2 finetune summarize --data dev.tsv --article 2 --summary 3 --output titles --model FOLDER --steps 2000",
    ),
    "finetune classify": (
        "gpt2 finetune classify --data reviews.jsonl --output sentiment --model gpt2",
        "gpt2 finetune classify --data reviews.tsv --text review --label label --output sentiment --resume",
    ),
    "eval": (
        "gpt2 eval gpt2 perplexity --data text.txt --stride 512",
        "gpt2 eval gpt2 lambada --data lambada.jsonl --limit 100",
    ),
    "tasks": ("gpt2 tasks", "gpt2 tasks tldr --data pairs.jsonl --line 3"),
    "levels": ("gpt2 levels", "gpt2 levels --backend mindspore"),
    "check": (
        "gpt2 check layer_norm causality --examples 100",
        "gpt2 check attention --with my_port.py:attention",
    ),
    "report": ("gpt2 report merge 1.json 2.json", "gpt2 report merge 2.json 1.json --html report.html"),
    "report merge": ("gpt2 report merge 1.json 2.json", "gpt2 report merge 2.json 1.json --html report.html"),
    "judge": (
        "gpt2 judge dump --model FOLDER --html report.html",
        "gpt2 judge pytorch_dump --against mindspore_dump --language zh",
    ),
    "blame": ("gpt2 blame tiny 'reverse: spore' --backend mindspore", "gpt2 blame tiny --ids '1 2 3' --dtype float16"),
    "explain": (
        "gpt2 explain inputs.npz output.npy --function ops.layer_norm --set eps=1e-5",
        "gpt2 explain x.npy y.npy --function ops.gelu_new --language zh",
    ),
    "peers": ("gpt2 peers install torch", "gpt2 peers list"),
    "peers install": ("gpt2 peers install torch", "gpt2 peers install mindspore@2.9.0"),
    "peers list": ("gpt2 peers list", "gpt2 peers list --json"),
    "peers remove": ("gpt2 peers remove torch", "gpt2 peers remove mindspore@2.9.0"),
    "reach": ("gpt2 reach", "gpt2 reach attention --backend mindspore"),
    "kill-table": ("gpt2 kill-table --examples 50", "gpt2 kill-table --seed 7"),
    "diagnosis-table": ("gpt2 diagnosis-table --examples 10", "gpt2 diagnosis-table --seed 7"),
    "explanation-table": ("gpt2 explanation-table --examples 10", "gpt2 explanation-table --every 10 --seed 7"),
    "other-rules": ("gpt2 other-rules --examples 10", "gpt2 other-rules --seed 7"),
    "measure-accuracy": ("gpt2 measure-accuracy", "gpt2 measure-accuracy --device Ascend --dtype float16"),
    "demo": ("gpt2 demo", "gpt2 demo --picture attention.png"),
    "lesson": ("gpt2 lesson --output lesson.html", "gpt2 lesson --language zh --output lesson.html"),
    "compare": ("gpt2 compare softmax", "gpt2 compare attention.attention --seed 3"),
    "exercise": ("gpt2 exercise 5 --sources bug", "gpt2 exercise 5 --answer"),
}


class GroupedCommands(click.Group):
    """A group of commands whose help lists them under headings, each with the first sentence of its own help."""

    sections: Mapping[str, Sequence[str]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]], prefix: str = "") -> None:
        """Add the commands under these headings; prefix: what stands before their names in EXAMPLES."""
        self.sections = {heading: [command.name or "" for command in given] for heading, given in sections.items()}
        for command in (command for given in sections.values() for command in given):
            examples = EXAMPLES[f"{prefix}{command.name}"]
            command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of every section."""
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, _first_sentence(self.commands[name])) for name in names])


def _first_sentence(command: click.Command) -> str:
    paragraph = " ".join((command.help or "").split("\n\n", 1)[0].split())
    return paragraph.partition(". ")[0].rstrip(".")
