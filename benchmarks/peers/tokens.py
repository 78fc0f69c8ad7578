"""Hugging Face's own tokenizers, in the PyTorch environment: `python -m benchmarks.peers.tokens`."""

import numpy as np
from transformers import BertTokenizer

from benchmarks.peers.serving import Answer, Arrays, serve


def pair(arrays: Arrays, vocab: str, article: str, summary: str, length: int) -> Answer:
    """input_ids, attention_mask and token_type_ids (length,) of two texts, the first cut; or why there are none.

    transformers takes an empty summary for none at all.
    """
    tokenizer = BertTokenizer(vocab=vocab)
    try:
        found = tokenizer(article, summary, truncation="only_first", max_length=length, padding="max_length")
    except Exception as error:  # the library has no class of its own for it
        return {"refused": str(error)}, {}
    return {}, {name: np.array(values) for name, values in found.items()}


if __name__ == "__main__":
    serve([pair])
