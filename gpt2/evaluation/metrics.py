"""Scores of generated text, in percent: ROUGE, BLEU, exact match and F1. Other packages compute the first two."""

import functools
import importlib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from gpt2.errors import GPT2Error

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Scripts that put no space between words.
UNSPACED = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}"
# Letters and digits with the marks and joiners in and after them, or one letter of those scripts with its marks.
WORD = (
    rf"(?V1)[\p{{L}}\p{{N}}--[{UNSPACED}]][\p{{L}}\p{{N}}\p{{M}}\u200c\u200d--[{UNSPACED}]]*"
    r"|[\p{L}\p{N}]\p{M}*"
)
ARTICLE = re.compile(r"\b(a|an|the)\b")


class WordsAndCharacters:
    """Tokenizer for ROUGE: words as the script writes them; single characters of scripts without spaces, as Chinese.

    On texts in ASCII it equals rouge-score's tokenizer without stemming, which drops everything but a-z and 0-9.
    """

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, in lower case and with composed characters (NFC)."""
        return words().findall(unicodedata.normalize("NFC", text.lower()))


@functools.cache
def words() -> Any:
    """The compiled pattern of a word; `re` knows neither scripts nor marks. Raises GPT2Error without package regex."""
    return _package("regex", "regex").compile(WORD)


def rouge(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, -2, -L and -Lsum: mean F1 over the samples. For Lsum, each line of a text is a sentence.

    Source: Lin 2004, computed by the package rouge-score.
    """
    scorer = _package("rouge_score.rouge_scorer", "rouge-score").RougeScorer(ROUGE, tokenizer=WordsAndCharacters())
    scores = [scorer.score(reference, answer) for answer, reference in zip(answers, references, strict=True)]
    return {name: 100 * sum(score[name].fmeasure for score in scores) / len(scores) for name in ROUGE}


def bleu(answers: Sequence[str], references: Sequence[str], tokenizer: str = "13a") -> tuple[float, str]:
    """Corpus BLEU, and sacrebleu's signature of how it was measured. tokenizer "zh": Chinese by characters.

    Raises GPT2Error for a tokenizer that sacrebleu does not have.
    Source: Papineni et al. 2002; Post 2018, computed by the package sacrebleu.
    """
    module = _package("sacrebleu.metrics.bleu", "sacrebleu")
    if tokenizer not in module.BLEU.TOKENIZERS:
        known = ", ".join(module.BLEU.TOKENIZERS)
        raise GPT2Error(f"sacrebleu has no tokenizer {tokenizer!r}: choose one of {known}")
    metric = module.BLEU(tokenize=tokenizer)
    score = metric.corpus_score(list(answers), [list(references)]).score
    return score, str(metric.get_signature())


def normalized(text: str) -> str:
    """A text in lower case, without punctuation and the articles a, an, the; spaces are collapsed.

    Source: SQuAD's official evaluation script.
    """
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(ARTICLE.sub(" ", plain).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """100 if the normalized answer equals a normalized reference, else 0."""
    return 100.0 * any(normalized(answer) == normalized(reference) for reference in references)


def f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the answer's words, for the reference where it is highest.

    Source: SQuAD's official evaluation script.
    """
    return max(_f1(normalized(answer).split(), normalized(reference).split()) for reference in references)


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return 100.0 * (answer == reference)
    common = sum((Counter(answer) & Counter(reference)).values())
    return 200 * common / (len(answer) + len(reference))


def _package(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise GPT2Error(f"this score needs the package {package}: pip install 'gpt2-parity[eval]'") from error
