"""Laws of what a file becomes: its records, its rows, and which of them are held out.

The code that they judge is the same for every backend. They make their texts from the seed of the case.
"""

import csv
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.laws.base import Verdicts, law, random_of, shared_module
from parity.laws.texts import END, IGNORED, SPECIAL, laid_out, plain_ids, text_of
from parity.verdict.trial import Trial
from parity.verdict.verdict import equal

ARRAYS = ("ids", "labels", "attention_mask")


def corpus_of(
    trial: Trial, lines: Sequence[str], form: str, settings: dict[str, Any], room: int, **options: Any
) -> Any:
    """A file of these lines, read as the training of a model with `room` positions reads it."""
    modules = [shared_module(trial, f"gpt2.data.{name}") for name in ("corpus", "settings")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"samples.{form}")
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
        return modules[0].read_corpus(path, modules[1].DataConfig(**settings), room, **options)


@law("data")
def a_long_sample_keeps_its_output_in_its_row(trial: Trial) -> Verdicts:
    """Padded rows are as long as is asked for, and hold the whole output and its end; a sample that is too long loses
    the end of its input, with its labels.

    Proof: what is cut is the input alone, so the last tokens of a row are those of its output.
    """
    random, sizes = random_of(trial), trial.case.sizes
    records = [
        {"task": "copy", "input": "a" * int(random.integers(1, 25)), "output": text_of(random, sizes["K"], "ab")}
        for _ in range(1 + sizes["B"])
    ]
    length = len("copy: \n") + 1 + sizes["K"] + int(random.integers(1, 12))  # one of them ends the sample
    settings = {"template": "text", "held_out": 0, "block_size": length}
    rows = corpus_of(trial, [json.dumps(record) for record in records], "jsonl", settings, length + 4)
    decode, ids = rows.tokenizer.decode, rows.training["ids"]
    yield equal(ids.shape, (len(records), length))
    for row, labels, mask, record in zip(*(rows.training[name] for name in ARRAYS), records, strict=True):
        room = length - len("copy: \n") - 1 - sizes["K"]
        expected = f"copy: {record['input'][:room]}\n{record['output']}{END}"
        yield equal(decode(row[mask == 1], skip_special_tokens=False), expected)
        yield equal(decode(labels[labels != IGNORED], skip_special_tokens=False), record["output"] + END)


TASKS = ("copy", "sort", "count")


def _tasks(trial: Trial) -> tuple[list[dict[str, str]], int]:
    """Records of tasks that all differ, and how many of them are held out where a quarter is."""
    random, count = random_of(trial), 2 + trial.case.sizes["N"]
    records = [
        {"task": str(random.choice(TASKS)), "input": f"{i}", "output": text_of(random, 3, "ab")} for i in range(count)
    ]
    return records, -(-count // 4)


def _read_tasks(
    trial: Trial, records: list[dict[str, str]], weights: dict[str, int], split: str = "last"
) -> tuple[list[str], list[str]]:
    """The texts of the training rows and of the held-out rows, where a quarter is held out."""
    settings = {"template": "text", "held_out": 0.25, "weights": weights, "split": split}
    corpus = corpus_of(trial, [json.dumps(record) for record in records], "jsonl", settings, 64)
    texts = [
        [corpus.tokenizer.decode(ids[mask == 1], skip_special_tokens=False) for ids, mask in zip(*read, strict=True)]
        for read in ((part["ids"], part["attention_mask"]) for part in (corpus.training, corpus.held_out))
    ]
    return texts[0], texts[1]


def _texts(records: list[dict[str, str]]) -> list[str]:
    return ["{task}: {input}\n{output}".format(**record) + END for record in records]


@law("data")
def what_is_held_out_is_not_trained_on(trial: Trial) -> Verdicts:
    """The last records of a file are held out, or drawn ones, and the others are trained on: each record stands on one
    side, in the file's order, and on the side held out just once, whatever its weight.

    Proof: this is the definition of held out: the model must not have seen what it is tried on.
    """
    records, held = _tasks(trial)
    texts = _texts(records)
    for weights in ({}, {records[0]["task"]: 2, records[-1]["task"]: 2}):
        training, held_out = _read_tasks(trial, records, weights)
        yield equal(list(dict.fromkeys(training)), texts[:-held])
        yield equal(held_out, texts[-held:])
        training, held_out = _read_tasks(trial, records, weights, "drawn")
        yield equal(list(dict.fromkeys(training)), [text for text in texts if text not in held_out])
        yield equal(held_out, [text for text in texts if text not in training])
        yield equal(len(held_out), held)


@law("data")
def each_label_is_held_out_by_its_share(trial: Trial) -> Verdicts:
    """Held-out rows are drawn by the seed, of each label its share: no label has a row too many while another has one
    too few.

    Proof: Sainte-Lague's rule: s of n rows are fair if (s - 1/2) / n is at most (s' + 1/2) / n' of any other label.
    That two seeds draw the same ten of forty rows of three labels is improbable: below 1e-6.
    """
    random, seed = random_of(trial), trial.case.seed % 2**32
    labels = sorted(map(str, [*random.choice(["a", "b", "c"], 36, p=[0.6, 0.3, 0.1]), *"aabb"]))
    lines = [json.dumps({"text": f"{i}", "label": label}) for i, label in enumerate(labels)]
    settings = {"label": "label", "held_out": 0.25}
    drawn = [
        corpus_of(trial, lines, "jsonl", settings, 8, seed=each).held_out_records for each in (seed, seed, seed + 1)
    ]
    texts = [[record.values["text"] for record in records] for records in drawn]
    yield equal((texts[0] == texts[1], texts[0] == texts[2], len(texts[0])), (True, False, 10))
    held = [record.values["label"] for record in drawn[0]]
    shares = [(held.count(label), labels.count(label)) for label in sorted(set(labels))]
    unfair = [
        (one, other) for one in shares for other in shares if (2 * one[0] - 1) * other[1] > (2 * other[0] + 1) * one[1]
    ]
    yield equal(unfair, [])


@law("data")
def weights_repeat_the_rows_of_a_task(trial: Trial) -> Verdicts:
    """A training row is there as many times as the weight of its task says, once without a weight.

    Proof: this is the definition of a weight.
    """
    records, held = _tasks(trial)
    weights = {records[0]["task"]: 2 + trial.case.seed % 2}
    training, _ = _read_tasks(trial, records, weights)
    expected = [[text] * weights.get(record["task"], 1) for record, text in zip(records, _texts(records), strict=True)]
    yield equal(training, [text for copies in expected[:-held] for text in copies])


@law("data")
def packed_rows_are_the_texts_in_order(trial: Trial) -> Verdicts:
    """Packed rows hold the texts one after the other, each with its end, without those that are empty; of a text file,
    the first part to train on and the rest. What a template does not score is not scored.

    Proof: this is the definition of packed. Rows that follow each other are the stream.
    """
    random, sizes = random_of(trial), trial.case.sizes
    room = sizes["T"] + 1
    lines = [text_of(random, n, "ab c") for n in (room, *random.integers(0, 6, sizes["N"]))]
    packed = {"layout": "packed", "held_out": 0}
    corpus = corpus_of(trial, [json.dumps(line) for line in lines], "jsonl", packed, room)
    yield from _is_stream(corpus, corpus.training, "".join(f"{line}\n" for line in lines if line), room)
    text = "\n".join(lines) + "\n" * (1 + (sum(map(len, lines)) + len(lines)) % 2)  # an even number of characters
    text += "a" * (2 * room)
    half = len(text) // 2
    corpus = corpus_of(trial, [text[:-1]], "txt", {"held_out": 0.5}, room)
    text = text[:-1] + "\n"
    yield from _is_stream(corpus, corpus.training, text[:half], room)
    yield from _is_stream(corpus, corpus.held_out, text[half:], room)
    records = [{"task": "copy", "input": line + "a", "output": line + "b"} for line in lines]
    settings = {"template": "text", **packed}
    corpus = corpus_of(trial, [json.dumps(record) for record in records], "jsonl", settings, room)
    laid = [token for record in records for token in laid_out("{task}: {input}\n{output}", record, corpus.tokenizer)]
    count = len(laid) // room * room
    expected = [i if role in ("output", "end") else IGNORED for i, role, _ in laid]
    yield equal(corpus.training["ids"].ravel().tolist(), [i for i, _, _ in laid][:count])
    yield equal(corpus.training["labels"].ravel().tolist(), expected[:count])


def _is_stream(corpus: Any, rows: dict[str, Any], text: str, length: int) -> Verdicts:
    """Verdicts that packed rows hold a text, in tokens that are characters, and score it."""
    yield equal(corpus.tokenizer.decode(rows["ids"].ravel()), text[: len(text) // length * length])
    yield equal(rows["labels"].tolist(), rows["ids"].tolist())


@law("data")
def a_classifier_reads_the_beginning_of_a_text(trial: Trial) -> Verdicts:
    """A classifier gets the first tokens of a text, as many as fit, between [CLS] and [SEP] if the tokenizer has them.
    Its labels are numbered in order, labels that are numbers by their values.

    Proof: this is the definition of its rows.
    """
    rows, random = shared_module(trial, "gpt2.data.rows"), random_of(trial)
    length, text = trial.case.sizes["T"] + 2, text_of(random, trial.case.sizes["N"])
    for special in (False, True):
        tokenizer = shared_module(trial, "gpt2.tokenizer").train_tokenizer("characters", [text])
        around = SPECIAL[:2] if special else []
        tokenizer.add_special_tokens(around)
        first, last = ([tokenizer.token_to_id(token) for token in part] for part in (around[:1], around[1:]))
        ids, cut = rows.classifier_ids(tokenizer, text, length)
        kept = plain_ids(tokenizer, text)[: length - len(around)]
        yield equal((ids.tolist(), bool(cut)), ([*first, *kept, *last], len(text) > len(kept)))
    numbers = [*map(int, random.permutation(12)), *map(int, random.integers(0, 12, 3))]
    lines = [json.dumps({"text": "ab", "label": number}) for number in numbers]
    corpus = corpus_of(trial, lines, "jsonl", {"label": "label", "held_out": 0}, 4)
    yield equal(corpus.labels, tuple(map(str, range(12))))
    yield equal(corpus.training["labels"].tolist(), numbers)


@law("data")
def columns_are_found_by_their_names(trial: Trial) -> Verdicts:
    """A table gives the same records in any order of its columns, with others between them, and as JSON lines or as a
    JSON array, whatever the file's name. Cells in quotes hold separators, quotes and line breaks.

    Proof: the heading, or the key, names each value; the order says nothing. RFC 4180 defines the quotes.
    """
    records, random = shared_module(trial, "gpt2.data.records"), random_of(trial)
    fields = [str(field) for field in random.permutation(["input", "output", "task"])]
    text = '{} "a", b\t\n\u4eca {}.'.format  # with everything that needs quotes
    values = [{field: text(field, i) for field in fields} for i in range(trial.case.sizes["B"])]
    columns = [*map(str, random.permutation([*fields, "note"]))]
    lines = [columns, *([row.get(column, "-") for column in columns] for row in values)]
    written = {"txt": "\n".join(map(json.dumps, values)), "json": json.dumps(values)}
    for form, separator in (("csv", ","), ("tsv", "\t")):
        table = io.StringIO()
        csv.writer(table, delimiter=separator).writerows(lines)
        written[form] = table.getvalue()
    for form, whole in written.items():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, f"a.{form}").write_text(whole, encoding="utf-8", newline="")
            source = shared_module(trial, "gpt2.data.formats").read_source(Path(folder, f"a.{form}"))
        found = records.records_of(source, fields, True, records.BrokenLines())
        yield equal([record.values for record in found], values)
