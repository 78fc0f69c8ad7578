"""BERT's word pieces for Chinese: one id for each character, and full-width punctuation keeps its own."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from gpt2.errors import GPT2Error
from gpt2.tokenizer import bert_tokenizer, decode, encode, encode_prompt, load_tokenizer

TEXT = "（今天）：ABC，你好！"
PIECES = ["（", "今", "天", "）", "：", "abc", "，", "你", "好", "！"]
IDS = [8020, 791, 1921, 8021, 8038, 8425, 8024, 872, 1962, 8013]  # those of transformers


@pytest.fixture(scope="module")
def chinese(data: Path) -> Tokenizer:
    """That of bert-base-chinese."""
    return bert_tokenizer(data / "bert_base_chinese" / "vocab.txt")


def test_chinese_is_cut_into_characters_and_full_width_punctuation_stays(chinese: Tokenizer) -> None:
    found = chinese.encode(TEXT, add_special_tokens=False)
    assert (found.tokens, found.ids) == (PIECES, IDS)
    assert chinese.decode(found.ids) == " ".join(PIECES)


def test_words_are_cut_into_pieces_without_case_and_accents(chinese: Tokenizer) -> None:
    assert chinese.encode("Unaffable café[SEP]🙂", add_special_tokens=False).tokens == [
        "u",
        "##na",
        "##ff",
        "##able",
        "cafe",
        "[SEP]",
        "[UNK]",
    ]


def test_a_text_stands_between_cls_and_sep(chinese: Tokenizer) -> None:
    assert encode(chinese, "你好") == [101, 872, 1962, 102]
    assert encode(chinese, "你好", add_special_tokens=False) == [872, 1962]
    assert encode_prompt(chinese, "你好") == [101, 872, 1962]


def test_mindspores_own_tokenizer_gives_full_width_punctuation_other_ids(data: Path) -> None:
    """Why it is not used: it writes ASCII for it, so that a model trained elsewhere reads other tokens."""
    text = pytest.importorskip("mindspore.dataset.text", reason="MindSpore is not installed: nothing to compare with")
    vocab = text.Vocab.from_file(str(data / "bert_base_chinese" / "vocab.txt"))
    pieces = text.BertTokenizer(vocab=vocab, lower_case=True)(TEXT).tolist()
    assert pieces == ["(", "今", "天", ")", ":", "abc", ",", "你", "好", "!"]
    assert [one == other for one, other in zip(vocab.tokens_to_ids(pieces), IDS, strict=True)] == [
        piece == other for piece, other in zip(pieces, PIECES, strict=True)
    ]


def test_a_folder_or_a_file_of_word_pieces_is_loaded(tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n今\n天\n", encoding="utf-8")
    for path in (tmp_path, vocab):
        loaded = load_tokenizer(path)
        assert loaded is not None
        assert encode(loaded, "今天 x") == [2, 4, 5, 1, 3]
    assert Tokenizer.from_str(loaded.to_str()).encode("今天 x").ids == [2, 4, 5, 1, 3]  # as a run writes it down


@pytest.mark.parametrize("missing", ["[UNK]", "[CLS]", "[SEP]"])
def test_word_pieces_without_what_bert_needs_are_refused(tmp_path: Path, missing: str) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join({"[UNK]", "[CLS]", "[SEP]", "a"} - {missing}), encoding="utf-8")
    with pytest.raises(GPT2Error, match=rf"vocab.txt has no \{missing}: expected a vocab.txt of BERT"):
        bert_tokenizer(vocab)


def test_no_space_stands_on_either_side_of_a_chinese_character(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\nb\n我\n你\n", encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer is not None
    assert decode(tokenizer, [3, 5, 6, 4, 3]) == "a我你b a"
