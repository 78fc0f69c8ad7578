"""What stands beside a vocabulary is read, in each of its spellings, and is saved with the model.

Folders as people have them; that the ids are transformers' is asked in tests/peers/test_tokenizer_folders.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

import gpt2
from gpt2.errors import GPT2Error
from gpt2.model.hf_folder import write_folder
from gpt2.tokenizer import END_OF_TEXT, encode, load_tokenizer, train_tokenizer
from reference.config import GPT2Config
from tests.gpt2.command import run
from tests.gpt2.small import parameters

TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ll", "hell", "hello", END_OF_TEXT]
MERGES = "#version: 0.2\nh e\nl l\nhe ll\nhell o\n"
HELLO, END, USER, PAD = 259, 260, 261, 262
TEXT, IDS = f"<|user|>hello{END_OF_TEXT}<pad>", [USER, HELLO, END, PAD]
SETTINGS, SPECIAL, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
ENDS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
BY_ID = {
    str(END): {"content": END_OF_TEXT, "special": True},
    str(USER): {"content": "<|user|>", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False},
    str(PAD): {"content": "<pad>", "special": True},
}
# The same tokens, told in other files or in other words.
SPELLINGS: dict[str, dict[str, Any]] = {
    "by id": {SETTINGS: {"tokenizer_class": "GPT2Tokenizer", **ENDS, "added_tokens_decoder": BY_ID}},
    "by id in any order": {SETTINGS: {**ENDS, "added_tokens_decoder": dict(reversed(BY_ID.items()))}},
    "by name": {ADDED: {"<|user|>": USER, "<pad>": PAD}, SPECIAL: {"additional_special_tokens": ["<|user|>"]}},
    "by a map alone": {SPECIAL: {"pad_token": "<|user|>", "mask_token": {"content": "<pad>", "lstrip": False}}},
    "by settings": {SETTINGS: {"pad_token": "<|user|>", "extra_special_tokens": ["<pad>"]}},
    "with types": {
        SETTINGS: {
            "bos_token": {"__type": "AddedToken", "content": END_OF_TEXT, "normalized": True},
            "additional_special_tokens": ["<|user|>", {"content": "<pad>"}],
        }
    },
    "with names of one's own": {SETTINGS: {"extra_special_tokens": {"user_token": "<|user|>", "none_token": "<pad>"}}},
}
# A few of bert-base-cased's kind.
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我爱北京", "Hello", "hello", "##llo", "He", *"ABN", "##BA"]
PIECES += ["NBA", "café", "cafe", "World", "world"]


def bytes_folder(folder: Path, files: dict[str, Any]) -> Path:
    """GPT-2's two files, and others beside them."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(TOKENS)}), encoding="utf-8")
    (folder / "merges.txt").write_text(MERGES, encoding="utf-8")
    return beside(folder, files)


def bert_folder(folder: Path, files: dict[str, Any], pieces: list[str] = PIECES) -> Path:
    """BERT's vocabulary, and files beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return beside(folder, files)


def beside(folder: Path, files: dict[str, Any]) -> Path:
    for name, fields in files.items():
        (folder / name).write_text(json.dumps(fields), encoding="utf-8")
    return folder


def ids_of(folder: Path, text: str, add_special_tokens: bool = False) -> list[int]:
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    return encode(tokenizer, text, add_special_tokens)


@pytest.mark.parametrize("files", SPELLINGS.values(), ids=SPELLINGS)
def test_added_tokens_are_read_in_every_spelling(files: dict[str, Any], tmp_path: Path) -> None:
    assert ids_of(bytes_folder(tmp_path, files), TEXT) == IDS


@pytest.mark.parametrize(
    ("files", "special"),
    [
        ({SPECIAL: {"additional_special_tokens": [{"content": "<|user|>"}]}}, True),
        ({SETTINGS: {"extra_special_tokens": [{"content": "<|user|>"}]}}, False),
        ({SETTINGS: {"added_tokens_decoder": {str(USER): {"content": "<|user|>", "special": True}}}}, True),
        ({SETTINGS: {"added_tokens_decoder": {str(USER): {"content": "<|user|>"}}}}, False),
        ({ADDED: {"<|user|>": USER}, SPECIAL: {"pad_token": "<|user|>"}}, True),
        ({ADDED: {"<|user|>": USER}}, False),
    ],
)
def test_special_tokens_are_found_in_a_text_as_it_is_and_others_once_it_is_normalized(
    files: dict[str, Any], special: bool, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(bytes_folder(tmp_path, files))
    assert tokenizer is not None
    token = tokenizer.get_added_tokens_decoder()[USER]
    assert (token.special, token.normalized) == (special, not special)


@pytest.mark.parametrize("files", SPELLINGS.values(), ids=SPELLINGS)
def test_added_tokens_are_saved_with_the_model(files: dict[str, Any], tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=PAD + 1, n_positions=8, n_embd=4, n_layer=1, n_head=1)
    folder = bytes_folder(tmp_path / "first", files)
    write_folder(tmp_path / "model", config, parameters(config), sorted(folder.iterdir()))
    gpt2.load(tmp_path / "model", "numpy").save(tmp_path / "saved")
    assert gpt2.load(tmp_path / "saved", "numpy").encode(TEXT).tolist() == [IDS]


def test_a_saved_folder_names_the_class_that_it_had(tmp_path: Path) -> None:
    """Else transformers would look for GPT-2's tokenizer, and find none."""
    config = GPT2Config(vocab_size=len(PIECES), n_positions=8, n_embd=4, n_layer=1, n_head=1)
    write_folder(tmp_path / "model", config, parameters(config), [bert_folder(tmp_path / "first", {}) / "vocab.txt"])
    gpt2.load(tmp_path / "model", "numpy").save(tmp_path / "saved")
    for folder in ("model", "saved"):
        assert json.loads((tmp_path / folder / "config.json").read_bytes())["tokenizer_class"] == "BertTokenizer"


@pytest.mark.parametrize("change", [lambda raw: raw.replace(b"\n", b"\r\n"), lambda raw: b"\xef\xbb\xbf" + raw])
def test_line_ends_and_byte_order_marks_change_no_id(change: Any, tmp_path: Path) -> None:
    folders = [
        bytes_folder(tmp_path / "gpt2", SPELLINGS["by id"] | SPELLINGS["by name"]),
        bert_folder(tmp_path / "bert", {SETTINGS: {"pad_token": "[PAD]"}}),
    ]
    before = [ids_of(folder, f"[PAD]{TEXT}", add_special_tokens=True) for folder in folders]
    for folder in folders:
        for file in folder.iterdir():
            file.write_bytes(change(file.read_bytes()))
    assert [ids_of(folder, f"[PAD]{TEXT}", add_special_tokens=True) for folder in folders] == before


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({"do_lower_case": False}, [5, 6, 17, 9, 18]),
        ({"do_lower_case": False, "strip_accents": True}, [5, 6, 17, 9, 19]),
        ({}, [5, 6, 1, 10, 19]),
        ({"strip_accents": False}, [5, 6, 1, 10, 18]),
        ({"tokenize_chinese_chars": False, "do_lower_case": False}, [1, 9, 18]),
    ],
)
def test_case_accents_and_chinese_are_as_the_settings_say(
    settings: dict[str, Any], ids: list[int], tmp_path: Path
) -> None:
    folder = bert_folder(tmp_path, {SETTINGS: {"tokenizer_class": "BertTokenizer", **settings}})
    assert ids_of(folder, "我爱NBA Hello café") == ids
    assert ids_of(folder / "vocab.txt", "我爱NBA Hello café") == ids


def test_of_two_vocabularies_that_of_the_class_is_read(tmp_path: Path) -> None:
    folder = bert_folder(bytes_folder(tmp_path, {}), {})
    assert ids_of(folder, "hello") == [HELLO]
    assert ids_of(beside(folder, {SETTINGS: {"tokenizer_class": "BertTokenizerFast"}}), "hello") == [10]


def test_the_tokens_around_a_text_may_have_other_names(tmp_path: Path) -> None:
    names = {"cls_token": "A", "sep_token": "B", "unk_token": "N"}
    folder = bert_folder(tmp_path, {SETTINGS: names}, PIECES[5:])
    assert ids_of(folder, "我 qq", add_special_tokens=True) == [
        PIECES.index(token) - 5 for token in ("A", "我", "N", "B")
    ]


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (True, True)])
def test_gpt2s_tokens_may_stand_around_a_text(first: bool, last: bool, tmp_path: Path) -> None:
    folder = bytes_folder(tmp_path, {SETTINGS: {"add_bos_token": first, "add_eos_token": last}})
    assert ids_of(folder, "hello", add_special_tokens=True) == [END] * first + [HELLO] + [END] * last
    assert ids_of(folder, "hello") == [HELLO]


def test_a_space_may_come_before_a_text(tmp_path: Path) -> None:
    spaced = ids_of(bytes_folder(tmp_path, {}), " hello")
    assert ids_of(bytes_folder(tmp_path, {SETTINGS: {"add_prefix_space": True}}), "hello") == spaced


def test_special_tokens_may_be_text_in_a_text(tmp_path: Path) -> None:
    folder = bytes_folder(tmp_path, {SETTINGS: {"split_special_tokens": True}})
    assert END not in ids_of(folder, END_OF_TEXT)


def test_a_token_that_no_file_names_takes_no_new_id(tmp_path: Path) -> None:
    """transformers has an end of text even where the vocabulary, and so the model, has none."""
    folder = bytes_folder(tmp_path, {})
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(TOKENS[:-1])}), encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.get_vocab_size() == len(TOKENS) - 1


def test_a_tokenizer_json_takes_what_its_class_takes_from_elsewhere(tmp_path: Path) -> None:
    train_tokenizer("bytes", []).save(str(tmp_path / "tokenizer.json"))
    files = {SETTINGS: {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "pad_token": "<pad>"}}
    assert ids_of(beside(tmp_path, files), "a<pad>") == [220, 64, 257]  # the end of text is 256
    files[SETTINGS]["tokenizer_class"] = "PreTrainedTokenizerFast"  # which takes it as it is
    assert ids_of(beside(tmp_path, files), "a<pad>") == [64, 256]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a gap": ({ADDED: {"<|user|>": 300}}, "'<|user|>' has the id 300 in the files, but gets 22"),
    "a class": ({SETTINGS: {"tokenizer_class": "BertJapaneseTokenizer"}}, "of class 'BertJapaneseTokenizer'"),
    "a class in config.json": ({"config.json": {"tokenizer_class": "XLNetTokenizer"}}, "of class 'XLNetTokenizer'"),
    "no words": ({SETTINGS: {"do_basic_tokenize": False}}, "'do_basic_tokenize' is False, which cannot be honoured"),
    "whole words": ({SETTINGS: {"never_split": ["ab"]}}, "'never_split' is ['ab'], which cannot be honoured"),
    "no flag": ({SETTINGS: {"do_lower_case": "no"}}, "'do_lower_case' must be true or false, but is 'no'"),
    "no token": ({SETTINGS: {"unk_token": None}}, "'unk_token' must be a token, but is null"),
    "a number": ({SETTINGS: {"pad_token": 0}}, "'pad_token' must be an object, but is 0"),
    "no content": ({SPECIAL: {"pad_token": {"lstrip": True}}}, "has no field 'content'"),
    "a nameless id": ({SETTINGS: {"added_tokens_decoder": {"x": {}}}}, "must number its tokens, but has 'x'"),
}


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=40, n_positions=8, n_embd=4, n_layer=1, n_head=1)
    write_folder(tmp_path / "model", config, parameters(config), [bert_folder(tmp_path / "first", {}) / "vocab.txt"])
    said = json.loads((tmp_path / "model" / "config.json").read_bytes()) | files.get("config.json", {})
    beside(tmp_path / "model", {**files, "config.json": said})
    assert message in run("generate", tmp_path / "model", "我", "--backend", "numpy").refusal


def test_a_damaged_merge_is_named_by_its_line(tmp_path: Path) -> None:
    bytes_folder(tmp_path, {})
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nhe\n")
    with pytest.raises(GPT2Error, match=r"merges\.txt, line 3 must be two tokens with a space between, but is 'he'"):
        load_tokenizer(tmp_path)


def test_a_merge_without_its_token_is_named_by_its_line(tmp_path: Path) -> None:
    bytes_folder(tmp_path, {})
    (tmp_path / "vocab.json").write_text('{"h": 0, "e": 1}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\n")
    with pytest.raises(GPT2Error, match=r"merges\.txt, line 2 makes 'he', which vocab\.json does not have"):
        load_tokenizer(tmp_path)


TEMPLATES = {"no text": [], "the text twice": [{"Sequence": {"id": "A", "type_id": 0}}] * 2}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_without_the_text_is_refused(template: list[Any], tmp_path: Path) -> None:
    train_tokenizer("bytes", []).save(str(tmp_path / "tokenizer.json"))
    fields = json.loads((tmp_path / "tokenizer.json").read_bytes())
    special = {"SpecialToken": {"id": "a", "type_id": 0}}
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    known = {"a": {"id": "a", "ids": [64], "tokens": ["a"]}}
    processor = {"type": "TemplateProcessing", "single": [special, *template], "pair": pair, "special_tokens": known}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields | {"post_processor": processor}))
    with pytest.raises(GPT2Error, match="must keep a text once"):
        load_tokenizer(tmp_path)


def test_what_makes_the_library_panic_is_one_error(tmp_path: Path) -> None:
    train_tokenizer("bytes", []).save(str(tmp_path / "tokenizer.json"))
    fields = json.loads((tmp_path / "tokenizer.json").read_bytes())
    rules = {"type": "Precompiled", "precompiled_charsmap": "AAAAAP8="}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields | {"normalizer": rules}))
    with pytest.raises(GPT2Error, match="cannot read the tokenizer in"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("inside", [False, True])
def test_rules_that_are_shorter_than_they_say_are_refused(inside: bool, tmp_path: Path) -> None:
    """The library would set memory aside for what they say."""
    train_tokenizer("bytes", []).save(str(tmp_path / "tokenizer.json"))
    fields = json.loads((tmp_path / "tokenizer.json").read_bytes())
    rules: dict[str, Any] = {"type": "Precompiled", "precompiled_charsmap": "CAAAAGFi"}
    rules = {"type": "Sequence", "normalizers": [{"type": "NFC"}, rules]} if inside else rules
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields | {"normalizer": rules}))
    with pytest.raises(GPT2Error, match=r"tokenizer\.json: the rules that normalise a text are cut off"):
        load_tokenizer(tmp_path)


def test_two_tokens_of_one_id_are_refused(tmp_path: Path) -> None:
    bytes_folder(tmp_path, {})
    numbers = {token: i for i, token in enumerate(TOKENS)}
    (tmp_path / "vocab.json").write_text(json.dumps(numbers | {"hell": HELLO}), encoding="utf-8")
    with pytest.raises(GPT2Error, match=r"vocab\.json: the tokens 'hell' and 'hello' have one id, 259"):
        load_tokenizer(tmp_path)


def test_a_character_whose_bytes_are_no_tokens_is_named(tmp_path: Path) -> None:
    """The library would drop it."""
    bytes_folder(tmp_path, {})
    lacking = [token for token in TOKENS if token != "Ã"]  # the first byte of é
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(lacking)}), encoding="utf-8")
    assert ids_of(tmp_path, "hello") == [HELLO - 1]
    with pytest.raises(GPT2Error, match="has no token for 'é'"):
        ids_of(tmp_path, "hello é")


@pytest.mark.parametrize("last", [10**9, 2**32 - 1])
def test_an_id_far_beyond_the_others_is_refused(last: int, tmp_path: Path) -> None:
    folder = bytes_folder(tmp_path / "folder", {})
    vocabulary = {token: i for i, token in enumerate(TOKENS)} | {END_OF_TEXT: last}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    said = f"vocab.json: the token '<|endoftext|>' has the id {last}, but there are only 261 tokens: ids must follow"
    with pytest.raises(GPT2Error, match=re.escape(said)):
        load_tokenizer(folder)
    (folder / "merges.txt").unlink()
    whole = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": last}, "unk_token": "a"}}
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(GPT2Error, match=rf"the token 'b' has the id {last}, but there are only 2 tokens"):
        load_tokenizer(folder)


def test_a_new_model_holds_a_row_for_ids_that_are_left_out(tmp_path: Path) -> None:
    """A vocabulary with a gap: its ids reach further than there are tokens."""
    folder = bytes_folder(tmp_path / "folder", {})
    vocabulary = {token: i + (i == END) * 9 for i, token in enumerate(TOKENS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    text, config = tmp_path / "a.txt", tmp_path / "settings.json"
    text.write_text(f"hello{END_OF_TEXT}hello" * 90, encoding="utf-8")
    sizes = {"n_embd": 4, "n_layer": 1, "n_head": 1, "n_positions": 8}
    config.write_text(json.dumps({"model": sizes, "data": {"tokenizer": str(folder)}}), encoding="utf-8")
    words = ["train", "--data", text, "--config", config, "--output", tmp_path / "run", "--steps", 1, "--batch-size", 1]
    assert run(*words).code == 0
    assert gpt2.load(tmp_path / "run").config.vocab_size == END + 10
