"""`gpt2 tasks`: list the templates, or show token by token how a template lays out a sample."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tokenizers import Tokenizer

from gpt2.commands.options import echo_json, json_option
from gpt2.data.records import BrokenLines, read_records
from gpt2.data.templates import SCORES, TASKS, Sample, Template, find_template
from gpt2.errors import GPT2Error, counted
from gpt2.model.hf_folder import find_folder
from gpt2.tokenizer import END_OF_TEXT, end_id, load_tokenizer, train_tokenizer

STYLES = {"task": "magenta", "input": "cyan", "output": "bold green", "end": "bold yellow", "pad": "dim"}


@click.command()
@click.argument("name", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="JSON, CSV or TSV file with the sample.")
@click.option("--line", type=click.IntRange(1), help="The sample's line, or number in a JSON array  [the first sample]")
@click.option("--model", help="GPT-2 folder or tokenizer file to use  [one token per character]")
@click.option("--output", help="The field of the answer  [the template's, or output]")
@click.option("--truncate", help="The field that may be cut  [the template's, or input]")
@click.option("--block-size", type=click.IntRange(2), help="Tokens of a row: cut or pad the sample.")
@click.option("--score", type=click.Choice(SCORES), default="output", show_default=True, help="Which tokens count.")
@json_option
def tasks(
    name: str | None,
    data: Path | None,
    line: int | None,
    model: str | None,
    output: str | None,
    truncate: str | None,
    block_size: int | None,
    score: str,
    as_json: bool,
) -> None:
    """List the templates of tasks, or show a sample laid out by template NAME, which may be a text with {fields}."""
    console = Console(highlight=False)
    if name is None:
        _list(console, as_json)
        return
    template = find_template(name, output, truncate)
    record = _record(name, template, data, line)
    tokenizer = _tokenizer(model, template.fill(record))
    end = end_id(tokenizer)
    sample = template.lay_out(record, tokenizer, [] if end is None else [end])
    whole = len(sample.ids)
    if block_size is not None:
        sample = sample.cut(block_size, template.truncate)
    rows, pads = _rows(sample, tokenizer, score), max(0, (block_size or 0) - len(sample.ids))
    if as_json:
        facts = {"template": template.text, "prompt": template.prompt(record), "cut": whole - len(sample.ids)}
        echo_json(facts | {"tokens": rows, "pads": pads})
    else:
        _show(console, rows, pads, whole)


def _list(console: Console, as_json: bool) -> None:
    facts = [
        {
            "name": name,
            "template": task.template.text,
            "output": task.template.output,
            "truncate": task.template.truncate or None,
            "summary": task.summary,
        }
        for name, task in TASKS.items()
    ]
    if as_json:
        echo_json(facts)
        return
    table = Table("name", "template", "what it is")
    for row in facts:
        table.add_row(row["name"], Text(json.dumps(row["template"])), row["summary"])
    console.print(table)


def _record(name: str, template: Template, data: Path | None, line: int | None) -> dict[str, str]:
    """The record to show: from this line of the file, or the template's example."""
    if data is None:
        if name not in TASKS:
            raise GPT2Error(
                f"a sample of the template {name!r} needs --data; those with an example: {', '.join(TASKS)}"
            )
        return dict(TASKS[name].example)
    # Ignore broken lines other than this one.
    broken = BrokenLines(skip=line is not None)
    records = read_records(data, template, broken)
    if line is None:
        return records[0].values
    where = f"{data}, line {line}"
    places = (where, f"{data}, record {line}")  # the latter of a JSON array
    values = next((record.values for record in records if record.where in places), None)
    if values is None:
        why = next((message for message in broken.messages if f"line {line} " in message), None)
        raise GPT2Error(why or f"{where} holds no sample: it is blank, a heading, or beyond the end of the file")
    return values


def _tokenizer(model: str | None, text: str) -> Tokenizer:
    if model is None:
        tokenizer = train_tokenizer("characters", [text])
        tokenizer.add_special_tokens([END_OF_TEXT])
        return tokenizer
    path = Path(model)
    found = load_tokenizer(path if path.exists() else find_folder(model))
    if found is None:
        raise GPT2Error(f"{model} has no tokenizer: expected tokenizer.json, vocab.json with merges.txt, or vocab.txt")
    return found


def _rows(sample: Sample, tokenizer: Tokenizer, score: str) -> list[dict[str, Any]]:
    return [
        {
            "id": i,
            "text": tokenizer.decode([i], skip_special_tokens=False),
            "role": role,
            "field": field or None,
            "scored": label == i,
        }
        for i, role, field, label in zip(
            sample.ids.tolist(), sample.roles, sample.fields, sample.labels(score).tolist(), strict=True
        )
    ]


def _show(console: Console, rows: list[dict[str, Any]], pads: int, whole: int) -> None:
    table = Table("", "id", "token", "role", "field", "scored")
    for number, row in enumerate(rows, 1):
        style = STYLES[row["role"]]
        shown, role = Text(json.dumps(row["text"], ensure_ascii=False), style), Text(row["role"], style)
        table.add_row(str(number), str(row["id"]), shown, role, row["field"], "yes" if row["scored"] else "no")
    if pads:
        numbers = f"{len(rows) + 1}" if pads == 1 else f"{len(rows) + 1} to {len(rows) + pads}"
        table.add_row(numbers, "", "", Text("pad", STYLES["pad"]), "", "no")
    console.print(table)
    cut = f"; {whole - len(rows)} more were cut" if whole > len(rows) else ""
    console.print(f"{counted(len(rows), 'token')}, {sum(row['scored'] for row in rows)} of them scored{cut}")
