"""What a file becomes: its tokens in rows, the last of them held out, and one clear line for what cannot be read."""

import hashlib
import itertools
import json
import math
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2.data.corpus import Corpus, read_corpus
from gpt2.data.rows import Row, split_rows
from gpt2.data.settings import DataConfig, get_pipeline
from gpt2.errors import GPT2Error
from gpt2.tokenizer import END_OF_TEXT, encode, load_tokenizer, train_tokenizer
from reference.data import merge_rows
from tests.gpt2.conftest import examples

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=30, max_size=200)
SAMPLES = st.lists(st.text("abc中 \u2028é", min_size=1).filter(str.strip), min_size=2, max_size=12)
TEMPLATE = "{task}: {input}\n{output}"
EACH = ["first", "seconds", "3"]  # with their ends two rows of 8


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a file for the test."""

    def to(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


def read(path: Path, n_positions: int = 8, model: dict[str, Any] | None = None, **settings: Any) -> Corpus:
    return read_corpus(path, DataConfig(**settings), n_positions, **(model or {}))


def text_of(corpus: Corpus, part: str) -> list[str]:
    """The text of each row, without its pads."""
    rows = getattr(corpus, part)
    masks = rows.get("attention_mask", np.ones_like(rows["ids"]))
    return [
        corpus.tokenizer.decode(ids[mask == 1].tolist(), skip_special_tokens=False)
        for ids, mask in zip(rows["ids"], masks, strict=True)
    ]


def refusal(path: Path, n_positions: int = 8, model: dict[str, Any] | None = None, **settings: Any) -> str:
    with pytest.raises(GPT2Error) as caught:
        read(path, n_positions, model, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe"])
def test_packed_text_loses_nothing_but_the_end_of_each_part(write: Any, tokenizer: str) -> None:
    @examples(0.5)
    @given(TEXTS, st.integers(2, 8), st.sampled_from([0.0, 0.25, 0.5]))
    def holds(text: str, length: int, held_out: float) -> None:
        corpus = read(
            write("a.txt", "\ufeff" + text),
            model={"vocab_size": 257},
            block_size=length,
            held_out=held_out,
            tokenizer=tokenizer,
            format="text",
        )
        ids = corpus.tokenizer.encode(text.replace("\r\n", "\n")).ids
        first = math.floor(len(ids) * (1 - held_out))
        for part, tokens in ((corpus.training, ids[:first]), (corpus.held_out, ids[first:])):
            assert list(part) == ["ids", "labels"]
            assert part["ids"].dtype == np.int32
            assert part["ids"].shape == (len(tokens) // length, length)
            assert part["ids"].ravel().tolist() == tokens[: part["ids"].size]
            assert np.array_equal(part["ids"], part["labels"])

    holds()


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.tsv", "a.txt"])
def test_padded_samples_come_in_order_and_the_last_are_held_out(write: Any, name: str) -> None:
    @examples(0.5)
    @given(SAMPLES)
    def holds(samples: list[str]) -> None:
        lines = [json.dumps({"text": sample}) for sample in samples] if ".json" in name else samples
        file = write(name, "\n".join(["text", *lines] if name == "a.tsv" else lines))
        corpus = read(file, n_positions=6, layout="padded", held_out=0.5, split="last")
        cut, first = [sample[:6] for sample in samples], len(samples) // 2
        assert text_of(corpus, "training") == cut[:first]
        assert text_of(corpus, "held_out") == cut[first:]
        assert corpus.facts["cut_samples"] == sum(len(sample) > 6 for sample in samples)

    holds()


def test_samples_are_held_out_by_the_seed_in_the_order_of_the_file(write: Any) -> None:
    lines = [f"{i:02}" for i in range(40)]
    held = {}
    for layout, seed in itertools.product(("padded", "packed"), range(3)):
        settings = {"layout": layout, "held_out": 0.25, "block_size": 3}
        corpus = read(write("a.jsonl", "\n".join(map(json.dumps, lines))), model={"seed": seed}, **settings)
        parts = [[line.strip() for line in text_of(corpus, part)] for part in ("training", "held_out")]
        assert parts[1] == sorted(set(lines) - set(parts[0]))
        assert parts[0] == sorted(set(lines) - set(parts[1]))
        assert len(parts[1]) == 10
        held[layout, seed] = parts[1]
    assert [held["padded", seed] for seed in range(3)] == [held["packed", seed] for seed in range(3)]
    assert held["padded", 0] != held["padded", 1] != held["padded", 2] != lines[30:]


@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.floats(0, 0.49), st.integers(0, 9))
def test_every_label_is_held_out_by_its_share(counts: list[int], share: float, seed: int) -> None:
    labels = [i for i, count in enumerate(counts) for _ in range(count)]
    rows = [Row(np.zeros(1, np.int32), np.array(label, np.int32)) for label in [*labels, len(counts)]]
    training, held_out = split_rows(rows, share, "drawn", seed)
    assert len(held_out) == len(rows) - int(len(rows) * (1 - share))
    held = Counter(int(row.labels) for row in held_out)
    for label, count in enumerate([*counts, 1]):
        assert held[label] < count  # also of a label that is there once, something is left to learn from
        assert all(
            (2 * held[label] - 1) * counts[other] <= (2 * held[other] + 1) * count for other in range(len(counts))
        )
    assert sorted(map(id, [*training, *held_out])) == sorted(map(id, rows))


def test_text_is_packed_and_samples_are_padded_unless_the_layout_says_otherwise(write: Any) -> None:
    lines = "\n".join(map(json.dumps, EACH))
    assert "attention_mask" not in read(write("a.txt", "one two three"), block_size=2, held_out=0).training
    assert "attention_mask" in read(write("a.jsonl", lines), held_out=0).training
    assert "attention_mask" not in read(write("a.jsonl", lines), layout="packed", held_out=0).training
    assert "attention_mask" in read(write("a.txt", "one\ntwo"), layout="padded", held_out=0).training


def test_packed_samples_end_with_a_line_break_or_with_the_end_of_text(write: Any) -> None:
    file = write("a.jsonl", "\n".join(map(json.dumps, EACH)))
    assert "".join(text_of(read(file, layout="packed", held_out=0), "training")) == "first\nseconds\n3\n"
    ended = read(file, model={"vocab_size": 257}, layout="packed", held_out=0, tokenizer="bpe", block_size=2)
    assert "".join(text_of(ended, "training")) == "".join(sample + END_OF_TEXT for sample in EACH)


def test_padded_samples_end_with_the_end_of_text_if_there_is_one(write: Any) -> None:
    file = write("a.jsonl", "\n".join(map(json.dumps, ["ab", "abc", "abcdefgh"])))
    corpus = read(file, 4, {"vocab_size": 257, "pad_id": 0, "ignore_index": -1}, held_out=0, tokenizer="bpe")
    assert text_of(corpus, "training") == ["ab" + END_OF_TEXT, "abc" + END_OF_TEXT, "abcd"]
    assert corpus.training["ids"][0, -1] == 0
    assert corpus.training["labels"][0, -1] == -1


def test_both_pipelines_give_the_same_corpus(write: Any) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: there is one pipeline only")
    for name, layout in (("a.txt", "packed"), ("a.txt", "padded")):
        file = write(name, "\n".join(f"line {'x' * i}" for i in range(20)))
        one, other = (read(file, layout=layout, pipeline=pipeline) for pipeline in ("numpy", "mindspore"))
        for part in ("training", "held_out"):
            first, second = getattr(one, part), getattr(other, part)
            assert list(first) == list(second)
            assert all(x.dtype == second[key].dtype and np.array_equal(x, second[key]) for key, x in first.items())


def test_a_column_is_found_by_its_heading_or_its_number(write: Any) -> None:
    file = write("a.tsv", "label\ttext\r\n1\tgood\r\n0\tbad\r\n")
    assert text_of(read(file, held_out=0), "training") == ["good", "bad"]
    assert text_of(read(file, held_out=0, field="label"), "training") == ["1", "0"]
    assert text_of(read(file, held_out=0, field="2"), "training") == ["text", "good", "bad"]
    assert text_of(read(write("b.tsv", "1\tx\n2\ty"), held_out=0, field="2"), "training") == ["x", "y"]


def test_the_tokenizer_is_the_one_asked_for_else_the_models_own_else_of_characters(write: Any, tmp_path: Path) -> None:
    file, own = write("a.txt", "to be or not to be"), train_tokenizer("bytes", [])
    own.save(str(tmp_path / "tokenizer.json"))
    assert read(file, block_size=2).tokenizer.get_vocab_size() == len(set("to be or not to be"))
    assert read(file, model={"tokenizer": own}, block_size=2).tokenizer is own
    chosen = read(file, model={"tokenizer": own}, block_size=2, tokenizer="characters").tokenizer
    assert chosen.get_vocab_size() == len(set("to be or not to be"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert read(file, block_size=2, tokenizer=str(path)).tokenizer.get_vocab_size() == 256


def test_the_facts_and_the_fingerprint_are_those_of_the_file(write: Any) -> None:
    corpus = read(write("a.jsonl", '"abc"\n\n""\n{"text": "abcdef"}\n"b"\n'), n_positions=4, held_out=0.4, split="last")
    assert corpus.fingerprint == hashlib.sha256(b'"abc"\n\n""\n{"text": "abcdef"}\n"b"\n').hexdigest()
    assert (text_of(corpus, "training"), text_of(corpus, "held_out")) == (["abc"], ["abcd", "b"])  # "" is left out
    assert json.loads(json.dumps(corpus.facts)) == {
        "format": "jsonl",
        "layout": "padded",
        "block_size": 4,
        "vocabulary": 6,
        "samples": 3,
        "training_tokens": 3,
        "held_out_tokens": 7,
        "cut_samples": 1,
        "skipped_lines": 0,
    }


def test_shakespeare_is_split_where_nanogpt_splits_it(data: Path) -> None:
    corpus = read(data / "tinyshakespeare" / "input.txt", n_positions=256)
    assert (corpus.facts["training_tokens"], corpus.facts["held_out_tokens"]) == (1_003_854, 111_540)
    assert corpus.facts["vocabulary"] == 65


def test_chinese_titles_are_read_by_number_of_column(data: Path) -> None:
    corpus = read(data / "csl_title_summarization" / "dev.tsv", n_positions=16, field="3")
    assert len(corpus.training["ids"]) == 900
    assert len(corpus.held_out["ids"]) == 100
    assert text_of(corpus, "training")[0].startswith("一种基")


def test_a_byte_order_mark_is_left_out_at_the_beginning_alone(write: Any) -> None:
    file = write("a.txt", "\ufeffab\n\ufeffc")
    assert text_of(read(file, layout="padded", held_out=0), "training") == ["ab", "\ufeffc"]


def records_file(write: Any, *records: Any) -> Path:
    """A file of JSON lines."""
    return write("a.jsonl", "\n".join(json.dumps(record, ensure_ascii=False) for record in records))


def record(task: str, given: str, output: str) -> dict[str, str]:
    return {"task": task, "input": given, "output": output}


def scored_of(corpus: Corpus, part: str) -> list[str]:
    """The text of each row that is scored; what is not, has label -100."""
    rows = getattr(corpus, part)
    assert ((rows["labels"] == rows["ids"]) | (rows["labels"] == -100)).all()
    return [corpus.tokenizer.decode(row[row != -100].tolist(), skip_special_tokens=False) for row in rows["labels"]]


RECORDS = (record("copy", "ab", "ab"), record("reverse", "abc", "cba"), record("copy", "c", "c"))


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe"])
def test_a_template_lays_records_out_and_scores_the_output_and_its_end(write: Any, tokenizer: str) -> None:
    file = records_file(write, *RECORDS)
    corpus = read(file, 32, {"vocab_size": 300}, template=TEMPLATE, held_out=0.4, split="last", tokenizer=tokenizer)
    assert text_of(corpus, "training") == ["copy: ab\nab<|endoftext|>"]
    assert text_of(corpus, "held_out") == ["reverse: abc\ncba<|endoftext|>", "copy: c\nc<|endoftext|>"]
    assert scored_of(corpus, "training") == ["ab<|endoftext|>"]
    assert scored_of(corpus, "held_out") == ["cba<|endoftext|>", "c<|endoftext|>"]
    named = read(file, 32, {"vocab_size": 300}, template="text", held_out=0.4, split="last", tokenizer=tokenizer)
    assert all(np.array_equal(x, named.training[name]) for name, x in corpus.training.items())


def test_a_template_may_score_everything_but_pads(write: Any) -> None:
    corpus = read(records_file(write, *RECORDS), 32, template=TEMPLATE, held_out=0, score="all")
    assert scored_of(corpus, "training") == text_of(corpus, "training")


def test_packed_records_follow_one_another_with_their_labels(write: Any) -> None:
    corpus = read(records_file(write, *RECORDS), template=TEMPLATE, held_out=0, layout="packed", block_size=3)
    assert "".join(text_of(corpus, "training")) == "".join(
        f"{one['task']}: {one['input']}\n{one['output']}<|endoftext|>" for one in RECORDS
    )
    assert "".join(scored_of(corpus, "training")) == "ab<|endoftext|>cba<|endoftext|>c<|endoftext|>"


@examples(0.5)
@given(st.text("abc", min_size=1, max_size=20), st.text("xyz", min_size=1, max_size=12), st.integers(8, 30))
def test_the_input_alone_is_cut_and_at_least_a_token_of_it_stays(given_text: str, output: str, length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_text(json.dumps(record("t", given_text, output)), encoding="utf-8")
        fixed = len("t: \n") + len(output) + 1
        surplus = max(0, fixed + len(given_text) - length)
        if surplus >= len(given_text):
            message = refusal(file, length, template=TEMPLATE, held_out=0)
            assert message.endswith(
                f"line 1: the sample has {fixed + len(given_text)} tokens, with {fixed} of them outside the field "
                f"'input', but a row has {length}: shorten it, or enlarge block_size"
            )
            return
        corpus = read(file, length, template=TEMPLATE, held_out=0)
    assert text_of(corpus, "training") == [f"t: {given_text[: len(given_text) - surplus]}\n{output}<|endoftext|>"]
    assert scored_of(corpus, "training") == [f"{output}<|endoftext|>"]
    assert corpus.facts["cut_samples"] == (surplus > 0)


def test_weights_repeat_the_rows_to_learn_from_and_leave_the_held_out_ones_alone(write: Any) -> None:
    file = records_file(write, *RECORDS, *RECORDS)
    corpus = read(file, 32, template=TEMPLATE, held_out=0.5, split="last", weights={"copy": 3, "reverse": 0})
    assert text_of(corpus, "training") == ["copy: ab\nab<|endoftext|>"] * 3 + ["copy: c\nc<|endoftext|>"] * 3
    assert scored_of(corpus, "held_out") == ["ab<|endoftext|>", "cba<|endoftext|>", "c<|endoftext|>"]


def test_columns_fill_a_template_by_heading_or_by_number(write: Any) -> None:
    settings = {"template": "{1}>{3}", "output": "3", "truncate": "1", "held_out": 0}
    assert text_of(read(write("a.tsv", "a\tx\tb\nc\tx\td"), **settings), "training") == [
        "a>b<|endoftext|>",
        "c>d<|endoftext|>",
    ]
    file = write("b.tsv", "output\tinput\nb\ta\n")
    assert text_of(read(file, template="{input}>{output}", held_out=0), "training") == ["a>b<|endoftext|>"]


def test_chinese_pairs_are_laid_out_as_merge_and_pad_does(data: Path) -> None:
    file, tokenizer = data / "csl_title_summarization" / "test.tsv", load_tokenizer(data / "bert_base_chinese")
    assert tokenizer is not None
    pairs = [line.split("\t")[1:3] for line in file.read_text(encoding="utf-8").splitlines()]
    articles, summaries = (
        [np.array(encode(tokenizer, pair[i], add_special_tokens=False), np.int32) for pair in pairs] for i in (0, 1)
    )
    template = {"template": "[CLS] {2} [SEP] {3} [SEP]", "output": "3", "truncate": "2"}
    for score in ("output", "all"):
        corpus = read(file, 96, {"tokenizer": tokenizer, "pad_id": 0}, **template, held_out=0, score=score)
        expected = merge_rows(articles, summaries, 96, cls_id=101, sep_id=102, pad_id=0, score=score)
        assert list(corpus.training) == list(expected)
        assert all(np.array_equal(x, corpus.training[name]) for name, x in expected.items())
    assert 0 < corpus.facts["cut_samples"] < len(pairs)


def test_both_pipelines_lay_a_template_out_alike(write: Any) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: there is one pipeline only")
    file = records_file(write, *RECORDS)
    one, other = (read(file, 20, template=TEMPLATE, held_out=0, pipeline=name) for name in ("numpy", "mindspore"))
    assert all(np.array_equal(x, other.training[name]) for name, x in one.training.items())


def test_broken_lines_are_left_out_and_counted_if_asked_for(write: Any) -> None:
    good = json.dumps(record("copy", "ab", "ab")).encode()
    long = json.dumps(record("copy", "ab", "a" * 40)).encode()
    empty = json.dumps(record("copy", " ", "a")).encode()
    lines = [good, b"{", b'{"task": "copy"}', b"\xff", long, empty, b"", b"[]", good]
    file = write("a.jsonl", b"\n".join(lines))
    with pytest.warns(
        UserWarning, match=r"6 of the lines of .*a.jsonl are left out; the first: .*, line 2 is not valid JSON"
    ):
        corpus = read(file, 32, template=TEMPLATE, held_out=0, skip_bad=True)
    assert text_of(corpus, "training") == ["copy: ab\nab<|endoftext|>"] * 2
    assert (corpus.facts["samples"], corpus.facts["skipped_lines"]) == (2, 6)
    file = write("b.tsv", b"label\ttext\n1\tone\n2\n3\tt\xff\n4\tfour")
    with pytest.warns(UserWarning, match="2 of the lines"):
        assert text_of(read(file, held_out=0, skip_bad=True), "training") == ["one", "four"]
    file, own = write("c.txt", "ab\nc"), train_tokenizer("characters", ["ab"])
    with pytest.warns(UserWarning, match="1 of the lines"):
        corpus = read(file, 8, {"tokenizer": own}, layout="padded", held_out=0, skip_bad=True)
    assert text_of(corpus, "training") == ["ab"]


def test_a_file_of_broken_lines_alone_is_refused_even_then(write: Any) -> None:
    message = refusal(write("a.jsonl", b"{\n["), skip_bad=True)
    assert re.search(r"a.jsonl holds no line that is whole; the first: .*, line 1 is not valid JSON", message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'"a"', "a.jsonl, line 1 must be an object, but is 'a'"),
        ("a.jsonl", b'\n{"task": "t", "input": "i"}', "line 2 has no field 'output': it has 'task', 'input'"),
        (
            "a.jsonl",
            b'{"task": "t", "input": "i", "output": 5}',
            "line 1: 'output' must be a string, but is 5; expected one object per line",
        ),
        ("a.jsonl", b'{"task": "t", "input": " \\n", "output": "o"}', "line 1 has nothing in 'input': fill it in"),
        ("a.jsonl", b'{"task": "t", "input": "i", "output": ""}', "line 1 has nothing in 'output': fill it in"),
        ("a.jsonl", b"{", r"line 1 is not valid JSON: .* at column 2; expected one object per line"),
        ("a.tsv", b"task\tinput\nt\ti", "a.tsv has no column 'output': its first line has 'task', 'input'"),
        ("a.tsv", b"task\tinput\toutput\nt\ti", r"line 2 ends at column 2, before column 'output' \(3\)"),
        ("a.tsv", b"task\tinput\toutput\nt\t\to", "line 2 has nothing in 'input'"),
        ("a.txt", b"t: i", "a.txt is text without fields: a template needs JSON lines"),
    ],
)
def test_what_fills_no_template_is_refused_in_one_line(write: Any, name: str, content: bytes, message: str) -> None:
    assert re.search(message, refusal(write(name, content), template=TEMPLATE))


def test_the_line_is_named_where_the_tokenizer_or_the_weights_do_not_fit(write: Any) -> None:
    file, own = records_file(write, *RECORDS), train_tokenizer("characters", ["copy: ab\n"])
    assert re.search(
        "a.jsonl, line 2: the tokenizer has no token for 'r'", refusal(file, 32, {"tokenizer": own}, template=TEMPLATE)
    )
    assert re.search(
        "a.jsonl has no task 'sort', which data field 'weights' names: it has 'copy', 'reverse'",
        refusal(file, 32, template=TEMPLATE, weights={"sort": 2}),
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "{output}", "weights": {"copy": 2}}, "'weights' needs a template with the field 'task', but it"),
        ({"output": "x"}, "data field 'output' must be left out where there is no template, but is 'x'"),
        ({"weights": {"copy": 2}}, "data field 'weights' must be left out where there is no template"),
        ({"template": "{input}"}, "the template '{input}' has no field 'output', which is its output: it has 'input'"),
        ({"template": TEMPLATE, "truncate": "x"}, "has no field 'x', which is its truncate"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GPT2Error, match=message):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("a.txt", b"", {}, "a.txt is empty"),
        ("a.txt", b" \n", {}, "a.txt is empty"),
        ("a.txt", b"one\nt\xffo", {}, "a.txt is not UTF-8: line 2 holds the byte 0xff; save it as UTF-8"),
        (
            "a.txt",
            b"abc",
            {},
            "a.txt is too short: 2 tokens in the training part make no row of 8: give more text, a smaller bl",
        ),
        ("a.txt", b"0123456789", {"held_out": 0.1}, "too short: 1 token in the held-out part makes no row of 8"),
        (
            "a.txt",
            b"abc",
            {"layout": "padded"},
            "too short: of 1 sample none is left for the training part: give more, or a smaller held_out",
        ),
        ("a.txt", b"abc" * 9, {"block_size": 9}, "block_size 9 exceeds the model's context: expected at most 8"),
        ("a.txt", b"abc" * 9, {"tokenizer": "no/where"}, "no tokenizer 'no/where': expected characters, bytes, bpe"),
        ("a.txt", b"abc" * 9, {"tokenizer": "bpe"}, "needs a vocab_size of at least 257"),
        (
            "a.jsonl",
            b'"a"\n\n{"text": }',
            {},
            r"a.jsonl, line 3 is not valid JSON: Expecting value at column 10; expected one object or string per line",
        ),
        ("a.json", b"[" * 10**5, {}, "a.json is not valid JSON"),
        ("a.jsonl", b'"a"\n{"body": "b", "x": 1}', {}, "line 2 has no field 'text': it has 'body', 'x'"),
        (
            "a.jsonl",
            b'"a"\n{"text": 5}',
            {},
            "line 2: 'text' must be a string, but is 5; expected one object or string per line",
        ),
        ("a.jsonl", b"\n[1]", {}, r"line 2 must be a string or an object, but is \[1\]"),
        ("a.jsonl", b'"a"\n"b\\ud800"', {}, "line 2 holds half a character"),
        ("a.tsv", b"a\tb\nc\td", {}, "a.tsv has no column 'text': its first line has 'a', 'b'"),
        ("a.tsv", b"a\tb\nc\td", {"field": "0"}, "has no column '0'"),
        ("a.tsv", b"a\ttext\n\nc\td\ne", {}, r"a.tsv, line 4 ends at column 1, before column 'text' \(2\)"),
        ("a.tsv", b"text\n", {}, "a.tsv holds no samples but a heading"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(
    write: Any, name: str, content: bytes, settings: dict[str, Any], message: str
) -> None:
    assert re.search(message, refusal(write(name, content), **settings))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"vocab_size": 2}, r"the tokenizer \(characters\) has 3 ids, but the model's vocab_size is 2: enlarge it"),
        ({"pad_id": 3}, "pad id 3 is outside the vocabulary: expected 0 to 2"),
        ({"pad_id": 9, "vocab_size": 9}, "pad id 9 is outside the vocabulary: expected 0 to 8"),
        ({"tokenizer": train_tokenizer("characters", ["ab"])}, "a.txt: the tokenizer has no token for 'c'"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_in_one_line(write: Any, model: dict[str, Any], message: str) -> None:
    assert re.search(message, refusal(write("a.txt", "abc" * 9), model=model))


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot read the data" in refusal(tmp_path / "none.txt")
    assert "cannot read the data" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layout", "loose"),
        ("block_size", 1),
        ("block_size", 2.0),
        ("block_size", True),
        ("split", "first"),
        ("format", "xml"),
        ("encoding", 8),
        ("held_out", 1),
        ("held_out", -0.1),
        ("held_out", math.nan),
        ("held_out", "0.1"),
        ("tokenizer", None),
        ("field", 3),
        ("pipeline", "torch"),
        ("template", 1),
        ("output", 1),
        ("truncate", 1),
        ("score", "input"),
        ("skip_bad", 1),
        ("weights", {"copy": 1.5}),
        ("weights", {"copy": -1}),
        ("weights", ["copy"]),
        ("weights", {"copy": True}),
    ],
)
def test_a_setting_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(GPT2Error, match=f"data field '{field}' must be .*, but is {re.escape(repr(value))}"):
        DataConfig(**{field: value})


def test_an_unknown_pipeline_is_refused() -> None:
    with pytest.raises(GPT2Error, match="unknown pipeline 'torch': choose one of numpy, mindspore"):
        get_pipeline("torch")
