"""Tasks in which the model generates text: summaries after "TL;DR:", translations, answers to questions."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from gpt2.arguments import is_integer, require
from gpt2.data.formats import TABLES, read_source
from gpt2.data.records import BrokenLines, read_records, records_of
from gpt2.data.templates import Template
from gpt2.errors import GPT2Error
from gpt2.evaluation import metrics
from gpt2.evaluation.base import EvaluationReport, Run
from gpt2.evaluation.files import document, json_records
from gpt2.json_input import Filled, as_type, object_with
from gpt2.model.model import NO_TOKENIZER, Model, left_padded
from gpt2.tokenizer import encode, encode_prompt, surroundings

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


class Prompt(NamedTuple):
    """A prompt in parts, and the right answers."""

    where: str
    head: str
    """The beginning; its end is cut if the prompt is too long for the context."""
    tails: Sequence[str]
    """Alternative endings, the longest first, that are never cut; the first that fits is used."""
    expected: Sequence[str]


def prompt_ids(model: Model, sample: Prompt, new: int) -> list[int]:
    """Ids of the prompt, with room for `new` tokens. Raises GPT2Error if even the shortest tail leaves no room."""
    if model.tokenizer is None:
        raise GPT2Error(f"{NO_TOKENIZER}: a task is text")
    room = model.config.n_positions - new + 1  # the last new token is not read
    whole = encode_prompt(model.tokenizer, sample.head + sample.tails[0])
    if 0 < len(whole) <= room:
        return whole
    head = encode_prompt(model.tokenizer, sample.head)
    least = min(len(head), len(surroundings(model.tokenizer)[0]) + 1)
    for tail in sample.tails:
        end = encode(model.tokenizer, tail, add_special_tokens=False)
        if len(end) + least <= room:
            return head[: room - len(end)] + end
    raise GPT2Error(
        f"{len(end)} tokens that cannot be cut and {new} new ones exceed the context of {model.config.n_positions}: "
        "ask for fewer (max_new_tokens)"
    )


def write(
    model: Model, samples: Sequence[Prompt], run: Run, max_new_tokens: int, **options: Any
) -> list[tuple[Prompt, str]]:
    """Each sample with the model's answer, without the end-of-text token. Broken samples are left out."""
    prompts = []
    for sample in samples:
        with run.broken.at(sample.where):
            prompts.append((sample, prompt_ids(model, sample, max_new_tokens)))
    answers: list[str] = []
    for first in range(0, len(prompts), run.batch_size):
        batch = [np.array(ids, np.int64) for _, ids in prompts[first : first + run.batch_size]]
        ids, mask = left_padded(batch)
        generation = model.generate_all(
            ids, max_new_tokens, attention_mask=mask, scored=False, first_row=first, seed=run.seed, **options
        )
        if "interrupted" in generation.finish_reasons:
            raise KeyboardInterrupt
        answers += [model.decode([i for i in new if i not in model.end_ids]) for new in generation.new_ids]
        run.watch(len(answers), len(prompts))
    return [(sample, answer) for (sample, _), answer in zip(prompts, answers, strict=True)]


def _example(sample: Prompt, answer: str, **scores: Any) -> dict[str, Any]:
    prompt = sample.head + sample.tails[0]
    return {"where": sample.where, "prompt": prompt, "expected": list(sample.expected), "answer": answer} | scores


def first_sentences(text: str, count: int) -> list[str]:
    """The first sentences of a text. A sentence ends with . ! ? and a space, with 。！？, or with the line."""
    return [sentence.strip() for sentence in SENTENCE_END.split(text) if sentence.strip()][:count]


@dataclasses.dataclass(frozen=True)
class Summaries:
    """Summaries, written after the article and "TL;DR:". Files: JSON or a table; options name the two fields.

    100 tokens are sampled with top-k 2; their first 3 sentences are the summary. ROUGE is F1, without stemming.
    rougeL takes a text as one sequence; rougeLsum, used for CNN/Daily Mail, takes it line by line.
    Source: GPT-2 paper, section 3.6. Different: the end of an article too long for the context is cut; the paper does
    not state how it splits sentences.
    """

    article: str = "article"
    summary: str = "highlights"
    """NLPCC 2017 has "summarization"."""
    max_new_tokens: int = 100
    top_k: int = 2
    sentences: int = 3

    def __post_init__(self) -> None:
        require("sentences", self.sentences, is_integer(self.sentences, 2**31, 1), "an integer of at least 1")

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[Prompt]:
        """One sample for each line that is not blank."""
        template = Template(f"{{{self.article}}}{{{self.summary}}}", self.summary)
        return [
            Prompt(where, values[self.article].strip(), ["\nTL;DR:"], [values[self.summary]])
            for where, values in read_records(path, template, broken, encoding=encoding)
        ]

    def judge(self, model: Model, samples: list[Prompt], run: Run) -> EvaluationReport:
        """ROUGE-1, -2, -L and -Lsum."""
        written = write(model, samples, run, self.max_new_tokens, temperature=1.0, top_k=self.top_k)
        if not written:
            return EvaluationReport({}, 0, [])
        answers = ["\n".join(first_sentences(text, self.sentences)) for _, text in written]
        examples = [_example(sample, answer) for (sample, _), answer in zip(written, answers, strict=True)]
        return EvaluationReport(
            metrics.rouge(answers, [sample.expected[0] for sample, _ in written]), len(written), examples
        )


class Pair(NamedTuple):
    """A sentence in two languages."""

    where: str
    source: str
    target: str


@dataclasses.dataclass(frozen=True)
class Translation:
    """Translations, after example pairs "english sentence = french sentence" and then the sentence with " =".

    Files: a table, or JSON with the fields at the top level or in an object "translation", as WMT on the hub. The
    first pairs of the file are the examples, and are not scored. Decoding is greedy; the first line is the answer.
    Source: GPT-2 paper, section 3.7. Different: the paper does not state the number of examples, and takes the first
    sentence, not the first line. Here the first examples are left out if they do not fit the context.
    """

    source: str = "en"
    target: str = "fr"
    examples: int = 5
    max_new_tokens: int = 100
    bleu_tokenizer: str = "13a"
    """sacrebleu's tokenizer; "zh" for Chinese."""

    def __post_init__(self) -> None:
        require("examples", self.examples, is_integer(self.examples, 2**31), "an integer of at least 0")

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[Prompt]:
        """One sample per line after the examples. Raises GPT2Error if there are no lines after them."""
        pairs = self._pairs(path, broken, encoding)
        if len(pairs) <= self.examples:
            raise GPT2Error(
                f"{path} holds {len(pairs)} pairs, and {self.examples} are examples: give more, or examples=0"
            )
        shown = [f"{pair.source} = {pair.target}\n" for pair in pairs[: self.examples]]
        before = ["".join(shown[i:]) for i in range(len(shown) + 1)]
        return [
            Prompt(pair.where, "", [f"{text}{pair.source} =" for text in before], [pair.target])
            for pair in pairs[self.examples :]
        ]

    def _pairs(self, path: Path, broken: BrokenLines, encoding: str | None) -> list[Pair]:
        source = read_source(path, encoding=encoding)
        if source.form in TABLES or source.form == "text":
            records = records_of(source, (self.source, self.target), True, broken)
            return [Pair(where, *values.values()) for where, values in records]
        kind = object_with({self.source: Filled, self.target: Filled})
        pairs = []
        for where, record in json_records(source, dict[str, Any], broken):
            with broken.at():
                texts = as_type(record.get("translation", record), kind, where)
                pairs.append(Pair(where, texts[self.source], texts[self.target]))
        return pairs

    def judge(self, model: Model, samples: list[Prompt], run: Run) -> EvaluationReport:
        """Corpus BLEU of the answers."""
        written = write(model, samples, run, self.max_new_tokens, stop_strings=["\n"])
        if not written:
            return EvaluationReport({}, 0, [])
        examples = [_example(sample, first_line(text)) for sample, text in written]
        answers, references = [example["answer"] for example in examples], [sample.expected[0] for sample, _ in written]
        score, signature = metrics.bleu(answers, references, self.bleu_tokenizer)
        return EvaluationReport({"bleu": score}, len(written), examples, {"sacrebleu": signature})


def first_line(text: str) -> str:
    """The first line of a text; "" if the text begins with a line break."""
    return text.split("\n", 1)[0].strip()


class _Turn(msgspec.Struct):
    input_text: Filled


class _CoqaEntry(msgspec.Struct):
    story: Filled
    questions: list[_Turn]
    answers: list[_Turn]
    additional_answers: dict[str, list[_Turn]] = {}


class _Answer(msgspec.Struct):
    text: Filled


class _Question(msgspec.Struct):
    question: Filled
    answers: list[_Answer]


class _Paragraph(msgspec.Struct):
    context: Filled
    qas: list[_Question]


class _SquadEntry(msgspec.Struct):
    paragraphs: list[_Paragraph]


class _Questions(msgspec.Struct):
    data: list[Any]


@dataclasses.dataclass(frozen=True)
class Questions:
    """Answers to questions about a text, after the text, the earlier questions with right answers, and "A:".

    Files: CoQA's or SQuAD's JSON. Decoding is greedy; the first line is the answer. Exact match and F1 are SQuAD's, the
    best over all reference answers; an unanswerable question of SQuAD 2 expects an empty answer.
    Source: GPT-2 paper, section 3.5. Different: CoQA's script compares each reference answer with the others in turn.
    Here the end of a text too long for the context is cut; if that is not enough, the first turns are left out.
    """

    max_new_tokens: int = 30

    def read(self, path: Path, broken: BrokenLines, encoding: str | None = None) -> list[Prompt]:
        """The questions, in the file's order."""
        samples: list[Prompt] = []
        for i, entry in enumerate(document(path, _Questions, encoding).data):
            where = f"{path}, data[{i}]"
            with broken.at():
                samples += _coqa(where, entry) if isinstance(entry, dict) and "story" in entry else _squad(where, entry)
        return samples

    def judge(self, model: Model, samples: list[Prompt], run: Run) -> EvaluationReport:
        """Mean exact match and F1 over the questions."""
        examples = []
        for sample, text in write(model, samples, run, self.max_new_tokens, stop_strings=["\n"]):
            answer = first_line(text)
            right, shared = metrics.exact_match(answer, sample.expected), metrics.f1(answer, sample.expected)
            examples.append(_example(sample, answer, exact_match=right, f1=shared))
        if not examples:
            return EvaluationReport({}, 0, [])
        means = {name: sum(example[name] for example in examples) / len(examples) for name in ("exact_match", "f1")}
        return EvaluationReport(means, len(examples), examples)


def _coqa(where: str, entry: Any) -> list[Prompt]:
    dialogue = as_type(entry, _CoqaEntry, where)
    listed = [dialogue.answers, *dialogue.additional_answers.values()]
    if any(len(answers) != len(dialogue.questions) for answers in listed):
        counts = ", ".join(str(len(answers)) for answers in listed)
        raise GPT2Error(f"{where}: {len(dialogue.questions)} questions have {counts} answers")
    texts = [question.input_text for question in dialogue.questions]
    expected = [[turn.input_text for turn in turns] for turns in zip(*listed, strict=True)]
    turns = [f"Q: {question}\nA: {right[0]}\n" for question, right in zip(texts, expected, strict=True)]
    samples = []
    for i, question in enumerate(texts):
        tails = [_dialogue(turns[first:i], question) for first in range(i + 1)]
        samples.append(Prompt(f"{where}.questions[{i}]", dialogue.story.strip(), tails, expected[i]))
    return samples


def _dialogue(turns: Sequence[str], question: str) -> str:
    return "\n\n" + "".join(turns) + f"Q: {question}\nA:"


def _squad(where: str, entry: Any) -> list[Prompt]:
    samples = []
    for i, paragraph in enumerate(as_type(entry, _SquadEntry, where).paragraphs):
        for j, question in enumerate(paragraph.qas):
            answers = [answer.text for answer in question.answers]
            place = f"{where}.paragraphs[{i}].qas[{j}]"
            ending = _dialogue([], question.question)
            samples.append(Prompt(place, paragraph.context.strip(), [ending], answers or [""]))
    return samples
