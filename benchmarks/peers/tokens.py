"""Hugging Face's tokenizers: functions that answer in a process of the PyTorch environment."""

import json
import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np
from transformers import AddedToken, AutoTokenizer, BertTokenizer, GPT2Tokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from benchmarks.peers.serving import Answer, Arrays

TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
Fields = dict[str, Any]


def pair(arrays: Arrays, vocab: str, article: str, summary: str, length: int) -> Answer:
    """input_ids, attention_mask and token_type_ids (length,) of two texts, the first cut; or the reason of a refusal.

    transformers treats an empty summary like a missing one.
    """
    tokenizer = BertTokenizer(vocab=vocab)
    try:
        encoding = tokenizer(article, summary, truncation="only_first", max_length=length, padding="max_length")
    except Exception as error:  # the library has no specific exception class
        return {"refused": str(error)}, {}
    return {}, {name: np.array(values) for name, values in encoding.items()}


def write(
    arrays: Arrays, folder: str, kind: str, vocabulary: Any, settings: Fields, added: list[Fields], layout: str
) -> Answer:
    """Write a folder with a tokenizer, to which tokens were added.

    kind: "gpt2...", "bert", or "slow bert" for BERT's tokenizer in Python; vocabulary: for "gpt2..." an object and a
    list of merges, else a list of pieces. A token is a string, or an object with the fields of AddedToken.
    layout: "now", as this version writes it; "fast" and "slow" as versions 4 did, the first with tokenizer.json; "old",
    as version 3 did, with added_tokens.json. Answers the reason if transformers refuses such a tokenizer.
    """
    try:
        _write(Path(folder), kind, vocabulary, settings, added, layout)
    except Exception as error:  # the library has no specific exception class
        return {"refused": f"{type(error).__name__}: {error}"}, {}
    return {}, {}


def _write(room: Path, kind: str, vocabulary: Any, settings: Fields, added: list[Fields], layout: str) -> None:
    options = {name: _token(value) for name, value in settings.items()}
    room.mkdir()
    if kind.startswith("gpt2"):
        tokenizer = GPT2Tokenizer(vocabulary[0], [tuple(pair) for pair in vocabulary[1]], **options)
    elif kind == "bert":
        tokenizer = BertTokenizer({piece: i for i, piece in enumerate(vocabulary)}, **options)
    else:
        (room / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")
        tokenizer = BertTokenizerLegacy(str(room / "vocab.txt"), **options)
    tokenizer.add_tokens([AddedToken(**token) for token in added])
    tokenizer.save_pretrained(room)
    if kind == "slow bert":
        _change(room / "tokenizer_config.json", tokenizer_class="BertTokenizer")  # as it was called in version 4
    elif layout != "now":
        _write_as_before(room, tokenizer, layout)
        said = {name: value for name, value in settings.items() if name in ("add_bos_token", "add_eos_token")}
        _change(room / "tokenizer_config.json", **said)
    (room / "config.json").write_text(json.dumps({"model_type": "gpt2"}), encoding="utf-8")


def _token(value: Any) -> Any:
    if isinstance(value, list):
        return [_token(each) for each in value]
    if not isinstance(value, dict):
        return value
    return AddedToken(**value) if "content" in value else {name: _token(each) for name, each in value.items()}


def _write_as_before(room: Path, tokenizer: Any, layout: str) -> None:
    """Replace or complete what this version wrote by the files that earlier ones did."""
    known = tokenizer.added_tokens_decoder
    special = {name: token for name, token in tokenizer._special_tokens_map.items() if token is not None}
    named = {name: _state(token) for name, token in special.items()}
    if tokenizer.extra_special_tokens:
        named["additional_special_tokens"] = tokenizer.extra_special_tokens
    (room / "special_tokens_map.json").write_text(json.dumps(named), encoding="utf-8")
    tokenizer.backend_tokenizer.model.save(str(room))
    numbered = {token.content: i for i, token in known.items() if i >= tokenizer.vocab_size}
    if numbered:
        (room / "added_tokens.json").write_text(json.dumps(numbered), encoding="utf-8")
    if layout != "fast":
        (room / "tokenizer.json").unlink()
    settings = room / "tokenizer_config.json"
    if layout != "old":
        _change(settings, added_tokens_decoder={i: token.__getstate__() for i, token in known.items()})


def _state(token: Any) -> Any:
    """A token as special_tokens_map.json has it."""
    if isinstance(token, str):
        return token
    return {name: value for name, value in token.__getstate__().items() if name != "special"}


def _change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


def ids(arrays: Arrays, folder: str, texts: list[str]) -> Answer:
    """ids: those of every text, with special tokens and without them; or the reason of a refusal."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        read = [[tokenizer.encode(text, add_special_tokens=closed) for closed in (True, False)] for text in texts]
    except Exception as error:  # the library has no specific exception class
        return {"refused": f"{type(error).__name__}: {error}"}, {}
    return {"ids": read, "class": type(tokenizer).__name__}, {}


FUNCTIONS = (pair, write, ids)
