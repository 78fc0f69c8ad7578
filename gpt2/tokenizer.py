"""Encode text to ids and decode it, with the library `tokenizers`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Encoding, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from gpt2.errors import GPT2Error

END_OF_TEXT = "<|endoftext|>"
BERT_SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")  # the first three are required
KINDS = ("characters", "bytes", "bpe")
PIECE = 2**16  # characters per call of the library, which needs 450 bytes for each
# A place where a GPT-2 word surely ends. Python's \S knows every kind of space that the library knows.
BREAK = re.compile(r"(?<=\S)(?=[ \n])")


def load_tokenizer(path: Path) -> Tokenizer | None:
    """Load a folder's tokenizer: tokenizer.json, OpenAI's vocab.json and merges.txt, or BERT's vocab.txt; else None.

    path may also be a tokenizer.json or vocab.txt file itself. Truncation and padding are switched off.
    Raises GPT2Error if a file is damaged.
    """
    whole, vocab, merges, pieces = (path / name for name in ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"))
    if path.is_file():
        whole, pieces = (whole, path) if path.suffix == ".txt" else (path, pieces)
    try:
        if whole.is_file():
            tokenizer = Tokenizer.from_file(str(whole))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return tokenizer
        if vocab.is_file() and merges.is_file():
            return byte_pair_tokenizer(vocab, merges)
        if pieces.is_file():
            return bert_tokenizer(pieces)
    except Exception as error:  # the library raises a plain Exception if it cannot parse a file
        raise GPT2Error(f"cannot read the tokenizer in {path}: {error}") from error
    return None


def byte_pair_tokenizer(vocab: Path, merges: Path) -> Tokenizer:
    """GPT-2's byte-level BPE tokenizer from OpenAI's two files.

    Source: GPT-2 paper, section 2.2; encoder.py of GPT-2.
    """
    tokenizer = _of_bytes(models.BPE.from_file(str(vocab), str(merges)))
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def bert_tokenizer(vocab: Path) -> Tokenizer:
    """BERT's WordPiece tokenizer from a vocab.txt, as of bert-base-chinese: lower case; a token per Chinese character.

    It puts [CLS] before a text and [SEP] after it. Full-width punctuation has its own ids.
    Raises GPT2Error if the file lacks [UNK], [CLS] or [SEP].
    Source: Devlin et al. 2019; tokenization.py of BERT.
    """
    tokenizer = Tokenizer(models.WordPiece.from_file(str(vocab), unk_token="[UNK]"))
    known = {token: i for token, i in tokenizer.get_vocab().items() if token in BERT_SPECIAL}
    for token in BERT_SPECIAL[:3]:
        if token not in known:
            raise GPT2Error(f"{vocab} has no {token}: expected a vocab.txt of BERT, one token a line")
    tokenizer.add_special_tokens(sorted(known))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", known["[SEP]"]), ("[CLS]", known["[CLS]"]))
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def train_tokenizer(kind: str, texts: Sequence[str], vocab_size: int | None = None) -> Tokenizer:
    """Train a tokenizer of this kind; it encodes each of the texts and decodes it without loss.

    "characters": one token for each character that occurs. "bytes": 256 tokens, with GPT-2's ids. "bpe": the 256 bytes,
    merges of the most frequent pairs, and the end-of-text token; at most vocab_size tokens.
    Raises GPT2Error for an unknown kind, for empty texts, or for a vocab_size too small for "bpe".
    """
    if kind == "characters":
        return _of_characters(texts)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if kind == "bytes":
        return _of_bytes(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    if kind != "bpe":
        raise GPT2Error(f"unknown kind of tokenizer {kind!r}: choose one of {', '.join(KINDS)}")
    if vocab_size is None or vocab_size <= len(alphabet):
        raise GPT2Error(
            f"a bpe tokenizer needs a vocab_size of at least {len(alphabet) + 1} (256 bytes and the end of text), "
            f"but it is {vocab_size}"
        )
    tokenizer = _of_bytes(models.BPE())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def _of_characters(texts: Sequence[str]) -> Tokenizer:
    characters = sorted(set().union(*texts))
    if not characters:
        raise GPT2Error("a tokenizer of characters needs text, but this text is empty")
    tokenizer = Tokenizer(models.WordLevel({character: i for i, character in enumerate(characters)}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _of_bytes(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def encode(tokenizer: Tokenizer, text: str, add_special_tokens: bool = True) -> list[int]:
    """The ids of a text, with the special tokens that the tokenizer adds (BERT's [CLS] and [SEP]).

    Raises GPT2Error if the text is not valid Unicode, or holds a character that the tokenizer has no token for.
    """
    return [i for _, piece in _encodings(tokenizer, text, add_special_tokens) for i in piece.ids]


def encode_with_offsets(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a text, and the (start, end) characters of each, end excluded. Raises GPT2Error as `encode` does."""
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    for start, piece in _encodings(tokenizer, text, add_special_tokens=False):
        ids += piece.ids
        offsets += [(start + first, start + last) for first, last in piece.offsets]
    return ids, offsets


def _encodings(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> Iterator[tuple[int, Encoding]]:
    """For each piece of the text: the place of its first character, and its encoding."""
    start = 0
    for piece in _pieces(tokenizer, text):
        try:
            yield start, tokenizer.encode(piece, add_special_tokens=add_special_tokens)
        except (UnicodeEncodeError, TypeError) as error:  # the library rejects a lone surrogate
            raise GPT2Error(f"the text must be valid Unicode text, but is {_short(text)}") from error
        except Exception as error:  # a plain Exception, if a character has no token and there is no unknown token
            unknown = next((c for c in text if tokenizer.token_to_id(c) is None), None)
            if unknown is None:
                raise GPT2Error(f"the tokenizer cannot encode {_short(text)}: {error}") from error
            raise GPT2Error(
                f"the tokenizer has no token for {unknown!r}: leave it out, or train a tokenizer that has one"
            ) from error
        start += len(piece)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _pieces(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """Split the text so that its ids stay the same; one piece, unless the tokenizer is known to allow a split."""
    start = 0
    while len(text) - start > PIECE and _works_by_words(tokenizer):
        found = BREAK.search(text, start + PIECE)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def _works_by_words(tokenizer: Tokenizer) -> bool:
    """Whether the ids of a word depend on that word alone: true of GPT-2's tokenizer and of `train_tokenizer`'s."""
    cut, added = tokenizer.pre_tokenizer, tokenizer.get_added_tokens_decoder().values()
    plain = (
        tokenizer.normalizer is None
        and isinstance(tokenizer.post_processor, processors.ByteLevel | None)  # GPT-2's, which changes no ids
        and not any(token.lstrip or token.rstrip or BREAK.search(token.content) for token in added)
    )
    if isinstance(cut, pre_tokenizers.ByteLevel):
        return plain and cut.use_regex and not cut.add_prefix_space
    return plain and isinstance(cut, pre_tokenizers.Split) and isinstance(tokenizer.model, models.WordLevel)
