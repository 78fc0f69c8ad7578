"""BERT's word pieces and the layout of a pair, against transformers' BertTokenizer with truncation="only_first"."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers.client import Peer
from gpt2.tokenizer import bert_tokenizer, encode
from reference.data import merge_and_pad

pytestmark = pytest.mark.peer

LETTERS = "abe今天雨大（）：，。！(),:!"
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *LETTERS,
    "ab",
    "##a",
    "##b",
    "##e",
    "##ab",
    "ａ",
    "##ｂ",
    "é",
]
TEXTS = st.text(st.sampled_from(f"{LETTERS}ABEéÉàｂＢａ中  \t\n\u3000\x00\u00ad\u200dß🙂"), max_size=20)


def test_pairs_have_the_same_tokens_cuts_and_pads(tokens_of_transformers: Peer, tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = bert_tokenizer(vocab)

    @settings(max_examples=2 * settings().max_examples, deadline=None)
    @given(TEXTS, TEXTS.filter(bool), st.integers(4, 24))
    def law(article: str, summary: str, length: int) -> None:
        facts, theirs = tokens_of_transformers.ask(
            "pair", vocab=str(vocab), article=article, summary=summary, length=length
        )
        texts = [np.array(encode(tokenizer, text, add_special_tokens=False), np.int64) for text in (article, summary)]
        if "refused" in facts:
            assert "Sequence to truncate too short" in facts["refused"]
            with pytest.raises(ValueError, match="leave no room for the article"):
                merge_and_pad(*texts, length, cls_id=2, sep_id=3, pad_id=0)
            return
        ids, attention_mask, labels = merge_and_pad(*texts, length, cls_id=2, sep_id=3, pad_id=0)
        assert ids.tolist() == theirs["input_ids"].tolist()
        assert attention_mask.tolist() == theirs["attention_mask"].tolist()
        assert (labels != -100).tolist() == (theirs["token_type_ids"] == 1).tolist()

    law()
