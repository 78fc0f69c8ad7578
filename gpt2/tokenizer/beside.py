"""What stands beside a vocabulary: its class and settings, and the tokens that were added to it.

Source: PreTrainedTokenizerBase.from_pretrained and TokenizersBackend of Hugging Face transformers, whose ids are met.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken, Tokenizer

from gpt2.errors import GPT2Error
from gpt2.json_input import as_type, read_json

SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS, CONFIG = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
EXTRA, OLD_EXTRA = "extra_special_tokens", "additional_special_tokens"
BY_ID = "added_tokens_decoder"
Token = str | AddedToken


class _Fields(msgspec.Struct):
    """An added token as JSON has it; other fields, such as "__type" and "id", say nothing about texts."""

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool | None = None
    special: bool = False


@dataclasses.dataclass
class Beside:
    """The files beside a vocabulary, all of which may be absent."""

    where: Path
    """The folder, for messages."""
    kind: str = ""
    """The class that transformers has for the folder, without "Fast"; "" if no file names one."""
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The settings in tokenizer_config.json."""
    named: dict[str, Token | None] = dataclasses.field(default_factory=dict)
    """Special tokens by name, such as "bos_token"; None where a file says that there is none."""
    extra: list[Token] = dataclasses.field(default_factory=list)
    """Special tokens without a name."""
    by_id: dict[int, AddedToken] | None = None
    """Added tokens by id, which replace those of tokenizer.json."""
    added: dict[int, AddedToken] = dataclasses.field(default_factory=dict)
    """Added tokens of older folders by id, which stand beside those of tokenizer.json."""

    def flag(self, name: str, default: bool = False) -> bool:
        """A setting that is true, false or absent. Raises GPT2Error, naming file and field, if it is something else."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise GPT2Error(f"{self.where / SETTINGS}: {name!r} must be true or false, but is {value!r}")
        return default if value is None else value

    def token(self, name: str, default: str) -> str:
        """The token of that name. Raises GPT2Error if the files say that there is none."""
        token = self.named.get(name, default)
        if token is None:
            raise GPT2Error(f"{self.where / SETTINGS}: {name!r} must be a token, but is null")
        return _content(token)

    def contents(self) -> set[str]:
        """All tokens that the files name."""
        named = [token for token in (*self.named.values(), *self.extra) if token is not None]
        return {_content(token) for token in (*named, *(self.by_id or {}).values(), *self.added.values())}

    def add(self, tokenizer: Tokenizer, defaults: Mapping[str, str]) -> None:
        """Add all tokens to the tokenizer, in the order in which transformers does, which gives them their ids.

        defaults: the tokens of a class, by name. One that the vocabulary lacks is left out unless a token that a file
        names has its id after it. Raises GPT2Error for a token whose id in the files is not the one that it gets.
        """
        present = tokenizer.get_added_tokens_decoder()
        by_id = self.added | present if self.by_id is None else self.by_id
        tokens: list[Token] = [by_id[i] for i in sorted(by_id)]
        known = {*map(_content, tokens), *(token.content for token in present.values())}
        names = (*NAMED, *(name for name in self.named if name not in NAMED))
        chosen = [self.named.get(name, defaults.get(name)) for name in names]
        special = {_content(token) for token in chosen if token is not None}
        for token in (*chosen, *self.extra):
            if token is not None and _content(token) not in known and token not in tokens:
                tokens.append(token)
        told = self.contents() | known
        while tokens and _content(tokens[-1]) not in told and tokenizer.token_to_id(_content(tokens[-1])) is None:
            tokens.pop()
        tokenizer.add_tokens([_added(token, special) for token in tokens])
        for i, added in by_id.items():
            found = tokenizer.token_to_id(added.content)
            if found != i:
                raise GPT2Error(
                    f"{self.where}: the added token {added.content!r} has the id {i} in the files, but gets {found}: "
                    "added tokens must follow the vocabulary without a gap"
                )


def _content(token: Token) -> str:
    return token if isinstance(token, str) else token.content


def _added(token: Token, special: set[str]) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True)
    if token.content in special:
        token.special = True
    return token


def read_beside(folder: Path) -> Beside:
    """Read what stands beside the vocabulary in a folder. Raises GPT2Error, naming file and field, for a bad value."""
    config, fields = _object(folder / CONFIG), _object(folder / SETTINGS)
    kind = fields.get("tokenizer_class") or config.get("tokenizer_class") or ""
    beside = Beside(folder, str(kind).removesuffix("Fast"), fields)
    _take(beside, fields, str(folder / SETTINGS))
    old = fields.get(OLD_EXTRA)
    extra = old if old and not fields.get(EXTRA) else fields.get(EXTRA)
    _take_extra(beside, extra, f"{folder / SETTINGS}: {EXTRA!r}")
    if BY_ID in fields:  # then transformers does not look into the older files
        where = f"{folder / SETTINGS}: {BY_ID!r}"
        by_id = as_type(fields[BY_ID], dict[str, Any], where)
        beside.by_id = {_number(i, where): _token(token, f"{where}, {i}") for i, token in by_id.items()}
        return beside
    where = str(folder / SPECIAL_TOKENS)
    before = _object(folder / SPECIAL_TOKENS)
    # The older file goes before the settings for bos_token, ..., and after them for other names.
    own = {name: token for name, token in beside.named.items() if name not in NAMED}
    _take(beside, before, where, special=True)
    beside.named |= own
    _take_extra(beside, before.get(EXTRA), f"{where}: {EXTRA!r}", special=True)
    named = {_content(token) for name in NAMED if (token := beside.named.get(name)) is not None}
    named |= set(map(_content, beside.extra))
    if extra is None and EXTRA not in before:  # tokens of this list alone are not special in added_tokens.json
        _take_extra(beside, before.get(OLD_EXTRA), f"{where}: {OLD_EXTRA!r}", special=True)
    added = as_type(_object(folder / ADDED_TOKENS), dict[str, int], str(folder / ADDED_TOKENS))
    beside.added = {
        i: AddedToken(token, normalized=token not in named, special=token in named) for token, i in added.items()
    }
    return beside


def settings_of(tokenizer: Tokenizer, **named: int | None) -> dict[str, Any]:
    """The tokenizer_config.json that lets transformers take a tokenizer.json as it is, whatever the model's class.

    named: ids by name without "_id", such as bos_token; those that are no added token are left out.
    """
    known = tokenizer.get_added_tokens_decoder()
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": tokenizer.encode_special_tokens,
        **{name: known[i].content for name, i in named.items() if i in known},
    }


def _object(path: Path) -> dict[str, Any]:
    return read_json(path, dict[str, Any]) if path.is_file() else {}


def _number(i: str, where: str) -> int:
    if not i.isdecimal():
        raise GPT2Error(f"{where} must number its tokens, but has {i!r}")
    return int(i)


def _take(beside: Beside, fields: dict[str, Any], where: str, special: bool = False) -> None:
    """Take the named special tokens among fields: bos_token, ..., and any other field "..._token" with a token."""
    for name, value in fields.items():
        if name in NAMED and value is None:
            beside.named[name] = None
        elif name in NAMED or (name.endswith("_token") and isinstance(value, str | dict)):
            beside.named[name] = _spelt(value, f"{where}: {name!r}", special)


def _take_extra(beside: Beside, tokens: Any, where: str, special: bool = False) -> None:
    """Take further special tokens: a list, or an object with their names."""
    if isinstance(tokens, dict):
        beside.named |= {name: _spelt(token, where, special) for name, token in tokens.items()}
    else:
        given = as_type(tokens or [], list[Any], where)
        beside.extra += [_spelt(token, where, special) for token in given]


def _spelt(value: Any, where: str, special: bool) -> Token:
    """A token as a string or as an object."""
    if isinstance(value, str) and value:
        return value
    return _token(value | {"special": True} if special and isinstance(value, dict) else value, where)


def _token(value: Any, where: str) -> AddedToken:
    """Convert an object with the fields of AddedToken. Raises GPT2Error for a missing or wrong field."""
    token = as_type(value, _Fields, where)
    if not token.content:
        raise GPT2Error(f"{where} is an empty token")
    flags = {"lstrip": token.lstrip, "rstrip": token.rstrip, "single_word": token.single_word}
    normalized = not token.special if token.normalized is None else token.normalized
    return AddedToken(token.content, special=token.special, normalized=normalized, **flags)
