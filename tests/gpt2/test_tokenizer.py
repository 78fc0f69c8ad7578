"""The tokenizer against OpenAI's own, tiktoken, on one vocabulary: the same ids for every text, and the text again."""

import base64
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gpt2.tokenizer import END_OF_TEXT, byte_pair_tokenizer, load_tokenizer
from tests.gpt2.conftest import examples

tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: nothing to compare the tokenizer with")

Encoding = Any  # tiktoken's

# How GPT-2 cuts a text into words. Source: encoder.py of GPT-2.
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]))
PIECES = st.sampled_from([
    " ", "  ", "\n", "\n\n ", "\t", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\x00", "\x1c", "\x7f",
    "'s", "'S", "'ll", "'re", "'", "’t", "don't", "The", " the", "Ünï", "3", " 2024", "½", "٣", "e\u0301", "中文", "，",
    "ひらがな", "한국어", "हिन्दी", "🙂", "👩\u200d👧", "🇨🇳", "\u200d", "\ufeff", "\ufffd", "\U0010ffff",
    "<|endoftext", "|>", "!!!", "--", "_", "$",
])  # fmt: skip
TEXTS = st.one_of(CHARACTERS, st.lists(st.one_of(PIECES, CHARACTERS)).map("".join))


@pytest.fixture(scope="module")
def ours(data: Path) -> Tokenizer:
    """The project's tokenizer."""
    return byte_pair_tokenizer(data / "gpt2_bpe" / "vocab.json", data / "gpt2_bpe" / "merges.txt")


@pytest.fixture(scope="module")
def theirs(data: Path) -> Encoding:
    """OpenAI's, from the same merges written as ranks: one token in base64, a space and its rank per line."""
    lines = (data / "gpt2_bpe" / "gpt2.tiktoken").read_bytes().split(b"\n")
    ranks = {base64.b64decode(token): int(rank) for token, _, rank in (line.partition(b" ") for line in lines) if rank}
    return tiktoken.Encoding(
        name="gpt2", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: len(ranks)}
    )


def test_a_million_characters_of_shakespeare_become_the_same_ids_and_come_back(
    data: Path, ours: Tokenizer, theirs: Encoding
) -> None:
    raw = (data / "tinyshakespeare" / "input.txt").read_bytes()
    ids = ours.encode(raw.decode()).ids
    assert ids == theirs.encode_ordinary(raw.decode())
    assert ours.decode(ids).encode() == raw


def test_every_text_becomes_the_same_ids_and_comes_back(ours: Tokenizer, theirs: Encoding) -> None:
    @examples(10)
    @given(TEXTS)
    def holds(text: str) -> None:
        ids = ours.encode(text).ids
        assert ids == theirs.encode(text, allowed_special="all")
        assert ours.decode(ids, skip_special_tokens=False).encode() == text.encode()

    holds()


def test_every_character_is_a_letter_a_number_a_space_or_a_sign_to_both(ours: Tokenizer, theirs: Encoding) -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    texts = ["".join(f"1{c} {c}a" for c in every[start : start + 256]) for start in range(0, len(every), 256)]
    assert [text for text in texts if ours.encode(text).ids != theirs.encode_ordinary(text)] == []


def test_the_end_of_text_is_one_token_that_decodes_to_itself(ours: Tokenizer, theirs: Encoding) -> None:
    ids = ours.encode(f"one{END_OF_TEXT} two").ids
    assert ids == theirs.encode(f"one{END_OF_TEXT} two", allowed_special="all")
    assert ours.token_to_id(END_OF_TEXT) in ids
    assert ours.decode(ids, skip_special_tokens=False) == f"one{END_OF_TEXT} two"


def test_the_two_files_and_the_one_that_they_become_give_the_same_ids(
    data: Path, ours: Tokenizer, tmp_path: Path
) -> None:
    ours.save(str(tmp_path / "tokenizer.json"))
    text = "Hello, world! 你好 \n\n  👋"
    for folder in (tmp_path, data / "gpt2_bpe"):
        loaded = load_tokenizer(folder)
        assert loaded is not None
        assert loaded.encode(text).ids == ours.encode(text).ids


def test_a_folder_without_its_files_has_no_tokenizer(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path) is None
