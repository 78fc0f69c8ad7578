"""`gpt2 finetune`, `gpt2 summarize`, `gpt2 classify`, and what they say of bad data."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from gpt2.finetune import run as finetune_run
from gpt2.finetune.summarizer import Summarizer
from gpt2.model.hf_folder import read_labels
from gpt2.model.model import load
from tests.gpt2.command import run
from tests.gpt2.finetune.runs import WEIGHTS, classify, command, evaluation, judged, lines_of, pairs, summarize, texts

# The commands.


def test_the_commands_train_use_and_tell(data: Path) -> None:
    facts = json.loads(run(*command(data, "summarize", "--json")).result)
    assert (facts["step"], facts["interrupted"], facts["evaluation"]["samples"]) == (2, False, 6)
    assert "lead" in run(*command(data, "summarize", "--resume")).out
    used = ["summarize", data / "run", "--backend", "numpy", "--max-new-tokens", 4]
    article = pairs(1)[0]["article"]
    alone = run(*used, article).result
    assert "[" not in alone
    assert run(*used, "-", stdin=article).result == alone
    assert json.loads(run(*used, article, "--json").result)["summaries"] == [alone.strip()]
    (data / "articles.txt").write_text(f"{article}\n\n{article}\n", encoding="utf-8")
    assert run(*used, "--file", data / "articles.txt").result == alone * 2
    of_file = run(*used, "--file", data / "pairs.jsonl").result.split("\n")[:-1]
    assert [of_file[i] for i in judged(data / "run")] == [
        example["model"] for example in evaluation(data / "run")["examples"]
    ]


def test_a_long_article_is_cut_at_its_end_and_a_note_says_so(data: Path) -> None:
    summarize(data, "run", steps=1)
    used = ["summarize", data / "run", "--backend", "numpy", "--max-new-tokens", 4]
    room = 24 - 4 + 1 - 2  # the last new token is never read; [CLS] and [SEP] stay
    cut, fits = run(*used, "天" * (room - 1) + "地山水"), run(*used, "天" * (room - 1) + "地")
    assert (cut.code, cut.out) == (0, fits.result)
    assert cut.err == "gpt2: note: the text: the article is too long for the model, and was cut at its end\n"
    refusal = run("summarize", data / "run", "天", "--max-new-tokens", 25).refusal
    assert refusal == "the text: 25 new tokens leave no room for an article in 24: ask for fewer"


def test_a_saved_copy_of_a_classifier_keeps_the_names_of_its_labels(data: Path) -> None:
    folder = classify(data, "run", steps=1).result.folder
    load(folder, "numpy").save(data / "copy")
    assert read_labels(data / "copy") == read_labels(folder) == ("high", "hot")


def test_classify_says_how_probable_each_label_is(data: Path) -> None:
    facts = json.loads(run(*command(data, "classify", "--json", steps=40)).result)
    assert facts["evaluation"]["scores"]["model"] == {"accuracy": 100.0}
    assert "perplexity" not in facts
    used = ["classify", data / "run", "--backend", "numpy"]
    found = json.loads(run(*used, "天地", "--json").result)["labels"][0]
    assert found["label"] == "high"
    lines = run(*used, "天地").result.splitlines()
    assert lines == [f"{label}\t{chance:.4f}" for label, chance in found["probabilities"].items()]
    both = run(*used, "--file", data / "texts.jsonl", "--batch-size", 5).result.splitlines()
    assert [line.split("\t")[0] for line in both] == [one["label"] for one in texts(24)]
    assert "was cut at its end" in run(*used, "天" * 30).err


def test_a_folder_of_the_other_kind_is_refused(data: Path) -> None:
    summarize(data, "run", steps=1)
    classify(data, "labels", steps=1)
    assert run("classify", data / "run", "天").refusal.endswith("use `gpt2 summarize`, or another folder")
    assert run("summarize", data / "labels", "天").refusal.endswith("use `gpt2 classify`, or another folder")
    for kind, folder in (("classify", "run"), ("summarize", "labels")):
        assert "holds a run of another kind" in run(*command(data, kind, "--resume", output=folder)).refusal
    assert run("summarize", data / "run").refusal.startswith("TEXT is missing: give it after FOLDER")
    assert run("summarize", data / "run", " ").refusal == "the text is empty: give some words"
    for name in ("run", "labels"):
        (data / name / finetune_run.TASK).unlink()
    assert "no classification head" in run("classify", data / "run", "天").refusal


def test_an_interrupted_command_says_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Summarizer, "write", Mock(side_effect=KeyboardInterrupt))  # a worker of pytest has no Ctrl-C
        ran = run(*command(data, "summarize"))
    assert (ran.code, ran.said) == (130, "gpt2: interrupted in the evaluation: --resume continues from there\n")
    again = run(*command(data, "summarize", "--resume"))
    assert (again.code, again.said) == (
        0,
        f"gpt2: note: {data / 'run'} was finished already, after 2 steps: none is left\n",
    )
    assert again.out


# Bad data.


BAD_PAIRS: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"article": ', "line 2 is not valid JSON"),
    "no article": ('{"article": " ", "summarization": "天"}'.encode(), "line 2 has nothing in 'article'"),
    "a long summary": (
        json.dumps({"article": "天", "summarization": "天" * 22}).encode(),
        "line 2: the sample has 26 tokens, with 25 of them outside the field 'article', but",
    ),
    "another encoding": ('{"article": "天", "summarization": "地"}'.encode("gbk"), "line 2 holds the byte 0xcc"),
    "no such field": (b'{"article": "a", "title": "b"}', "line 2 has no field 'summarization'"),
}
BAD_TEXTS: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"text": ', "line 2 is not valid JSON"),
    "no text": (b'{"text": "", "label": "hot"}', "line 2 has nothing in 'text'"),
    "no label": (b'{"text": "a"}', "line 2 has no field 'label'"),
    "an empty label": (b'{"text": "a", "label": ""}', "line 2 has nothing in 'label'"),
    "another encoding": ('{"text": "天", "label": "hot"}'.encode("gbk"), "line 2 holds the byte 0xcc"),
    "no token": (b'{"text": "\\u200b", "label": "hot"}', "line 2: the text holds no token"),
}
BAD = [("summarize", *each) for each in BAD_PAIRS.values()] + [("classify", *each) for each in BAD_TEXTS.values()]


@pytest.mark.parametrize(("kind", "line", "message"), BAD, ids=[*BAD_PAIRS, *BAD_TEXTS])
def test_bad_data_is_named_by_its_line_or_left_out_and_counted(
    kind: str, line: bytes, message: str, data: Path
) -> None:
    source = {"summarize": "pairs.jsonl", "classify": "texts.jsonl"}[kind]
    good = (data / source).read_bytes().splitlines(keepends=True)
    (data / "bad.jsonl").write_bytes(b"".join([good[0], line, b"\n", *good[1:]]))
    assert message in run(*command(data, kind, file="bad.jsonl")).refusal
    assert not (data / "run").exists()
    for name in ("bad.jsonl", source):
        ran = run(*command(data, kind, "--skip-bad", file=name, output=f"of {name}"))
        assert ran.code == 0, ran
    bits = [(data / f"of {name}" / WEIGHTS).read_bytes() for name in ("bad.jsonl", source)]
    assert bits[0] == bits[1]
    assert evaluation(data / "of bad.jsonl")["samples"] == 6
    if message != BAD_PAIRS["a long summary"][1]:  # that one can be asked for, and compared with
        test = ["--test", data / "bad.jsonl"]
        assert message in run(*command(data, kind, *test, output="strict")).refusal
        assert run(*command(data, kind, "--skip-bad", *test, output="tested")).code == 0
        assert (evaluation(data / "tested")["samples"], evaluation(data / "tested")["skipped"]) == (24, 1)


def test_an_unknown_column_and_labels_that_cannot_be_are_refused(data: Path) -> None:
    (data / "a.tsv").write_text("天地\t天\n" * 8, encoding="utf-8")
    assert "has no column 'article'" in run(*command(data, "summarize", file="a.tsv")).refusal
    assert "has no column 'label'" in run(*command(data, "classify", "--text", 1, file="a.tsv")).refusal
    options = ["--text", 1, "--label", 2]
    assert "has one label only, '天'" in run(*command(data, "classify", *options, file="a.tsv")).refusal
    lines_of(data / "test.jsonl", [{"text": "天", "label": "cold"}])
    message = run(*command(data, "classify", "--test", data / "test.jsonl")).refusal
    assert message.endswith("line 1: the classifier has no label 'cold', only 'high', 'hot'")


def test_columns_by_number_serve_both(data: Path) -> None:
    rows = [f"{one['article']}\t{one['summarization']}\t{i % 2}" for i, one in enumerate(pairs(24))]
    (data / "a.tsv").write_text("\n".join(rows), encoding="utf-8")
    facts = run(*command(data, "summarize", "--article", 1, "--summary", 2, "--json", file="a.tsv")).result
    assert json.loads(facts)["evaluation"]["scores"]["lead"]["rougeL"] == 100
    facts = run(*command(data, "classify", "--text", 1, "--label", 3, "--json", file="a.tsv", output="labels")).result
    assert json.loads(facts)["evaluation"]["labels"] == ["0", "1"]


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.txt", "numbered.txt"])
def test_a_gold_title_is_never_taken_into_the_article(name: str, data: Path) -> None:
    separator, rows = "," if name.endswith("csv") else "\t", [[*one.values()] for one in pairs(6)]
    named = [] if name == "numbered.txt" else [["article", "summarization"]]
    lines = [separator.join(row) for row in [*named, *rows]]
    (data / name).write_text("\n".join(lines), encoding="utf-8")
    summarize(data, "run", steps=1)
    used = ["summarize", data / "run", "--backend", "numpy", "--max-new-tokens", 4, "--file"]
    if not named:
        assert "has no column 'article'" in run(*used, data / name).refusal
    field = [] if named else ["--field", 1]
    lines_of(data / "articles.jsonl", [{"article": row[0]} for row in rows])
    assert run(*used, data / name, *field).result == run(*used, data / "articles.jsonl").result
