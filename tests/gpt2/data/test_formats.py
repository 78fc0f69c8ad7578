"""Files as people have them: JSON under any name, tables with quotes, byte-order marks, other encodings."""

import codecs
import csv
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.backends import Backend
from gpt2.data.formats import read_source, rows
from gpt2.data.records import BrokenLines, read_records, read_texts
from gpt2.data.templates import Template
from gpt2.errors import GPT2Error
from gpt2.evaluation import find_task
from gpt2.finetune import classify
from gpt2.tokenizer import load_tokenizer
from tests.gpt2.command import run
from tests.gpt2.conftest import examples
from tests.gpt2.finetune.runs import MODEL

REVIEWS = [
    ("1", "爱你一万年，真的"),
    ("0", '他说"不行"，我很难过'),
    ("1", "今天很开心\n明天也是"),
    ("0", "太差了, 不推荐"),
]
PAIRS = [{"summarization": f"大雨{i}", "article": f"今天下了大雨，<Paragraph>路被淹没{i}。"} for i in range(4)]
PAIR = Template("{article}>{summarization}", "summarization")
LINES = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in PAIRS)
# Neither carriage returns, which become line ends, nor half characters.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"), min_size=1).filter(str.strip)


def table(cells: list[Any], separator: str) -> str:
    """A table as Python's csv module writes it."""
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows(cells)
    return file.getvalue()


def file_of(folder: Path, name: str, content: str | bytes) -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def values_of(path: Path, **how: Any) -> list[dict[str, str]]:
    return [record.values for record in read_records(path, PAIR, BrokenLines(), **how)]


def refusal(path: Path, field: str = "text", **how: Any) -> str:
    with pytest.raises(GPT2Error) as caught:
        read_texts(path, field, BrokenLines(), **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "train_with_summ.txt", "a", "a.data"])
def test_lines_of_json_are_known_by_what_they_hold(name: str, tmp_path: Path) -> None:
    assert values_of(file_of(tmp_path, name, "\n" + LINES)) == PAIRS


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects_is_read(name: str, indent: int | None, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, json.dumps(PAIRS, indent=indent))
    assert values_of(path) == PAIRS
    path = file_of(tmp_path, name, json.dumps([PAIRS[0], {"article": "a"}], indent=indent))
    assert refusal(path, "summarization").startswith(f"{path}, record 2 has no field 'summarization': it has 'article'")


@pytest.mark.parametrize(("form", "separator"), [("csv", ","), ("tsv", "\t")])
def test_a_table_holds_what_was_written_into_it(form: str, separator: str, tmp_path: Path) -> None:
    @examples(0.5)
    @given(
        st.integers(2, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1))
    )
    def holds(cells: list[list[str]]) -> None:
        cells = [[cell.replace("\t", " ") for cell in row] for row in cells] if form == "tsv" else cells
        source = read_source(file_of(tmp_path, f"a.{form}", table(cells, separator)))
        found = rows(source)
        assert [row for _, row in found] == [row for row in cells if "".join(row).strip()]
        assert [line for line, _ in found] == sorted({line for line, _ in found})

    holds()


@pytest.mark.parametrize(("name", "separator"), [("weibo.csv", ","), ("weibo.tsv", "\t"), ("weibo.txt", "\t")])
def test_reviews_in_quotes_are_whole(name: str, separator: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, table([("label", "review"), *REVIEWS * 5], separator).replace("\r\n", "\n"))
    found = read_records(path, Template("{label}{review}", "review"), BrokenLines())
    assert [tuple(record.values.values()) for record in found] == REVIEWS * 5
    assert found[-1].where == f"{path}, line 26"


def test_reviews_of_a_csv_are_learnt(tmp_path: Path, engine: Backend) -> None:
    path = file_of(tmp_path, "weibo.csv", table([("label", "review"), *REVIEWS * 5], ","))
    config = {"model": MODEL | {"vocab_size": 64}, "data": {"tokenizer": "characters"}}
    options: dict[str, Any] = {"config": config, "steps": 2, "batch_size": 3, "backend": engine}
    done = classify(path, tmp_path / "run", text="review", label="label", **options)
    corpus = done.result.plan.corpus
    assert (corpus.facts["samples"], corpus.labels) == (20, ("0", "1"))
    assert corpus.tokenizer.get_vocab_size() == len(set("".join(text for _, text in REVIEWS))) + 1  # and the end
    assert done.evaluation is not None
    assert done.evaluation["samples"] == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "n,text\n1,so bad, really\n", r"line 2 has 3 cells, but the first row 2: put a cell that holds the"),
        ("a.csv", 'n,text\n1,"so\nbad', "a.csv, line 2 is not CSV: unexpected end of data: put a"),
        ("a.csv", 'n,text\n1,"so" bad\n2,"a\nb"', "a.csv, line 2 is not CSV: ',' expected after '\"'"),
        (
            "a.tsv",
            'n\ttext\n1\t"so\nbad\n',
            "line 2 is not TSV: .*, or give --format tsv-plain if quotes mean nothing",
        ),
    ],
)
def test_half_a_record_is_never_read(name: str, content: str, message: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, content)
    assert re.search(message, refusal(path))
    with pytest.raises(GPT2Error, match=message):  # nothing is left, or nobody knows where the next row begins
        read_texts(path, "text", BrokenLines(skip=True))


def test_quotes_that_do_not_pair_are_characters_where_each_line_is_a_row(tmp_path: Path) -> None:
    text = 'one\t"two" or so\n1\t"half\n2\tboth"\n'
    assert read_source(file_of(tmp_path, "b.tsv", '1\t"a\nb"\t2\n3\t"c\nd"\t4\n')).form == "tsv"
    for joined in ('1\t"half\n2\tboth"\n', '1\t"half\n"both\t2\n'):
        assert read_source(file_of(tmp_path, "b.tsv", joined)).form == "tsv-plain"
    for path in (file_of(tmp_path, "a.tsv", text), file_of(tmp_path, "a.txt", text)):
        assert [record.values for record in read_texts(path, "2", BrokenLines())] == [
            {"2": '"two" or so'},
            {"2": '"half'},
            {"2": 'both"'},
        ]


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    long, before = "a" * 200_000, csv.field_size_limit()
    found = read_texts(file_of(tmp_path, "a.csv", table([["n", "text"], [1, long]], ",")), "text", BrokenLines())
    assert [record.values["text"] for record in found] == [long]
    assert csv.field_size_limit() == before


NO_TEXTS = {
    "a.csv": "label,review\n1,good\n",
    "a.tsv": "label\treview\n1\tgood\n",
    "renamed.txt": "label,review\n1,good\n0,bad\n",
    "tabs.txt": "1\tgood\n0\tbad\n",
    "no heading.txt": "1,good\n0,bad\n1,so so\n",
    "the label last.txt": "so good,0.5\ntoo bad,-1\nso so,0\n",
    "quotes.txt": 'pos,good\nneg,"bad, really"\nneg,"no, no, no"\n',
    "nlpcc.txt": LINES,
    "array.txt": json.dumps(PAIRS),
}


@pytest.mark.parametrize("name", NO_TEXTS)
def test_training_asks_which_text_of_a_table_or_of_json_is_meant(name: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, name, NO_TEXTS[name])
    words = ["train", "--data", path, "--output", tmp_path / "run", "--steps", 1, "--batch-size", 1]
    said = run(*words).refusal
    assert "name the texts with --text, or take the file as it is with --format text" in said


def test_training_takes_the_column_that_is_named_or_the_file_as_it_is(tmp_path: Path) -> None:
    config = file_of(tmp_path, "settings.json", json.dumps({"model": MODEL, "data": {"held_out": 0, "block_size": 8}}))
    words = ["train", "--data", file_of(tmp_path, "a.csv", NO_TEXTS["a.csv"]), "--steps", 1, "--batch-size", 1]
    for options, learnt in ((["--text", "review"], "good"), (["--format", "text"], NO_TEXTS["a.csv"])):
        output = tmp_path / options[1]
        assert run(*words, *options, "--config", config, "--output", output, "--json").code == 0
        tokenizer = load_tokenizer(output)
        assert tokenizer is not None
        assert set(tokenizer.get_vocab()) == set(learnt)
        assert run(*words, "--output", output, "--resume").code == 0  # with the column and format of the run
        assert "encoding is 'gbk' now" in run(*words, "--encoding", "gbk", "--output", output, "--resume").refusal


@pytest.mark.parametrize(
    "text",
    [
        "First,\nsecond,\nthird\n",
        "Come, now\nGo, then\n",
        "It cost 1,000 dollars\nIt cost 2,000 dollars\nIt cost 3,000 dollars\n",
        "\tindented\n\ttwice\n",
        "[1] In the beginning\n[2] was the word\n",
        '"Hello," he said.\n"No," she said.\n',
        "{a} is a set\n",
        "a\tb\nc\n",
        "a, b and c " * 20_000,
        "old\rmac\tos\n",
        "床前明月光,疑是地上霜。\n举头望明月,低头思故乡。\n春眠不觉晓,处处闻啼鸟。\n",
        "Paris 2,161\nBerlin 3,645\nRome 2,873\n",
        "1,2,3\n4,5,9\n10,0,10\n",
        "Washington, 1789\nAdams, 1797\nJefferson, 1801\n",
        '"Well, well", she said\n"Oh, no", he said\n"So, what", they said\n',
        "1,good\n0,bad\n",
    ],
)
def test_prose_is_taken_for_text(text: str, tmp_path: Path) -> None:
    source = read_source(file_of(tmp_path, "a.txt", text))
    assert (source.form, source.text) == ("text", text)


MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("content", [LINES, json.dumps(PAIRS), table([PAIRS[0], *map(dict.values, PAIRS)], ",")])
def test_a_byte_order_mark_says_the_encoding_and_is_left_out(encoding: str, content: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.txt", MARKED[encoding] + content.encode(encoding))
    for said in (None, "gbk"):
        assert values_of(path, encoding=said) == PAIRS


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "utf-16", "utf-16-le"])
def test_an_encoding_is_read_as_it_is_named(encoding: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.jsonl", LINES.replace("\n", "\r\n").encode(encoding))
    assert values_of(path, encoding=encoding) == PAIRS


def test_what_is_not_in_the_encoding_is_named(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.txt", "one\n天地".encode("gbk"))
    assert "a.txt is not UTF-8: line 2 holds the byte 0xcc; save it as UTF-8, or give its --encoding" in refusal(path)
    path = file_of(tmp_path, "b.txt", "one\n€".encode())
    assert "b.txt is not GBK: line 2 holds the byte 0x" in refusal(path, encoding="gbk")
    assert refusal(path, encoding="klingon").startswith("unknown encoding 'klingon': expected one such as utf-8, gb1")
    assert refusal(file_of(tmp_path, "c.txt", b"abc"), encoding="utf-16").startswith(f"{tmp_path}/c.txt is not UTF-16")
    path, broken = file_of(tmp_path, "d.csv", b'n,text\n1,"a\nb\xff"\n2,c\n'), BrokenLines(skip=True)
    assert [record.values["text"] for record in read_texts(path, "text", broken)] == ["c"]
    assert "line 3 holds the byte 0xff" in broken.messages[0]


@pytest.mark.parametrize("engine", ["numpy", "mindspore"])
def test_prompts_are_read_without_their_mark_and_in_their_encoding(engine: str, tmp_path: Path) -> None:
    if engine == "mindspore":
        pytest.importorskip("mindspore", reason="MindSpore is not installed")
    text = "reverse: spore\nreverse: lamp\n"
    words = ["generate", "tiny", "--json", "--backend", engine, "--max-new-tokens", 3, "--min-new-tokens", 3]
    words.append("--prompts")
    plain = run(*words, file_of(tmp_path, "plain.txt", text)).result
    assert [len(one["prompt_ids"]) for one in json.loads(plain)["continuations"]] == [14, 13]
    marked = codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode()
    assert run(*words, file_of(tmp_path, "marked.txt", marked)).result == plain
    assert run(*words, file_of(tmp_path, "wide.txt", text.encode("utf-16"))).result == plain
    encoded = file_of(tmp_path, "encoded.txt", text.encode("utf-16-be"))
    assert run(*words, encoded, "--encoding", "utf-16-be").result == plain


def test_no_warning_is_given_of_what_is_whole(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values_of(file_of(tmp_path, "a.txt", LINES)) == PAIRS


@pytest.mark.parametrize(
    ("task", "content", "texts"),
    [
        ("lambada", '{"text": "one two"}\n', [("one", "two")]),
        ("lambada", '[{"text": "one two"},\n {"text": "three four"}]', [("one", "two"), ("three", "four")]),
        ("lambada", "one two\r\nthree four\r\n", [("one", "two"), ("three", "four")]),
        ("perplexity", "one\r\ntwo\r\n", ["one", "two", ""]),
        ("perplexity", '{"text": "one"}', ['{"text": "one"}']),
        ("translation", 'en,fr\n"a, b",c\n', [("", ["c"])]),
        ("translation", '[{"translation": {"en": "a", "fr": "c"}}]', [("", ["c"])]),
    ],
)
def test_files_of_evaluations_are_known_by_what_they_hold(task: str, content: str, texts: Any, tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.txt", codecs.BOM_UTF8 + content.encode())
    chosen = find_task(task, {"examples": 0} if task == "translation" else {})
    found = chosen.read(path, BrokenLines())
    pick = {"lambada": lambda one: (one.before, one.word), "translation": lambda one: (one.head, one.expected)}
    assert [pick.get(task, str)(sample) for sample in found] == texts
    path = file_of(tmp_path, "b.txt", content.encode("utf-16-be"))
    assert [pick.get(task, str)(sample) for sample in chosen.read(path, BrokenLines(), "utf-16-be")] == texts
