"""Tokenizers: read from a folder or trained; texts become ids, and ids texts."""

from gpt2.tokenizer.beside import settings_of
from gpt2.tokenizer.folder import BERT_SPECIAL, bert_tokenizer, byte_pair_tokenizer, class_in_config, load_tokenizer
from gpt2.tokenizer.texts import (
    decode,
    encode,
    encode_prompt,
    encode_with_offsets,
    end_id,
    id_count,
    surroundings,
    without_opening,
)
from gpt2.tokenizer.training import END_OF_TEXT, KINDS, train_tokenizer

__all__ = [
    "BERT_SPECIAL",
    "END_OF_TEXT",
    "KINDS",
    "bert_tokenizer",
    "byte_pair_tokenizer",
    "class_in_config",
    "decode",
    "encode",
    "encode_prompt",
    "encode_with_offsets",
    "end_id",
    "id_count",
    "load_tokenizer",
    "settings_of",
    "surroundings",
    "train_tokenizer",
    "without_opening",
]
