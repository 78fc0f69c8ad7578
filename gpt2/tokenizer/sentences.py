"""Read a spiece.model: a unigram vocabulary of SentencePiece, such as that of rinna's Japanese GPT-2.

Source: sentencepiece_model.proto of SentencePiece; Kudo 2018, Subword regularization.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from gpt2.errors import GPT2Error

SPACE = "▁"
UNIGRAM, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
Message = dict[int, list[int | bytes]]


class Piece(NamedTuple):
    """A token, its log-probability and its type."""

    text: str
    score: float
    kind: int


def sentence_piece_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a spiece.model, which puts no tokens around a text.

    Raises GPT2Error if the file is damaged, or is not of the unigram kind with a space before each text.
    """
    model = _message(path.read_bytes())
    pieces = [_piece(raw) for raw in model.get(1, []) if isinstance(raw, bytes)]
    trainer, normalizer = (_message(_bytes(model, number)) for number in (2, 3))
    if _number(trainer, 3, UNIGRAM) != UNIGRAM or not pieces:
        raise GPT2Error(f"{path} is not a unigram model of SentencePiece, and no other kind is read")
    for number, what in ((3, "add_dummy_prefix"), (4, "remove_extra_whitespaces"), (5, "escape_whitespaces")):
        if not _number(normalizer, number, 1):
            raise GPT2Error(f"{path}: {what} is false, which cannot be honoured")
    if _number(trainer, 24, 0):
        raise GPT2Error(f"{path}: treat_whitespace_as_suffix is true, which cannot be honoured")
    for piece in pieces:
        if not math.isfinite(piece.score):
            raise GPT2Error(f"{path}: the score of {piece.text!r} must be a number, but is {piece.score}")
        if piece.kind == USER_DEFINED:
            raise GPT2Error(f"{path}: the user-defined symbol {piece.text!r} cannot be honoured")
    unknown = next((i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN), None)
    known = [(piece.text, piece.score) for piece in pieces]
    spells_bytes = bool(_number(trainer, 35, 0))
    tokenizer = Tokenizer(models.Unigram(known, unknown, spells_bytes))
    rules = _bytes(normalizer, 2)
    if rules:
        require_whole_rules(rules, path)
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Precompiled(rules)] if rules else []),
            normalizers.Replace(Regex(r"\A +| +\z"), ""),  # other white space is kept
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    if spells_bytes:
        text_of_bytes = [decoders.ByteFallback(), decoders.Fuse()]
        tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), *text_of_bytes, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([piece.text for piece in pieces if piece.kind in (UNKNOWN, CONTROL)])
    return tokenizer


def require_whole_rules(rules: bytes, path: Path) -> None:
    """Raise GPT2Error if rules that normalise a text are shorter than they say, which the library would believe."""
    if not 4 <= int.from_bytes(rules[:4], "little") + 4 <= len(rules):
        raise GPT2Error(f"{path}: the rules that normalise a text are cut off")


def _piece(raw: bytes) -> Piece:
    fields = _message(raw)
    score = _bytes(fields, 2) or bytes(4)
    return Piece(_bytes(fields, 1).decode(), struct.unpack("<f", score)[0], _number(fields, 3, 1))


def _bytes(message: Message, number: int) -> bytes:
    value = message.get(number, [b""])[-1]
    return value if isinstance(value, bytes) else b""


def _number(message: Message, number: int, default: int) -> int:
    value = message.get(number, [default])[-1]
    return value if isinstance(value, int) else default


def _message(raw: bytes) -> Message:
    """The fields of a message of protocol buffers, by number: integers, and bytes as they are.

    Raises ValueError if the bytes are no such message. Source: "Encoding" in the documentation of protocol buffers.
    """
    fields: Message = {}
    for number, value in _fields(raw):
        fields.setdefault(number, []).append(value)
    return fields


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(raw, place)
            yield number, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"no message: a field of type {kind} at byte {place}")
        length, place = _varint(raw, place) if kind == 2 else (8 if kind == 1 else 4, place)
        if place + length > len(raw):
            raise ValueError(f"the message ends inside a field, at byte {len(raw)}")
        yield number, raw[place : place + length]
        place += length


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the place after it."""
    value = shift = 0
    while place < len(raw):
        byte = raw[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError(f"a number is too long, at byte {place}")
    raise ValueError(f"the message ends inside a number, at byte {len(raw)}")
