"""The tokenizer against OpenAI's own, tiktoken, on one vocabulary: the same ids for every text, and the text again.

Then those that are trained here: they, too, give every text back.
"""

import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from gpt2.errors import GPT2Error
from gpt2.tokenizer import END_OF_TEXT, KINDS, byte_pair_tokenizer, encode, load_tokenizer, train_tokenizer
from gpt2.tokenizer import texts as own
from tests.gpt2.conftest import examples

tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: nothing to compare the tokenizer with")

Encoding = Any  # tiktoken's

# How GPT-2 cuts a text into words. Source: encoder.py of GPT-2.
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]))
PIECES = st.sampled_from(
    [
        " ",
        "  ",
        "\n",
        "\n\n ",
        "\t",
        "\r\n",
        "\u00a0",
        "\u2003",
        "\u3000",
        "\u0085",
        "\x00",
        "\x1c",
        "\x7f",
        "'s",
        "'S",
        "'ll",
        "'re",
        "'",
        "’t",
        "don't",
        "The",
        " the",
        "Ünï",
        "3",
        " 2024",
        "½",
        "٣",
        "e\u0301",
        "中文",
        "，",
        "ひらがな",
        "한국어",
        "हिन्दी",
        "🙂",
        "👩\u200d👧",
        "🇨🇳",
        "\u200d",
        "\ufeff",
        "\ufffd",
        "\U0010ffff",
        "<|endoftext",
        "|>",
        "!!!",
        "--",
        "_",
        "$",
    ]
)
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


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of tokenizer that can be trained."""
    return request.param


def test_a_trained_tokenizer_gives_every_text_back_and_so_does_its_file(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"

    @examples(1)
    @given(TEXTS.filter(bool))
    def holds(text: str) -> None:
        trained = train_tokenizer(kind, [text], 300)
        trained.save(str(file))
        loaded = load_tokenizer(tmp_path)
        assert loaded is not None
        ids = encode(trained, text)
        assert encode(loaded, text) == ids
        assert loaded.decode(ids, skip_special_tokens=False).encode() == text.encode()

    holds()


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_a_tokenizer_of_bytes_knows_texts_that_it_was_not_trained_on(kind: str) -> None:
    trained = train_tokenizer(kind, ["to be or not to be"], 270)

    @examples(1)
    @given(TEXTS)
    def holds(text: str) -> None:
        assert trained.decode(encode(trained, text), skip_special_tokens=False).encode() == text.encode()

    holds()


def test_a_tokenizer_of_characters_has_one_token_for_each() -> None:
    trained = train_tokenizer("characters", ["hello\r\n", "e\u0301"])
    assert trained.get_vocab_size() == len(set("hello\r\ne\u0301"))
    assert len(encode(trained, "hello\r\n\n")) == 8


def test_the_bytes_have_the_ids_of_gpt_2(ours: Tokenizer) -> None:
    trained = train_tokenizer("bytes", [])
    assert trained.get_vocab_size() == 256
    assert [trained.id_to_token(i) for i in range(256)] == [ours.id_to_token(i) for i in range(256)]


def test_byte_pairs_are_merged_up_to_the_size_and_the_end_of_text_is_last() -> None:
    trained = train_tokenizer("bpe", ["to be or not to be, that is the question"], 270)
    assert trained.get_vocab_size() == 270
    assert trained.token_to_id(END_OF_TEXT) == 269
    assert len(encode(trained, "to be")) < 5
    assert encode(trained, END_OF_TEXT) == [269]


def test_training_twice_gives_the_same_tokenizer(kind: str, data: Path) -> None:
    text = (data / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")[:50_000]
    assert train_tokenizer(kind, [text], 500).to_str() == train_tokenizer(kind, [text], 500).to_str()


def test_a_long_text_is_encoded_in_pieces_with_the_same_ids(
    kind: str, ours: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "PIECE", 3)
    trained = train_tokenizer(kind, [" ab\n"], 260)

    @examples(5)
    @given(st.text("ab \n\t.\u00a0\u0085\x1c中'<|>", max_size=40).map(lambda text: text + END_OF_TEXT + " ab ab"))
    def holds(text: str) -> None:
        for tokenizer in (ours, train_tokenizer("characters", [text]) if kind == "characters" else trained):
            assert encode(tokenizer, text) == tokenizer.encode(text).ids
            assert len(list(own._pieces(tokenizer, text))) > 1

    holds()


def _with_a_word_of_two(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens(["b c"])


def _with_marks_around(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing("a $0", special_tokens=[("a", 0)])


def _without_outer_space(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Strip()


def _with_a_space_first(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def _without_words(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.model = models.BPE({"b": 0, "Ġ": 1, "bĠ": 2, "c": 3}, [("b", "Ġ")])


@pytest.mark.parametrize(
    "change", [_with_a_word_of_two, _with_marks_around, _without_outer_space, _with_a_space_first, _without_words]
)
def test_a_tokenizer_that_looks_beyond_a_word_is_given_the_text_whole(
    change: Callable[[Tokenizer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "PIECE", 1)
    tokenizer = train_tokenizer("bytes", [])
    change(tokenizer)
    assert encode(tokenizer, "bb c bb c\nb") == tokenizer.encode("bb c bb c\nb").ids


def test_a_character_without_a_token_is_named() -> None:
    with pytest.raises(GPT2Error, match="has no token for '中': leave it out, or train"):
        encode(train_tokenizer("characters", ["abc"]), "ab中c")


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(GPT2Error, match="must be valid Unicode text, but is 'a") as caught:
        encode(train_tokenizer("bytes", []), "a\ud800" + "b" * 1000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "texts", "vocab_size", "message"),
    [
        ("words", ["a"], 300, "unknown kind of tokenizer 'words': choose one of characters, bytes, bpe"),
        ("characters", [], None, "needs text"),
        ("bpe", ["a"], None, "needs a vocab_size of at least 257"),
        ("bpe", ["a"], 256, "needs a vocab_size of at least 257 .* but it is 256"),
    ],
)
def test_what_cannot_be_trained_is_refused(kind: str, texts: list[str], vocab_size: int | None, message: str) -> None:
    with pytest.raises(GPT2Error, match=message):
        train_tokenizer(kind, texts, vocab_size)


def test_a_tokenizer_neither_cuts_nor_pads(tmp_path: Path) -> None:
    limited = train_tokenizer("characters", ["abc"])
    limited.enable_truncation(2)
    limited.enable_padding(length=9)
    limited.save(str(tmp_path / "mine.json"))
    loaded = load_tokenizer(tmp_path / "mine.json")
    assert loaded is not None
    assert encode(loaded, "abc") == [0, 1, 2]
