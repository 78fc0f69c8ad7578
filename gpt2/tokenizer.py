"""From text to ids and back, by the library `tokenizers`."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gpt2.errors import GPT2Error

END_OF_TEXT = "<|endoftext|>"


def load_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer in folder: tokenizer.json, or OpenAI's vocab.json and merges.txt; None if it has neither.

    Raises GPT2Error if a file is damaged.
    """
    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    try:
        if whole.is_file():
            return Tokenizer.from_file(str(whole))
        if vocab.is_file() and merges.is_file():
            return byte_pair_tokenizer(vocab, merges)
    except Exception as error:  # the library raises plain Exception for whatever it cannot parse
        raise GPT2Error(f"cannot read the tokenizer in {folder}: {error}") from error
    return None


def byte_pair_tokenizer(vocab: Path, merges: Path) -> Tokenizer:
    """GPT-2's byte-level BPE out of OpenAI's two files.

    Source: GPT-2 paper, section 2.2; encoder.py of GPT-2.
    """
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer
