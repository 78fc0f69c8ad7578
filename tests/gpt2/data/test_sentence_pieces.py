"""SentencePiece's vocabularies, as rinna's Japanese models have them, written here byte by byte."""

import json
import math
import struct
from pathlib import Path

import pytest

from gpt2.errors import GPT2Error
from gpt2.tokenizer import decode, encode, encode_prompt, end_id, load_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
PIECES = [
    ("<unk>", 0.0, UNKNOWN),
    ("<s>", 0.0, CONTROL),
    ("</s>", 0.0, CONTROL),
    ("[PAD]", 0.0, CONTROL),
    ("▁", -2.0, NORMAL),
    ("▁今日", -3.0, NORMAL),
    ("今", -4.0, NORMAL),
    ("日", -4.0, NORMAL),
    ("は", -2.5, NORMAL),
    ("▁a", -3.5, NORMAL),
    ("今日は", -5.0, NORMAL),
]
RINNA = {"tokenizer_class": "T5Tokenizer", "pad_token": "[PAD]", "bos_token": "<s>", "extra_ids": 0}


def field(number: int, value: int | bytes) -> bytes:
    """A field of a message of protocol buffers, with a number below 128 or with fewer bytes than that."""
    if isinstance(value, int):
        return bytes([number << 3 & 127 | (128 if number > 15 else 0), *([number >> 4] if number > 15 else []), value])
    return bytes([number << 3 | 2, len(value)]) + value


def model_of(pieces: list[tuple[str, float, int]], trainer: bytes = b"", normalizer: bytes = b"") -> bytes:
    """A spiece.model."""
    written = b""
    for text, score, kind in pieces:
        written += field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + field(3, kind))
    return written + field(2, trainer) + field(3, normalizer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spiece.model").write_bytes(model_of(PIECES))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(RINNA), encoding="utf-8")
    return tmp_path


def test_a_text_is_cut_into_its_likeliest_pieces(folder: Path) -> None:
    """▁今日 and は have -5.5 together, ▁ and 今日は have -7; white space but the space is no space."""
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    assert encode(tokenizer, "  今日は  a日 ", add_special_tokens=False) == [5, 8, 9, 7]
    assert encode(tokenizer, "今日は\n", add_special_tokens=False) == [5, 8, 0]
    assert encode(tokenizer, "<s>今[PAD]", add_special_tokens=False) == [1, 4, 6, 3]
    assert decode(tokenizer, [5, 8, 9, 7]) == "今日は a日"


def test_a_text_ends_with_its_token_and_a_prompt_stays_open(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    assert encode(tokenizer, "今日は") == [5, 8, 2]
    assert encode_prompt(tokenizer, "今日は") == [5, 8]
    assert end_id(tokenizer) == 2


def test_unknown_characters_may_be_spelt_as_bytes(folder: Path) -> None:
    every = [(f"<0x{i:02X}>", 0.0, 6) for i in range(256)]
    (folder / "spiece.model").write_bytes(model_of(PIECES + every, trainer=field(35, 1)))
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    ids = encode(tokenizer, "今日é", add_special_tokens=False)
    assert ids == [5, *(len(PIECES) + byte for byte in "é".encode())]
    assert decode(tokenizer, ids) == "今日é"
    assert decode(tokenizer, [4, 5]) == " 今日"  # the space before the text alone is left out


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (model_of(PIECES, trainer=field(3, 2)), "is not a unigram model of SentencePiece"),
        (model_of(PIECES, trainer=field(24, 1)), "treat_whitespace_as_suffix is true, which cannot be honoured"),
        (model_of(PIECES, normalizer=field(3, 0)), "add_dummy_prefix is false, which cannot be honoured"),
        (model_of([*PIECES, ("<user>", 0.0, USER_DEFINED)]), "the user-defined symbol '<user>' cannot be honoured"),
        (model_of([*PIECES, ("b", math.nan, NORMAL)]), "the score of 'b' must be a number, but is nan"),
        (model_of([*PIECES, ("b", math.inf, NORMAL)]), "the score of 'b' must be a number, but is inf"),
        (model_of([piece for piece in PIECES if piece[0] != "</s>"])[:-1], "cannot read the tokenizer in"),
        (b"\x0b", "no message: a field of type 3"),
        (b"\x80", "the message ends inside a number"),
    ],
)
def test_what_cannot_be_honoured_is_refused(raw: bytes, message: str, folder: Path) -> None:
    (folder / "spiece.model").write_bytes(raw)
    with pytest.raises(GPT2Error, match=message):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer_class": "XLNetTokenizer"}, "has a tokenizer of class 'XLNetTokenizer'"),
        ({"do_lower_case": True}, "'do_lower_case' is true, which cannot be honoured"),
    ],
)
def test_another_way_to_read_it_is_refused(settings: dict[str, object], message: str, folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(RINNA | settings), encoding="utf-8")
    with pytest.raises(GPT2Error, match=message):
        load_tokenizer(folder)


def test_damaged_rules_and_numbers_are_refused(folder: Path) -> None:
    for raw, message in (
        (model_of(PIECES, normalizer=field(2, b"\xff" * 4 + b"abc")), "the rules that normalise a text are cut off"),
        (b"\x08" + b"\xff" * 2**20, "a number is too long"),
    ):
        (folder / "spiece.model").write_bytes(raw)
        with pytest.raises(GPT2Error, match=message):
            load_tokenizer(folder)


def test_rules_that_make_the_library_panic_are_refused(folder: Path) -> None:
    (folder / "spiece.model").write_bytes(model_of(PIECES, normalizer=field(2, b"\x04\0\0\0" + b"\xff" * 4 + b"abc")))
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    with pytest.raises(GPT2Error, match="the tokenizer cannot encode 'a'"):
        encode(tokenizer, "a")
