"""The parts of fine-tuning: leads and lengths, labels, and texts that are cut."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gpt2.data.corpus import read_corpus
from gpt2.data.rows import classifier_ids
from gpt2.data.settings import DataConfig
from gpt2.errors import GPT2Error
from gpt2.finetune.summarizer import lead, mean_length
from gpt2.model.hf_folder import CONFIG, read_labels
from gpt2.model.model import load
from gpt2.tokenizer import load_tokenizer, train_tokenizer
from tests.gpt2.finetune.runs import WEIGHTS, classify, lines_of, summarize


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [("一种New方法。好", 3, "一种New"), ("one, two three", 2, "one, two"), ("a", 5, "a"), ("。", 1, "")],
)
def test_the_lead_is_counted_as_rouge_counts(text: str, count: int, expected: str) -> None:
    assert lead(text, count) == expected


def test_lengths_are_those_that_rouge_sees() -> None:
    assert mean_length(["一种方法", "New way", "。"]) == 2
    assert mean_length(["。"]) == 1


def test_labels_are_in_order_and_numbers_by_their_size(tmp_path: Path) -> None:
    settings, own = DataConfig(label="label", held_out=0), train_tokenizer("characters", ["ab"])
    file = lines_of(tmp_path / "a.jsonl", [{"text": "ab", "label": label} for label in (10, 9, "1")])
    corpus = read_corpus(file, settings, 8, own)
    assert corpus.labels == ("1", "9", "10")
    assert corpus.training["labels"].tolist() == [2, 1, 0]
    assert corpus.training["attention_mask"].sum(axis=1).tolist() == [2, 2, 2]
    file = lines_of(tmp_path / "b.jsonl", [{"text": "ab", "label": label} for label in ("b", "a", "b")])
    assert read_corpus(file, settings, 8, own).labels == ("a", "b")


def test_both_pipelines_give_labels_alike(data: Path) -> None:
    pytest.importorskip("mindspore", reason="MindSpore is not installed: there is one pipeline only")
    one, other = (classify(data, name, pipeline=name).result.folder for name in ("numpy", "mindspore"))
    assert (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("length", "cut"), [(3, True), (4, False), (9, False)])
def test_the_text_alone_is_cut(length: int, cut: bool, data: Path) -> None:
    tokenizer = load_tokenizer(data / "vocab.txt")
    assert tokenizer is not None
    ids, was_cut = classifier_ids(tokenizer, "天地", length)
    assert ids.tolist() == [2, 5, 6, 3][: length - 1] + [3] * (length < 4) if cut else [2, 5, 6, 3]
    assert was_cut == cut


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "text"}, "data field 'label' must be another field than 'field'"),
        ({"label": "l", "template": "tldr"}, "data field 'template' must be left out where there are labels"),
        ({"label": "l", "layout": "packed"}, "data field 'layout' must be null or 'padded' where there are labels"),
        ({"label": 1}, "data field 'label' must be a string"),
    ],
)
def test_settings_of_labels_that_contradict_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GPT2Error, match=re.escape(message)):
        DataConfig(**changes)


def test_a_folder_carries_its_word_pieces_along(data: Path) -> None:
    folder = summarize(data, "run", steps=1).result.folder
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_bytes((data / "vocab.txt").read_bytes())
    load(folder, "numpy").save(data / "copy")
    assert (data / "copy" / "vocab.txt").is_file()


@pytest.mark.parametrize("names", [{"1": "a", "2": "b"}, {"0": "a", "1": "a"}, {"0": 1, "1": "b"}])
def test_labels_that_are_not_numbered_from_0_are_refused(names: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"id2label": names}))
    with pytest.raises(GPT2Error, match="id2label must name each label by its number"):
        read_labels(tmp_path)
