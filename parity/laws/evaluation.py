"""Laws of evaluation: spans, windows, perplexity, last words, blanks, prompts and the scores of answers.

The code that they judge is the same for every backend. Its model here is one whose scores are known: they depend on all
tokens read, and on nothing else.
"""

import importlib.util
import itertools
import json
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from parity.laws.base import Array, Verdicts, law, random_of, shared_module
from parity.laws.texts import closing, plain_ids, prompt_of, text_of, tokenizer_of
from parity.verdict.trial import Trial
from parity.verdict.verdict import Verdict, close, equal, ulp
from reference.config import GPT2Config

FLOAT64 = np.dtype(np.float64)
HIGHEST = 16.0  # scores lie between 0 and this
LETTERS = "ab cd\u4eca"


class Known:
    """An engine whose scores are known: mixed from the tokens read, in whole numbers, so that they are exact.

    favourites: ids that get the highest score after the tokens of the key.
    """

    name, device, dtype, mode = "known", "CPU", "float64", "eager"

    def __init__(self) -> None:
        self.favourites: dict[tuple[int, ...], int] = {}

    def model(self, config: GPT2Config, parameters: Any) -> "Known":
        """The engine itself."""
        self.vocabulary = np.arange(1, config.vocab_size + 1, dtype=np.uint64)
        return self

    def logits(self, ids: Array, attention_mask: Any = None, position_ids: Any = None) -> Array:
        """Scores (B, T, V) in float64."""
        scores, mixed = np.zeros((*ids.shape, len(self.vocabulary))), np.ones(len(ids), np.uint64)
        for column in range(ids.shape[1]):
            mixed = _mix(mixed + ids[:, column].astype(np.uint64))
            scores[:, column] = (_mix(mixed[:, None] * self.vocabulary) >> np.uint64(32)) * (HIGHEST / 2**32)
            for row, read in enumerate(ids[:, : column + 1].tolist() if self.favourites else ()):
                if tuple(read) in self.favourites:
                    scores[row, column, self.favourites[tuple(read)]] = HIGHEST
        return scores

    def after(self, read: Sequence[int]) -> Array:
        """Log-probabilities (V,) of the next token, by their definition."""
        scores = self.logits(np.array([read]))[0, -1]
        return scores - np.log(np.exp(scores).sum())

    def span(self, ids: Sequence[int], first: int) -> Array:
        """Log-probability of each token from index `first` on, after all before it."""
        return np.array([self.after(ids[:i])[ids[i]] for i in range(first, len(ids))])

    def continue_batch(self, engine: Any, ids: Array, mask: Array, config: Any, *others: Any) -> Any:
        """Two new ids for each row, by its tokens, the number of the row and the seed."""
        new = [
            self.written(row[seen != 0].tolist(), config.first_row + number, config.seed)
            for number, (row, seen) in enumerate(zip(ids, mask, strict=True))
        ]
        return SimpleNamespace(new_ids=new, finish_reasons=["length"] * len(new))

    def written(self, prompt: list[int], row: int, seed: int) -> list[int]:
        """The ids that continue_batch writes for the row of this number."""
        return [zlib.crc32(f"{prompt} {row} {seed} {place}".encode()) % len(self.vocabulary) for place in range(3)]


def _mix(x: Array) -> Array:
    """Whole numbers that have nothing to do with x. Source: splitmix64, Steele et al. 2014."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _model(trial: Trial, tokenizer: Tokenizer, context: int) -> tuple[Any, Known]:
    """A model with that tokenizer and context, and its engine."""
    known = Known()
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=context, eos_token_id=0)
    return shared_module(trial, "gpt2.model.model").Model(config, {}, known, tokenizer), known


def _run(trial: Trial) -> Any:
    """How samples are put in batches."""
    return shared_module(trial, "gpt2.evaluation.base").Run(trial.case.sizes["B"], seed=trial.case.seed)


def _close(value: Any, expected: Any, terms: int = 1) -> Verdict:
    """The verdict on sums of log-probabilities: each of the terms may be rounded like a score."""
    return close(value, expected, terms * float(ulp(np.array(HIGHEST), FLOAT64)), FLOAT64, size=HIGHEST)


@law("evaluation")
def a_span_is_scored_by_the_tokens_before_it(trial: Trial) -> Verdicts:
    """Each scored token of a span gets its log-probability after all tokens of the span before it, whatever else is in
    the batch; it is likeliest if no token has a higher score.

    Proof: this is the definition. A causal model does not see the pads, which come after the span.
    """
    likelihood, random, sizes = shared_module(trial, "gpt2.evaluation.likelihood"), random_of(trial), trial.case.sizes
    model, known = _model(trial, tokenizer_of(trial, "characters", LETTERS), sizes["T"] + 1)
    spans = []
    for length in random.integers(2, sizes["T"] + 2, 1 + sizes["N"] % 5):
        ids = random.integers(0, model.config.vocab_size, length)
        spans.append(likelihood.Span(ids, int(random.integers(1, length))))
        known.favourites[tuple(ids[:-1].tolist())] = int(ids[-1])
    found = list(likelihood.score(model, spans, _run(trial)))
    yield equal(len(found), len(spans))
    for scored, span in zip(found, spans, strict=True):
        ids = span.ids.tolist()
        yield _close(scored.log_probabilities, known.span(ids, span.first))
        likeliest = [known.after(ids[:i]).argmax() == ids[i] for i in range(span.first, len(ids))]
        yield trial.identical(scored.likeliest, np.array(likeliest))


def _in_windows(known: Known, ids: Sequence[int], context: int, stride: int) -> Array:
    """Log-probability of each token in the first window that reaches it, unless it is the first there."""
    found = []
    for i in range(1, len(ids)):
        begin = next(start for start in itertools.count(0, stride) if i < start + context)
        if begin < i:
            found.append(known.after(ids[begin:i])[ids[i]])
    return np.array(found)


@law("evaluation")
def each_token_of_a_text_is_scored_once(trial: Trial) -> Verdicts:
    """Every token of a text but the first has one log-probability: that in the first window which reaches it, where
    windows begin every `stride` tokens and are as long as the context. It has none if that window begins with it, as
    happens where the stride is the context.

    Proof: this is the definition of a sliding window. From one window to the next, `stride` tokens are new.
    """
    likelihood, random, sizes = shared_module(trial, "gpt2.evaluation.likelihood"), random_of(trial), trial.case.sizes
    context = sizes["T"] + 1
    model, known = _model(trial, tokenizer_of(trial, "characters", LETTERS), context)
    ids = random.integers(0, model.config.vocab_size, 1 + sizes["N"])
    stride = int(random.integers(1, context + 1))
    found = likelihood.token_log_probabilities(model, ids, stride, _run(trial)) if len(ids) > 1 else np.zeros(0)
    yield _close(found, _in_windows(known, ids.tolist(), context, stride))


@law("evaluation")
def a_text_too_long_loses_its_beginning(trial: Trial) -> Verdicts:
    """The span of a continuation holds the last tokens of the whole text, as many as the context has; the tokens that
    the text has more than its beginning are scored. The text begins with [CLS] if the tokenizer puts it there, and does
    not end with [SEP].

    Proof: what is scored stands at the end, and a text has the tokens of the text, not those of its parts. After [SEP]
    no text goes on, and [SEP] is no part of the answer.
    """
    likelihood, random, sizes = shared_module(trial, "gpt2.evaluation.likelihood"), random_of(trial), trial.case.sizes
    for kind in ("characters", "bpe"):
        before, after = text_of(random, sizes["N"], "ab c") + "a", "b" + text_of(random, sizes["T"], "ab c")
        tokenizer = closing(tokenizer_of(trial, kind, "ab cab ab"))
        whole, first = prompt_of(tokenizer, before + after), len(prompt_of(tokenizer, before))
        scored = len(whole) - first
        if scored < 1:
            continue  # the last tokens of both texts are one
        model, _ = _model(trial, tokenizer, scored + sizes["K"])
        span = likelihood.continuation(model, before, after)
        expected = whole[-(scored + sizes["K"]) :]
        yield equal((span.ids.tolist(), int(span.first)), (expected, len(expected) - scored))


@law("evaluation")
def perplexity_is_counted_in_its_units(trial: Trial) -> Verdicts:
    """The loss of a text is the sum over all its tokens but the first, which nothing predicts: per predicted token, per
    word, in bits per byte of UTF-8 and per character. Perplexity is its exponential.

    Proof: these are the definitions. A bit is log 2.
    """
    tasks, random, sizes = shared_module(trial, "gpt2.evaluation.likelihood_tasks"), random_of(trial), trial.case.sizes
    context = sizes["T"] + 2
    model, known = _model(trial, tokenizer_of(trial, "characters", LETTERS + "\n"), context)
    lines = ["ab", text_of(random, sizes["N"], LETTERS)]
    text = "\n".join(lines)
    found = tasks.Perplexity().judge(model, lines, _run(trial)).scores
    loss = -float(_in_windows(known, plain_ids(model.tokenizer, text), context, context // 2).sum())
    count, bits = len(text) - 1, loss / np.log(2)
    expected = {
        "loss": loss / count,
        "perplexity": np.exp(loss / count),
        "word_perplexity": np.exp(loss / len(text.split())),
        "bits_per_byte": bits / len(text.encode()),
        "bits_per_character": bits / len(text),
    }
    yield equal(set(found), set(expected))
    for name, value in expected.items():
        one, other = (np.log(each) if "perplexity" in name else each for each in (found[name], value))
        yield _close(one, other, 2 * count)


@law("evaluation")
def a_last_word_is_right_if_all_its_tokens_are(trial: Trial) -> Verdicts:
    """A last word is right if each of its tokens is the likeliest after all before it; perplexity is the exponential of
    the mean over the words of the loss of all their tokens.

    Proof: these are the definitions of GPT-2's LAMBADA.
    """
    tasks, random, sizes = shared_module(trial, "gpt2.evaluation.likelihood_tasks"), random_of(trial), trial.case.sizes
    model, known = _model(trial, tokenizer_of(trial, "characters", LETTERS), 16)
    passages, spans = [], []
    for number in range(1 + sizes["N"] % 4):
        before, word = text_of(random, 1 + sizes["T"], "abcd"), text_of(random, sizes["K"], "abcd")
        passages.append(tasks.Passage(f"line {number}", before, word))
        ids, first = plain_ids(model.tokenizer, f"{before} {word}"), len(before)  # the space belongs to the word
        wrong = int(random.integers(first, len(ids))) if number % 2 else -1
        for i in range(first, len(ids)):
            known.favourites[tuple(ids[:i])] = (ids[i] + (i == wrong)) % model.config.vocab_size
        spans.append((ids, first))
    right = [all(known.after(ids[:i]).argmax() == ids[i] for i in range(first, len(ids))) for ids, first in spans]
    losses = [-float(known.span(ids, first).sum()) for ids, first in spans]
    report = tasks.Lambada().judge(model, passages, _run(trial))
    yield equal([example["right"] for example in report.examples], right)
    yield equal(report.scores["accuracy"], 100 * sum(right) / len(right))
    terms = 1 + sizes["K"]
    yield _close([-example["log_probability"] for example in report.examples], losses, terms)
    yield _close(np.log(report.scores["perplexity"]), float(np.mean(losses)), terms)


@law("evaluation")
def a_candidate_is_judged_with_its_sentence(trial: Trial) -> Verdicts:
    """Each candidate for a blank gets the log-probability of all its tokens and of those after the blank; all are read
    after the same tokens, as many as leave room for the longest. The highest is chosen.

    Proof: these are the definitions of GPT-2's Children's Book Test. The texts before the blank are the same.
    """
    tasks, random, sizes = shared_module(trial, "gpt2.evaluation.likelihood_tasks"), random_of(trial), trial.case.sizes
    before, after = text_of(random, sizes["N"], "abcd"), text_of(random, sizes["K"] - 1, "abcd")
    candidates = tuple(dict.fromkeys(text_of(random, n, "abcd") for n in random.integers(1, 5, 1 + sizes["B"])))
    answers = [len(candidate) + 1 + len(after) for candidate in candidates]  # the space belongs to the candidate
    context = max(answers) + int(random.integers(1, 6))
    model, known = _model(trial, tokenizer_of(trial, "characters", LETTERS), context)
    shared = min(len(before), context - max(answers))
    expected = [
        float(known.span(plain_ids(model.tokenizer, text)[-(shared + count) :], shared).sum())
        for text, count in (
            (f"{before} {candidate}{after}", n) for candidate, n in zip(candidates, answers, strict=True)
        )
    ]
    cloze = tasks.Cloze("line 1", f"{before} ", after, candidates, candidates[-1])
    report = tasks.ChildrensBookTest().judge(model, [cloze], _run(trial))
    (example,) = report.examples
    found = [example["log_probabilities"][candidate] for candidate in candidates]
    yield _close(found, expected, max(answers))
    yield equal(example["answer"], candidates[int(np.argmax(found))])
    yield equal(report.scores["accuracy"], 100.0 * (example["answer"] == candidates[-1]))


@law("evaluation")
def a_passage_and_a_blank_are_read_as_they_stand(trial: Trial) -> Verdicts:
    """Of a passage the last word is asked for, and the text before it is whole. Of a story with a query the candidates
    are read, and the texts before and after the blank, without the spaces that the Penn Treebank puts before marks.

    Proof: this is the definition. A sentence that is put together again is the sentence.
    """
    tasks, random = shared_module(trial, "gpt2.evaluation.likelihood_tasks"), random_of(trial)
    broken = shared_module(trial, "gpt2.data.records").BrokenLines
    words = [str(word) for word in random.choice(["sat", "on", "a", "mat"], 2 + trial.case.sizes["T"])]
    story = [f"Sentence {number} , said Tom ." for number in range(1, 21)]
    query = f"{' '.join(words)} XXXXX , or not ."
    candidates = [f"word{number}" for number in range(10)]
    answer = candidates[int(random.integers(10))]
    lines = [*story, f"{query}\t{answer}\t\t{'|'.join(candidates)}"]
    with tempfile.TemporaryDirectory() as folder:
        passages, blanks = Path(folder, "passages.jsonl"), Path(folder, "blanks.txt")
        passages.write_text(json.dumps({"text": " ".join(words)}) + "\n", encoding="utf-8", newline="\n")
        blanks.write_text("".join(f"{i} {line}\n" for i, line in enumerate(lines, 1)), encoding="utf-8", newline="\n")
        (passage,) = tasks.Lambada().read(passages, broken())
        (blank,) = tasks.ChildrensBookTest().read(blanks, broken())
    yield equal((passage.before, passage.word), (" ".join(words[:-1]), words[-1]))
    before = " ".join([*(line.replace(" ,", ",").replace(" .", ".") for line in story), *words, ""])
    yield equal((blank.before, blank.after), (before, ", or not."))
    yield equal((blank.candidates, blank.answer), (tuple(candidates), answer))


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many elements two sequences share, each as often as it stands in both."""
    left, shared = list(other), 0
    for each in one:
        if each in left:
            left.remove(each)
            shared += 1
    return shared


def _in_common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The length of the longest common subsequence."""
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if a == b else max(lengths[i][j + 1], lengths[i + 1][j])
    return lengths[-1][-1]


def _f1(shared: int, one: int, other: int, nothing: float = 0.0) -> float:
    """F1 in percent; `nothing`: that of no words and no words."""
    return 200 * shared / (one + other) if one + other else nothing


@law("evaluation")
def rouge_is_the_f1_of_shared_n_grams(trial: Trial) -> Verdicts:
    """ROUGE-1 and ROUGE-2 are the F1 of the words and pairs of words that an answer shares with its reference, ROUGE-L
    that of their longest common subsequence; each is the mean over the answers. A word is what stands between spaces
    in any script that has them, a Chinese character is a word of its own.

    Proof: Lin 2004. Precision p and recall r of s shared of m and n words have the mean 2pr / (p + r) = 2s / (m + n).
    """
    if importlib.util.find_spec("rouge_score") is None:
        raise NotImplementedError("rouge-score is not installed")
    metrics, random = shared_module(trial, "gpt2.evaluation.metrics"), random_of(trial)
    vocabulary = [
        "cat",
        "Cats",
        "sat",
        "b2",
        "\u4eca",
        "\u5929",
        "\u043a\u043e\u0442",
        "\u0915\u0941\u0924\u094d\u0924\u093e",
    ]
    texts = [
        [str(word) for word in random.choice(vocabulary, n)] for n in random.integers(1, 8, 2 * trial.case.sizes["B"])
    ]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    found = metrics.rouge([" ".join(one) + "." for one, _ in pairs], [" ".join(other) for _, other in pairs])
    expected: dict[str, list[float]] = {"rouge1": [], "rouge2": [], "rougeL": []}
    for one, other in ([[word.lower() for word in text] for text in pair] for pair in pairs):
        pairs_of_words = [list(itertools.pairwise(text)) for text in (one, other)]
        expected["rouge1"].append(_f1(_shared(one, other), len(one), len(other)))
        expected["rouge2"].append(_f1(_shared(*pairs_of_words), *map(len, pairs_of_words)))
        expected["rougeL"].append(_f1(_in_common(one, other), len(one), len(other)))
    for name, values in expected.items():
        yield close(found[name], sum(values) / len(values), 0.0, FLOAT64, size=100.0)


@law("evaluation")
def answers_are_compared_by_their_words(trial: Trial) -> Verdicts:
    """Exact match and F1 look at words alone, whatever their case, the punctuation and the articles a, an, the: an
    answer matches if one reference has the same words, and its F1 is the best over the references.

    Proof: SQuAD's official evaluation script. F1 of s shared of m and n words is 2s / (m + n).
    """
    metrics, random = shared_module(trial, "gpt2.evaluation.metrics"), random_of(trial)
    words = ["cat", "sat", "mat", "dog"]
    answer, *references = (
        [str(word) for word in random.choice(words, n)] for n in random.integers(0, 6, 2 + trial.case.sizes["B"])
    )
    yield equal((metrics.f1("the", ["", "cat"]), metrics.f1("cat", [""])), (100.0, 0.0))
    for known in (references, [*references, answer]):
        given = _written(random, answer), [_written(random, reference) for reference in known]
        best = max(_f1(_shared(answer, reference), len(answer), len(reference), 100.0) for reference in known)
        yield equal(metrics.exact_match(*given), 100.0 * (answer in known))
        yield close(metrics.f1(*given), best, 0.0, FLOAT64, size=100.0)


def _written(random: np.random.Generator, words: list[str]) -> str:
    """The words in a sentence, some of them in capitals or with an article or a comma."""
    parts = [
        ("the ", "A ", "")[random.integers(3)]
        + (word.upper() if random.random() < 0.3 else word)
        + (",", "")[random.integers(2)]
        for word in words
    ]
    return " ".join(parts) + "."


@law("evaluation")
def the_question_is_never_cut(trial: Trial) -> Verdicts:
    """A prompt leaves room for the new tokens. If it must be cut, it loses the end of its head and nothing of its tail,
    which is the first that fits. It begins with [CLS] if the tokenizer puts it there, and does not end with [SEP].

    Proof: this is the definition. The last new token is not read, so prompt and new tokens may be one more than the
    context. After [SEP] no text goes on.
    """
    module, random, sizes = shared_module(trial, "gpt2.evaluation.generation_tasks"), random_of(trial), trial.case.sizes
    head = text_of(random, sizes["N"], "ab c")
    tails = [text_of(random, n, "cd") for n in (sizes["T"] + 1, 1)]
    tokenizer = closing(tokenizer_of(trial, "characters", LETTERS))
    for context in (sizes["T"] + 4, sizes["T"] + 4 + int(random.integers(32))):
        model, _ = _model(trial, tokenizer, context)
        new = 1 + sizes["K"] % 3
        room = context - new  # [CLS] takes one
        expected = head + tails[0]
        if len(expected) > room:
            tail = next(tail for tail in tails if len(tail) < room)
            expected = head[: room - len(tail)] + tail
        found = module.prompt_ids(model, module.Prompt("line 1", head, tails, [""]), new)
        yield equal(model.decode(found), f"[CLS]{expected}")


@law("evaluation")
def an_answer_does_not_depend_on_its_batch(trial: Trial) -> Verdicts:
    """An answer is written after the tokens of its prompt, without pads, and with the random numbers of the prompt's
    place in the file: it is the same in batches of any size. The end of text is no part of it.

    Proof: pads are not seen, and the place in the file is not that in a batch.
    """
    module, random, sizes = shared_module(trial, "gpt2.evaluation.generation_tasks"), random_of(trial), trial.case.sizes
    model, known = _model(trial, tokenizer_of(trial, "characters", LETTERS), 16)
    end = model.config.eos_token_id
    heads = [text_of(random, n, LETTERS) for n in random.integers(1, 9, 2 + sizes["N"] % 5)]
    prompts = [module.Prompt(f"line {number}", head, ["a"], [""]) for number, head in enumerate(heads)]
    run = _run(trial)
    expected = [
        model.decode([i for i in known.written(plain_ids(model.tokenizer, f"{head}a"), number, run.seed) if i != end])
        for number, head in enumerate(heads)
    ]
    found = module.write(model, prompts, run, 3, temperature=1.0, top_k=2)
    yield equal([answer for _, answer in found], expected)


@law("evaluation")
def the_score_of_a_file_is_the_mean_over_its_answers(trial: Trial) -> Verdicts:
    """The answer to a question is the first line that the model writes. Exact match and F1 of a file are the means over
    its questions, of each the best over its right answers.

    Proof: these are the definitions. The model of this law writes what is known.
    """
    module, metrics = (shared_module(trial, f"gpt2.evaluation.{name}") for name in ("generation_tasks", "metrics"))
    random, run = random_of(trial), _run(trial)
    tokenizer = tokenizer_of(trial, "characters", "ab \n")
    model, known = _model(trial, tokenizer, 16)
    heads = [text_of(random, n, "ab") for n in random.integers(1, 9, 1 + trial.case.sizes["N"] % 5)]
    written = [
        model.decode([i for i in known.written(plain_ids(tokenizer, f"{head}a"), number, run.seed) if i])
        for number, head in enumerate(heads)
    ]
    answers = [text.split("\n")[0].strip() for text in written]
    expected = [["c", answer] if random.random() < 0.7 else ["c", "a b"] for answer in answers]
    prompts = [module.Prompt("", head, ["a"], right) for head, right in zip(heads, expected, strict=True)]
    report = module.Questions(max_new_tokens=3).judge(model, prompts, run)
    yield equal([example["answer"] for example in report.examples], answers)
    for name, metric in (("exact_match", metrics.exact_match), ("f1", metrics.f1)):
        each = [metric(answer, right) for answer, right in zip(answers, expected, strict=True)]
        yield close(report.scores[name], sum(each) / len(each), 0.0, FLOAT64, size=100.0)


@law("evaluation")
def no_answer_is_told_before_it_is_asked_for(trial: Trial) -> Verdicts:
    """A question is asked after the earlier questions with their answers, and no prompt holds the answer that it asks
    for. Pairs that are shown as examples of a translation are not scored.

    Proof: an answer that was told would be copied.
    """
    module, sizes = shared_module(trial, "gpt2.evaluation.generation_tasks"), trial.case.sizes
    broken = shared_module(trial, "gpt2.data.records").BrokenLines
    count, shown = 1 + sizes["N"] % 5, sizes["B"]
    turns = [[{"input_text": f"{kind}-{number}."} for number in range(count)] for kind in ("question", "answer")]
    entry = {"story": "A story.", "questions": turns[0], "answers": turns[1]}
    pairs = [(f"source-{number}.", f"target-{number}.") for number in range(shown + count)]
    with tempfile.TemporaryDirectory() as folder:
        dialogue, table = Path(folder, "coqa.json"), Path(folder, "pairs.tsv")
        dialogue.write_text(json.dumps({"data": [entry]}), encoding="utf-8", newline="\n")
        table.write_text("\n".join("\t".join(pair) for pair in (("en", "fr"), *pairs)), encoding="utf-8", newline="\n")
        questions = module.Questions().read(dialogue, broken())
        translations = module.Translation(examples=shown).read(table, broken())
    earlier = ""
    for number, prompt in enumerate(questions):
        asked = f"Q: question-{number}.\nA:"
        yield equal(prompt.head + prompt.tails[0], f"A story.\n\n{earlier}{asked}")
        yield equal(list(prompt.expected), [f"answer-{number}."])
        earlier += f"{asked} answer-{number}.\n"
    yield equal(len(questions), count)
    examples = "".join(f"{source} = {target}\n" for source, target in pairs[:shown])
    expected = [(f"{examples}{source} =", [target]) for source, target in pairs[shown:]]
    yield equal([(prompt.head + prompt.tails[0], list(prompt.expected)) for prompt in translations], expected)


@law("evaluation")
def sentences_end_with_their_marks(trial: Trial) -> Verdicts:
    """The first sentences of a text end with . ! or ? and a space, with a Chinese mark, or with the line.

    Proof: this is the definition.
    """
    module, random = shared_module(trial, "gpt2.evaluation.generation_tasks"), random_of(trial)
    marks = (". ", "! ", "? ", "\u3002", "\uff01", "\uff1f", "\n")
    sentences = [
        text_of(random, 3, "ab\u4eca") + marks[random.integers(len(marks))] for _ in range(trial.case.sizes["T"])
    ]
    for count in (1, 3):
        expected = [sentence.strip() for sentence in sentences[:count]]
        yield equal(module.first_sentences("".join(sentences), count), expected)
