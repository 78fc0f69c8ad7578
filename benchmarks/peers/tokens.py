"""Run Hugging Face's tokenizers in the PyTorch environment: `python -m benchmarks.peers.tokens`."""

import numpy as np
from transformers import BertTokenizer

from benchmarks.peers.serving import Answer, Arrays, serve


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


if __name__ == "__main__":
    serve([pair])
