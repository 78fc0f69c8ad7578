"""Templates: what is task, input, output and end; and `gpt2 tasks`, which lists them and shows a sample."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gpt2.data.templates import ROLES, TASKS, Sample, Template, find_template
from gpt2.errors import GPT2Error
from gpt2.tokenizer import (
    END_OF_TEXT,
    bert_tokenizer,
    byte_pair_tokenizer,
    encode,
    encode_with_offsets,
    train_tokenizer,
)
from gpt2.training.run import train
from tests.gpt2.command import run
from tests.gpt2.conftest import examples

TEXT = "{task}: {input}\n{output}"
REVERSE = {"task": "reverse", "input": "abcd", "output": "dcba"}
WORDS = st.text("ab ,.中é\n'", min_size=1, max_size=12)


@pytest.fixture(scope="module")
def english(data: Path) -> Tokenizer:
    """GPT-2's."""
    return byte_pair_tokenizer(data / "gpt2_bpe" / "vocab.json", data / "gpt2_bpe" / "merges.txt")


@pytest.fixture(scope="module")
def chinese(data: Path) -> Tokenizer:
    """That of bert-base-chinese."""
    return bert_tokenizer(data / "bert_base_chinese" / "vocab.txt")


def characters(*texts: str) -> Tokenizer:
    """A token for each character, and one for the end."""
    tokenizer = train_tokenizer("characters", texts)
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def laid_out(template: Template, record: dict[str, str], tokenizer: Tokenizer) -> Sample:
    """The sample, with the end token if the tokenizer has one."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    return template.lay_out(record, tokenizer, [] if end is None else [end])


def runs(sample: Sample, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The sample as stretches of one role: the role, and their tokens."""
    found: list[tuple[str, str]] = []
    for i, role in zip(sample.ids.tolist(), sample.roles, strict=True):
        token = tokenizer.decode([i], skip_special_tokens=False)
        if found and found[-1][0] == role:
            token = found.pop()[1] + token
        found.append((role, token))
    return found


def test_what_comes_up_to_the_field_task_is_the_task_and_the_end_comes_after_the_output() -> None:
    template, tokenizer = Template("Do {task}: {input}\n{output}."), characters("Do reverse: abcd\ndcba.")
    assert runs(laid_out(template, REVERSE, tokenizer), tokenizer) == [
        ("task", "Do reverse"),
        ("input", ": abcd\n"),
        ("output", "dcba"),
        ("end", ".<|endoftext|>"),
    ]


def test_without_a_field_task_the_words_between_the_fields_are_the_task(english: Tokenizer) -> None:
    task = TASKS["tldr"]
    sample = laid_out(task.template, dict(task.example), english)
    assert runs(sample, english) == [
        ("input", task.example["article"]),
        ("task", "\nTL;DR:"),
        ("output", " Match off."),
        ("end", END_OF_TEXT),
    ]
    assert task.template.prompt(task.example) == f"{task.example['article']}\nTL;DR:"
    template = Template("{input} = {output}")
    assert [part.role for part in template.parts] == ["input", "input", "output"]


def test_special_tokens_are_single_if_the_tokenizer_has_them(chinese: Tokenizer) -> None:
    template, record = TASKS["summarize"].template, {"article": "大雨", "summarization": "雨"}
    sample = template.lay_out(record, chinese, [7])  # it has an end of its own
    assert [chinese.id_to_token(i) for i in sample.ids] == ["[CLS]", "大", "雨", "[SEP]", "雨", "[SEP]"]
    assert sample.roles == ("input",) * 4 + ("output", "end")
    assert sample.fields == ("", "article", "article", "", "summarization", "")
    tokenizer = characters("[CLS] 大雨 [SEP] 雨 [SEP]")
    plain = laid_out(template, record, tokenizer)
    assert tokenizer.decode(plain.ids.tolist(), skip_special_tokens=False) == "[CLS] 大雨 [SEP] 雨 [SEP]<|endoftext|>"


def test_what_a_model_is_given_is_what_it_was_trained_on(english: Tokenizer) -> None:
    """The tokens before the output are those of the prompt, whatever the fields hold."""

    @examples(1)
    @given(st.sampled_from(sorted(TASKS)), st.lists(WORDS, min_size=4, max_size=4))
    def holds(name: str, words: list[str]) -> None:
        template = TASKS[name].template
        record = dict(zip(template.fields, words, strict=False))
        sample = laid_out(template, record, english)
        before = [i for i, role in zip(sample.ids.tolist(), sample.roles, strict=True) if role in ("task", "input")]
        assert before == encode(english, template.prompt(record))
        assert english.decode(sample.ids.tolist()) == template.fill(record)
        assert template.fill(record).startswith(template.prompt(record))

    holds()


def test_a_token_across_two_parts_belongs_to_the_later_one(english: Tokenizer) -> None:
    sample = laid_out(Template(TEXT), {"task": "say", "input": "cat", "output": "dog"}, english)
    texts = [english.decode([i], skip_special_tokens=False) for i in sample.ids.tolist()]
    assert list(zip(texts, sample.roles, sample.fields, strict=True)) == [
        ("say", "task", "task"),
        (":", "input", ""),
        (" cat", "input", "input"),
        ("\n", "input", ""),
        ("dog", "output", "output"),
        (END_OF_TEXT, "end", ""),
    ]


def test_the_last_tokens_of_one_field_are_cut() -> None:
    template, tokenizer = Template(TEXT), characters("reverse: abcd\ndcba")
    sample = laid_out(template, REVERSE, tokenizer)
    assert sample.cut(len(sample.ids), "input") is sample
    shorter = sample.cut(len(sample.ids) - 3, "input")
    assert runs(shorter, tokenizer) == [
        ("task", "reverse"),
        ("input", ": a\n"),
        ("output", "dcba"),
        ("end", END_OF_TEXT),
    ]
    assert shorter.fields.count("input") == 1
    assert len(shorter.ids) == len(shorter.roles) == len(shorter.fields)
    for length, field, message in (
        (15, "input", "has 19 tokens, with 15 of them outside the field 'input', but a row has 15: shorten it"),
        (18, "", "has 19 tokens, and none of them may be cut, but a row has 18"),
    ):
        with pytest.raises(GPT2Error, match=message):
            sample.cut(length, field)


def test_the_output_and_its_end_are_scored_or_everything() -> None:
    sample = laid_out(Template(TEXT), REVERSE, characters("reverse: abcd\ndcba"))
    assert np.array_equal(sample.labels("all"), sample.ids)
    labels = sample.labels("output", -7)
    assert labels.dtype == sample.ids.dtype == np.int32
    assert labels[:14].tolist() == [-7] * 14
    assert labels[14:].tolist() == sample.ids[14:].tolist()


def test_braces_may_be_text() -> None:
    assert Template("{{{input}}}{output}").fill({"input": "a", "output": "b"}) == "{a}b"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("{input", {}, "the template '{input' is not a text with fields in braces: expected '}'"),
        ("{}{output}", {}, "must have plain names in braces, such as {input}"),
        ("{input:3}{output}", {}, "must have plain names in braces"),
        ("{input!r}{output}", {}, "must have plain names in braces"),
        ("{input}{input}{output}", {}, "has the field 'input' twice: use it once"),
        ("{input}", {}, "has no field 'output', which is its output: it has 'input'"),
        ("no field", {}, "has no field 'output', which is its output: it has none"),
        ("{output}{input}", {}, "the output 'output' must be the last field of the template"),
        ("{input}{output}", {"truncate": "article"}, "has no field 'article', which is its truncate"),
        ("{input}{output}", {"truncate": "output"}, "the output 'output' is never cut: truncate must be another field"),
    ],
)
def test_a_template_that_is_none_is_refused(text: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(GPT2Error) as caught:
        Template(text, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_template_brings_its_fields_and_another_may_be_cut() -> None:
    assert find_template("question").truncate == "passage"
    assert find_template("question", truncate="question").truncate == "question"
    assert find_template("{input}>{output}").truncate == "input"
    assert find_template("{a}>{b}", "b").truncate == ""


def test_a_run_on_a_template_is_gone_on_with_and_notices_another_layout(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_text("\n".join([json.dumps(REVERSE)] * 4), encoding="utf-8")
    config = {
        "model": {"n_positions": 24, "n_embd": 8, "n_layer": 1, "n_head": 2},
        "data": {"template": TEXT, "weights": {"reverse": 2}, "held_out": 0},
    }
    train(data, tmp_path / "run", config=config, steps=1, batch_size=6)
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    train(data, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    for changed in ({"score": "all"}, {"weights": {"reverse": 3}}, {"template": "{task} {input}\n{output}"}):
        (field,) = changed
        with pytest.raises(GPT2Error, match=f"{field} is .* now, but was"):
            train(data, tmp_path / "run", config=config | {"data": config["data"] | changed}, resume=True)


def test_offsets_are_right_beyond_the_pieces_that_a_long_text_is_encoded_in(english: Tokenizer) -> None:
    text = "some words\n" * 2000 + "and " * 12000 + "中文"
    ids, offsets = encode_with_offsets(english, text)
    assert ids == encode(english, text)
    whole = english.encode(text)
    assert (ids, offsets) == (whole.ids, whole.offsets)


def facts(*arguments: Any) -> Any:
    """What the command says with --json."""
    return json.loads(run("tasks", *arguments, "--json").result)


def test_the_command_lists_the_templates() -> None:
    printed = run("tasks").result
    assert all(name in printed and json.dumps(task.template.text) in printed for name, task in TASKS.items())
    assert [(row["name"], row["template"], row["output"], row["truncate"]) for row in facts()] == [
        (name, task.template.text, task.template.output, task.template.truncate) for name, task in TASKS.items()
    ]


@pytest.mark.parametrize("name", TASKS)
def test_the_command_shows_the_example_of_a_template_token_by_token(name: str) -> None:
    task = TASKS[name]
    shown = facts(name)
    assert shown["prompt"] == task.template.prompt(task.example)
    assert "".join(row["text"] for row in shown["tokens"]) == task.template.fill(task.example) + END_OF_TEXT
    for row in shown["tokens"]:
        assert row["role"] in ROLES
        assert row["scored"] == (row["role"] in ("output", "end"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three records, and two lines that are none."""
    path = tmp_path / "a.jsonl"
    other = REVERSE | {"input": "xy", "output": "yx"}
    path.write_text("\n".join([json.dumps(REVERSE), "{", "", json.dumps(other)]), encoding="utf-8")
    return path


def test_the_command_shows_a_line_of_a_file_cut_or_filled_up(file: Path) -> None:
    shown = facts(TEXT, "--data", file, "--line", 4, "--block-size", 20)
    assert "".join(row["text"] for row in shown["tokens"]) == "reverse: xy\nyx<|endoftext|>"
    assert (shown["pads"], shown["cut"]) == (5, 0)
    shown = facts("text", "--data", file, "--line", 1, "--block-size", 17, "--score", "all")
    assert "".join(row["text"] for row in shown["tokens"]) == "reverse: ab\ndcba<|endoftext|>"
    assert (shown["pads"], shown["cut"]) == (0, 2)
    assert all(row["scored"] for row in shown["tokens"])


def test_people_see_roles_fields_and_what_is_scored(file: Path) -> None:
    lines = run("tasks", "text", "--data", file, "--line", 4, "--block-size", 17).result.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    roles = ["task"] * 7 + ["input"] * 5 + ["output"] * 2 + ["end"]
    assert [row[3] for row in cells] == [*roles, "pad"]
    assert [row[2] for row in cells[:-1]] == [*(json.dumps(c) for c in "reverse: xy\nyx"), f'"{END_OF_TEXT}"']
    assert [row[5] for row in cells] == ["no"] * 12 + ["yes"] * 3 + ["no"]
    assert [cells[0][4], cells[7][4], cells[9][4], cells[13][4]] == ["task", "", "input", "output"]
    assert cells[-1][0] == "16 to 17"
    assert lines[-1] == "15 tokens, 3 of them scored"
    cut = run("tasks", "text", "--block-size", 17).result.splitlines()
    assert cut[-1] == "17 tokens, 5 of them scored; 2 more were cut"


def test_the_tokens_shown_are_those_of_the_model_or_tokenizer_given(tmp_path: Path) -> None:
    train_tokenizer("bytes", []).save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        shown = facts("text", "--model", path)["tokens"]
        assert [row["id"] for row in shown] == encode(train_tokenizer("bytes", []), "reverse: abcd\ndcba")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{input}>{output}"],
            "a sample of the template '{input}>{output}' needs --data; those with an example: text,",
        ),
        (["tex"], "the template 'tex' has no field 'output'"),
        (["text", "--data", "{file}"], "line 2 is not valid JSON"),
        (["text", "--data", "{file}", "--line", "2"], "line 2 is not valid JSON"),
        (["text", "--data", "{file}", "--line", "3"], "line 3 holds no sample: it is blank, a heading, or beyond"),
        (["text", "--data", "{file}", "--line", "9"], "line 9 holds no sample"),
        (["text", "--block-size", "5"], "the sample has 19 tokens, with 15 of them outside the field 'input'"),
        (["text", "--model", "{folder}"], "has no tokenizer: expected tokenizer.json, vocab.json with merges.txt"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    file: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {"{file}": str(file), "{folder}": str(tmp_path)}
    assert message in run("tasks", *(places.get(argument, argument) for argument in arguments)).refusal
