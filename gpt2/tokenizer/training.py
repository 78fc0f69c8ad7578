"""Train a tokenizer on texts: of characters, of bytes, or of byte pairs as GPT-2's."""

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from gpt2.errors import GPT2Error

END_OF_TEXT = "<|endoftext|>"
KINDS = ("characters", "bytes", "bpe")


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
        return of_bytes(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    if kind != "bpe":
        raise GPT2Error(f"unknown kind of tokenizer {kind!r}: choose one of {', '.join(KINDS)}")
    if vocab_size is None or vocab_size <= len(alphabet):
        raise GPT2Error(
            f"a bpe tokenizer needs a vocab_size of at least {len(alphabet) + 1} (256 bytes and the end of text), "
            f"but it is {vocab_size}"
        )
    tokenizer = of_bytes(models.BPE())
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


def of_bytes(model: models.BPE) -> Tokenizer:
    """GPT-2's steps around a model of byte pairs: text becomes words, and words bytes."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
