"""Tokenizer folders that transformers writes, now and in earlier versions: the ids are those that it gives."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from benchmarks.peers.client import Peer
from gpt2.tokenizer import (
    END_OF_TEXT,
    KINDS,
    bert_tokenizer,
    encode,
    end_id,
    load_tokenizer,
    settings_of,
    train_tokenizer,
)

pytestmark = pytest.mark.peer

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "h"), ("Ġ", "a"), ("<", "|"), ("|", ">")]
MERGED = [*BYTES, *("".join(pair) for pair in MERGES)]
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abehlo今天<>|！,é",
    "##a",
    "##l",
    "he",
    "##llo",
    "Hello",
    "<|",
]
# No two of them become the same text: which of such tokens the library finds differs from call to call.
WORDS = ["<|user|>", "<pad>", "hello", "He", "今天", " a", "é", "a b", "[USER]", "##l", "ell"]
TEXTS = st.lists(
    st.sampled_from(
        [
            *WORDS,
            "<|endoftext|>",
            "[MASK]",
            "[SEP]",
            "[cls]",
            "<|USER|>",
            "E\u0301",
            " ",
            "  ",
            "\n",
            "a",
            "hello",
            "！",
            "Ａ",
            "今",
        ]
    ),
    max_size=8,
).map("".join)
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
AS_FIELDS = st.fixed_dictionaries({"content": st.sampled_from(WORDS)}, optional=dict.fromkeys(FLAGS, st.booleans()))
TOKENS = st.sampled_from(WORDS) | AS_FIELDS
NAMES = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token", "image_token")
NAMED = st.dictionaries(st.sampled_from(NAMES), TOKENS, max_size=3)
MORE = {
    "extra_special_tokens": st.lists(TOKENS, max_size=2) | st.dictionaries(st.sampled_from(["video_token"]), TOKENS),
    "model_max_length": st.just(64),
}
OF_BERT = {
    "do_lower_case": st.booleans(),
    "strip_accents": st.none() | st.booleans(),
    "tokenize_chinese_chars": st.booleans(),
}
OF_GPT2 = dict.fromkeys(("add_prefix_space", "split_special_tokens", "add_bos_token", "add_eos_token"), st.booleans())


@st.composite
def folders(draw: st.DrawFn) -> dict[str, Any]:
    """What the other process is to write, but for the vocabulary."""
    kind = draw(st.sampled_from(["gpt2", "gpt2 without an end", "bert", "slow bert"]))
    own = st.fixed_dictionaries({}, optional=(OF_GPT2 if kind.startswith("gpt2") else OF_BERT) | MORE)
    return {
        "kind": kind,
        "settings": draw(own) | draw(NAMED),
        "added": draw(st.lists(AS_FIELDS, max_size=3, unique_by=lambda token: token["content"])),
        "layout": draw(st.sampled_from(["now", "fast", "slow", "old"])),
    }


def vocabulary_of(kind: str) -> list[Any]:
    """The vocabulary of a kind of tokenizer, and for GPT-2's the merges."""
    if not kind.startswith("gpt2"):
        return PIECES
    tokens = MERGED if kind.endswith("an end") else [*MERGED, END_OF_TEXT]
    return [{token: i for i, token in enumerate(tokens)}, MERGES]


@pytest.mark.parametrize("kind", [*KINDS, "bert"])
def test_the_folder_of_a_run_has_the_ids_that_it_was_trained_on(
    kind: str, tokens_of_transformers: Peer, tmp_path: Path
) -> None:
    text = "hello 今天\n heLLo[SEP]" + END_OF_TEXT
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8")
    tokenizer = bert_tokenizer(tmp_path / "vocab.txt") if kind == "bert" else train_tokenizer(kind, [text], 300)
    ends = {"eos_token": end_id(tokenizer), "pad_token": tokenizer.token_to_id("[PAD]")}
    files = {"config.json": {"model_type": "gpt2"}, "tokenizer_config.json": settings_of(tokenizer, **ends)}
    for name, fields in files.items():
        (tmp_path / name).write_text(json.dumps(fields), encoding="utf-8")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs, _ = tokens_of_transformers.ask("ids", folder=str(tmp_path), texts=[text])
    assert theirs["ids"] == [[encode(tokenizer, text, closed) for closed in (True, False)]]
    loaded = load_tokenizer(tmp_path)
    assert loaded is not None
    assert loaded.to_str() == tokenizer.to_str()  # else a run could not be resumed


def test_folders_have_the_ids_of_transformers(tokens_of_transformers: Peer) -> None:
    refused = 0

    @settings(max_examples=2 * settings().max_examples // 3, deadline=None)
    @given(folders(), st.lists(TEXTS, min_size=1, max_size=4))
    def law(folder: dict[str, Any], texts: list[str]) -> None:
        nonlocal refused
        with tempfile.TemporaryDirectory() as room:
            path = Path(room, "model")
            vocabulary = vocabulary_of(folder["kind"])
            theirs, _ = tokens_of_transformers.ask("write", folder=str(path), vocabulary=vocabulary, **folder)
            if "refused" not in theirs:
                theirs, _ = tokens_of_transformers.ask("ids", folder=str(path), texts=texts)
            if "refused" in theirs:
                assert "Missing SpecialToken(s)" in theirs["refused"]  # those around a text cannot hold a space
                refused += 1
                return
            tokenizer = load_tokenizer(path)
            assert tokenizer is not None
            assert [[encode(tokenizer, text, closed) for closed in (True, False)] for text in texts] == theirs["ids"]

    law()
    print(f"{refused} folders are refused by transformers itself")
