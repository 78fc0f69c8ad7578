"""Read a tokenizer from the files of a folder: tokenizer.json, or a vocabulary and what stands beside it."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from gpt2.errors import GPT2Error
from gpt2.json_input import read_json
from gpt2.tokenizer.beside import CONFIG, SETTINGS, Beside, read_beside
from gpt2.tokenizer.sentences import require_whole_rules, sentence_piece_tokenizer
from gpt2.tokenizer.texts import is_panic, refuse_to_drop, surroundings
from gpt2.tokenizer.training import END_OF_TEXT, of_bytes

WHOLE, VOCAB, MERGES, PIECES, SENTENCES = "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model"
# The special tokens of the classes, by transformers' names.
GPT2_SPECIAL = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
BERT_NAMED = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
T5_NAMED = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
BERT_SPECIAL = tuple(BERT_NAMED.values())
# Classes of transformers, without "Fast". The general ones say nothing that tokenizer.json does not.
GPT2, BERT, T5, GENERAL = (
    "GPT2Tokenizer",
    "BertTokenizer",
    "T5Tokenizer",
    ("", "PreTrainedTokenizer", "TokenizersBackend"),
)
AS_BERT = (BERT, "BertTokenizerLegacy", "DistilBertTokenizer", "ElectraTokenizer")


# The most ids below the last that are no token's: as many as there are characters, whose numbers some take for ids.
# A new model holds a row for each.
MOST_MISSING = 0x110000


def load_tokenizer(path: Path) -> Tokenizer | None:
    """Load a folder's tokenizer; None if it has no file of one.

    The files are tokenizer.json, OpenAI's vocab.json and merges.txt, BERT's vocab.txt, or SentencePiece's spiece.model.
    Settings and added tokens that stand beside them are honoured, so that the ids are those of transformers. path may
    also be a tokenizer.json or vocab.txt file itself; under another name, nothing stands beside it. Truncation and
    padding are switched off. Raises GPT2Error if a file is damaged, or says what cannot be honoured.
    """
    folder = path.parent if path.is_file() else path
    alone = path.is_file() and path.name not in (WHOLE, PIECES)
    try:
        beside = Beside(folder) if alone else read_beside(folder)
        file = path if path.is_file() else _vocabulary(folder, beside.kind)
        if file is None:
            return None
        tokenizer = _read(file, beside)
        _require_an_id_for_each(tokenizer, file)
        refuse_to_drop(tokenizer)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        surroundings(tokenizer)
        return tokenizer
    except GPT2Error:
        raise
    except Exception as error:  # the library raises a plain Exception if it cannot parse a file
        raise GPT2Error(f"cannot read the tokenizer in {path}: {error}") from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise GPT2Error(f"cannot read the tokenizer in {path}: {error}") from error


def _require_an_id_for_each(tokenizer: Tokenizer, file: Path) -> None:
    vocabulary = tokenizer.get_vocab()
    tokens = {i: token for token, i in vocabulary.items()}
    if len(tokens) < len(vocabulary):
        pair = next(sorted((token, tokens[i])) for token, i in vocabulary.items() if tokens[i] != token)
        raise GPT2Error(f"{file}: the tokens {pair[0]!r} and {pair[1]!r} have one id, {vocabulary[pair[0]]}")
    last = max(tokens, default=-1)
    if last + 1 - len(tokens) > MOST_MISSING:
        raise GPT2Error(
            f"{file}: the token {tokens[last]!r} has the id {last}, but there are only {len(tokens)} tokens: ids must "
            "follow each other"
        )


def _vocabulary(folder: Path, kind: str = "") -> Path | None:
    """The file with the vocabulary of a folder, that of this class if there are several; None if there is none."""
    byte_pairs = [VOCAB] if (folder / MERGES).is_file() else []
    names = [WHOLE, PIECES, *byte_pairs] if kind in AS_BERT else [WHOLE, *byte_pairs, PIECES, SENTENCES]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def class_in_config(folder: Path) -> dict[str, str]:
    """The field of config.json that a copy of these files needs, so that transformers reads them alike; or none.

    transformers takes GPT-2's tokenizer for GPT-2's model, unless a file names another class.
    """
    config = folder / CONFIG
    said = read_json(config, dict[str, Any]).get("tokenizer_class") if config.is_file() else None
    file = _vocabulary(folder)
    if said is None and file is not None and file.name == PIECES and not read_beside(folder).kind:
        said = BERT
    return {} if said is None else {"tokenizer_class": str(said)}


def _read(file: Path, beside: Beside) -> Tokenizer:
    if file.suffix == ".json" and file.name != VOCAB:
        return _whole(file, beside)
    known = (T5,) if file.name == SENTENCES else (GPT2, *AS_BERT)
    if beside.kind not in (*GENERAL, *known):
        raise GPT2Error(
            f"{beside.where} has a tokenizer of class {beside.kind!r}, which is read from {WHOLE} alone: load the "
            "folder with transformers' AutoTokenizer and save it again"
        )
    if file.name == SENTENCES:
        return _of_t5(file, beside)
    if file.name == VOCAB:
        return byte_pair_tokenizer(file, file.with_name(MERGES), beside)
    return bert_tokenizer(file, beside)


def _whole(file: Path, beside: Beside) -> Tokenizer:
    """The tokenizer in a tokenizer.json, with the settings that transformers' class of it takes from elsewhere."""
    fields = read_json(file, dict[str, Any])
    for rules in _rules(fields.get("normalizer")):
        require_whole_rules(rules, file)
    tokenizer = Tokenizer.from_file(str(file))
    is_gpt2 = beside.kind == GPT2 and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)
    is_bert = beside.kind in AS_BERT and isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
    if (is_gpt2 or is_bert) and beside.by_id is not None:  # these classes know no other added tokens
        kept = {token.content for token in beside.by_id.values()}
        if any(token.content not in kept for token in tokenizer.get_added_tokens_decoder().values()):
            tokenizer = Tokenizer.from_str(json.dumps(fields | {"added_tokens": []}))
    if is_bert:
        return _with_bert(tokenizer, beside)
    if is_gpt2:
        _set_spaces(tokenizer, beside)
        beside.add(tokenizer, GPT2_SPECIAL)
    else:
        beside.add(tokenizer, {})
    return _with_settings(tokenizer, beside)


def _rules(normalizer: Any) -> Iterator[bytes]:
    """SentencePiece's rules in a normalizer, or in those that it is made of."""
    if isinstance(normalizer, dict) and isinstance(rules := normalizer.get("precompiled_charsmap"), str):
        yield base64.b64decode(rules)
    parts = normalizer.values() if isinstance(normalizer, dict) else normalizer
    for part in parts if isinstance(normalizer, dict | list) else ():
        yield from _rules(part)


def byte_pair_tokenizer(vocab: Path, merges: Path, beside: Beside | None = None) -> Tokenizer:
    """GPT-2's byte-level BPE tokenizer from OpenAI's two files, and what stands beside them.

    Raises GPT2Error, naming the line, if the merges are damaged, or make a token that the vocabulary lacks.
    Source: GPT-2 paper, section 2.2; encoder.py of GPT-2.
    """
    beside = beside or Beside(vocab.parent)
    numbers, pairs = read_json(vocab, dict[str, int]), []
    for number, line in enumerate(_lines(merges), start=1):
        if line and not line.startswith("#version"):
            pair = line.split(" ")
            if len(pair) != 2:
                raise GPT2Error(f"{merges}, line {number} must be two tokens with a space between, but is {line!r}")
            if "".join(pair) not in numbers:  # the library would panic
                raise GPT2Error(f"{merges}, line {number} makes {''.join(pair)!r}, which {vocab.name} does not have")
            pairs.append((pair[0], pair[1]))
    tokenizer = of_bytes(models.BPE(numbers, pairs))
    _set_spaces(tokenizer, beside)
    beside.add(tokenizer, GPT2_SPECIAL)
    first, last = (
        [beside.token(name, END_OF_TEXT)] if beside.flag(f"add_{name}") else [] for name in ("bos_token", "eos_token")
    )
    if first or last:
        known = [(token, tokenizer.get_vocab()[token]) for token in (*first, *last)]
        tokenizer.post_processor = processors.TemplateProcessing([*first, "$A", *last], special_tokens=known)
    return _with_settings(tokenizer, beside)


def _set_spaces(tokenizer: Tokenizer, beside: Beside) -> None:
    """Whether a space is put before a text."""
    cut = tokenizer.pre_tokenizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(beside.flag("add_prefix_space"), use_regex=cut.use_regex)


def bert_tokenizer(vocab: Path, beside: Beside | None = None) -> Tokenizer:
    """BERT's WordPiece tokenizer from a vocab.txt, and what stands beside it.

    Without settings as of bert-base-chinese: lower case; a token per Chinese character. It puts [CLS] before a text and
    [SEP] after it. Full-width punctuation has its own ids.
    Raises GPT2Error if the file lacks [UNK], [CLS] or [SEP], or the tokens that stand for them.
    Source: Devlin et al. 2019; tokenization.py of BERT.
    """
    beside = beside or Beside(vocab.parent)
    lines = _lines(vocab)
    numbers = {token.rstrip(): i for i, token in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    told = beside.contents()
    for name in ("unk_token", "cls_token", "sep_token"):
        token = beside.token(name, BERT_NAMED[name])
        if token not in numbers and token not in told:
            raise GPT2Error(f"{vocab} has no {token}: expected a vocab.txt of BERT, one token a line")
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token=beside.token("unk_token", "[UNK]")))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _with_bert(tokenizer, beside)


def _with_bert(tokenizer: Tokenizer, beside: Beside) -> Tokenizer:
    """What a BERT tokenizer takes from elsewhere: how it cleans a text, its special tokens, those around a text."""
    for field, plain in (("do_basic_tokenize", (None, True)), ("never_split", (None, []))):
        if beside.fields.get(field) not in plain:
            raise GPT2Error(
                f"{beside.where / SETTINGS}: {field!r} is {beside.fields[field]!r}, which cannot be honoured: only "
                "BERT's tokenizer in Python, of transformers before version 5, knows it"
            )
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=beside.flag("tokenize_chinese_chars", True),
        strip_accents=None if beside.fields.get("strip_accents") is None else beside.flag("strip_accents"),
        lowercase=beside.flag("do_lower_case", True),
    )
    beside.add(tokenizer, BERT_NAMED)
    known = tokenizer.get_vocab()
    first, last = (beside.token(name, BERT_NAMED[name]) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.BertProcessing((last, known[last]), (first, known[first]))
    return _with_settings(tokenizer, beside)


def _of_t5(file: Path, beside: Beside) -> Tokenizer:
    """SentencePiece's vocabulary as T5's tokenizer takes it, as for rinna's models: </s> stands after a text."""
    if beside.flag("do_lower_case"):
        raise GPT2Error(
            f"{beside.where / SETTINGS}: 'do_lower_case' is true, which cannot be honoured with {SENTENCES}"
        )
    tokenizer = sentence_piece_tokenizer(file)
    beside.add(tokenizer, T5_NAMED)
    last = beside.token("eos_token", T5_NAMED["eos_token"])
    if last not in tokenizer.get_vocab():
        raise GPT2Error(f"{file} has no {last}, which ends a text")
    around = [(last, tokenizer.get_vocab()[last])]
    tokenizer.post_processor = processors.TemplateProcessing(["$A", last], special_tokens=around)
    return _with_settings(tokenizer, beside)


def _with_settings(tokenizer: Tokenizer, beside: Beside) -> Tokenizer:
    """What every class takes from elsewhere: whether a special token in a text is only text."""
    tokenizer.encode_special_tokens = beside.flag("split_special_tokens")
    return tokenizer


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, with any line end, without a byte-order mark."""
    return path.read_text(encoding="utf-8-sig").split("\n")
