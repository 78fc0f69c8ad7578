"""Tasks as text: a template lays out a record as one row of tokens, each with a role.

Source: GPT-2 paper, section 2: task, input and output form one sequence of symbols.
"""

import bisect
import dataclasses
import itertools
import re
import string
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gpt2.errors import GPT2Error, counted
from gpt2.tokenizer import END_OF_TEXT, encode_with_offsets, surroundings

ROLES = ("task", "input", "output", "end", "pad")
SCORES = ("output", "all")
SCORED = ("output", "end")  # with score "output"; the end is scored so that the model learns to stop
SPECIAL = ("[CLS]", "[SEP]", END_OF_TEXT)
TASK, INPUT, OUTPUT = "task", "input", "output"  # the default fields


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a template: fixed text, or a field of the record."""

    text: str
    field: str
    """ "" for fixed text."""
    role: str

    def fill(self, record: Mapping[str, str]) -> str:
        """The part's text in a sample."""
        return self.text + (record[self.field] if self.field else "")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A record as tokens: ids (N,) int32, and the role and field of each id ("": fixed text)."""

    ids: NDArray[np.int32]
    roles: tuple[str, ...]
    fields: tuple[str, ...]

    def labels(self, score: str, ignore_index: int = -100) -> NDArray[np.int32]:
        """Labels (N,) int32: the id where a token is scored, ignore_index elsewhere. score: "output" or "all"."""
        if score == "all":
            return self.ids
        return np.where([role in SCORED for role in self.roles], self.ids, np.int32(ignore_index))

    def cut(self, length: int, field: str) -> "Sample":
        """The sample cut to length tokens, by removing the last tokens of one field.

        Raises GPT2Error if no token of the field would remain, as Hugging Face's truncation="only_first" does.
        """
        surplus = len(self.ids) - length
        if surplus <= 0:
            return self
        places = [i for i, name in enumerate(self.fields) if field and name == field]
        if len(places) <= surplus:
            count, rest = len(self.ids), len(self.ids) - len(places)
            what = f"with {rest} of them outside the field {field!r}" if places else "and none of them may be cut"
            raise GPT2Error(
                f"the sample has {counted(count, 'token')}, {what}, but a row has {length}: shorten it, or enlarge "
                "block_size"
            )
        out = set(places[-surplus:])
        kept = [i for i in range(len(self.ids)) if i not in out]
        return Sample(self.ids[kept], tuple(self.roles[i] for i in kept), tuple(self.fields[i] for i in kept))


class Template:
    """A text with fields in braces, such as "{task}: {input}\\n{output}"; {{ and }} stand for literal braces.

    output: the field of the answer; text after it ends the sample, text before it is the input or the task. The task
    is everything up to the field "task", or, without that field, fixed text with words. A space right before the output
    belongs to it, as GPT-2's tokens begin with their space. truncate: the field that may be cut; None: "input", if
    there is one. [CLS], [SEP] and <|endoftext|> are single tokens if the tokenizer has them.
    Raises GPT2Error for unmatched braces, a field that occurs twice, or a missing output or truncate.
    """

    def __init__(self, text: str, output: str = OUTPUT, truncate: str | None = None) -> None:
        self.text, self.output = text, output
        pieces = list(_pieces(text))
        self.fields = tuple(field for _, field in pieces if field)
        for field in self.fields:
            if self.fields.count(field) > 1:
                raise GPT2Error(f"the template {text!r} has the field {field!r} twice: use it once")
        for what, name in (("output", output), ("truncate", truncate)):
            if name is not None and name not in self.fields:
                there = ", ".join(map(repr, self.fields)) or "none"
                raise GPT2Error(f"the template {text!r} has no field {name!r}, which is its {what}: it has {there}")
        if self.fields[-1] != output:
            raise GPT2Error(f"the output {output!r} must be the last field of the template {text!r}")
        if truncate == output:
            raise GPT2Error(f"the output {output!r} is never cut: truncate must be another field of {text!r}")
        self.truncate = truncate or (INPUT if INPUT in self.fields[:-1] else "")
        self.parts = _with_roles(pieces, output)

    def prompt(self, record: Mapping[str, str]) -> str:
        """The text before the output: the prompt from which a model writes the output."""
        before = itertools.takewhile(lambda part: part.role != "output", self.parts)
        return "".join(part.fill(record) for part in before)

    def fill(self, record: Mapping[str, str]) -> str:
        """The sample as text, without the end token."""
        return "".join(part.fill(record) for part in self.parts)

    def lay_out(self, record: Mapping[str, str], tokenizer: Tokenizer, end: Sequence[int] = ()) -> Sample:
        """The sample as tokens, followed by the ids `end` unless the template ends with a special token.

        Text before the output is encoded as one piece, like a prompt. It comes after what the tokenizer puts before a
        text, unless the template begins with a special token. A token across parts belongs to the later one.
        Raises GPT2Error for text that the tokenizer cannot encode.
        """
        begun = _single(tokenizer, self.parts[0]) is not None
        ids: list[int] = [] if begun else surroundings(tokenizer)[0]
        parts, closed = [Part("", "", INPUT) for _ in ids], False
        for group in self._groups(tokenizer):
            token = _single(tokenizer, group[0])
            closed = token is not None
            if token is not None:
                ids, parts = [*ids, token], [*parts, *group]
                continue
            texts = [part.fill(record) for part in group]
            encoded, offsets = encode_with_offsets(tokenizer, "".join(texts))
            ends = list(itertools.accumulate(map(len, texts)))
            ids += encoded
            parts += [group[bisect.bisect_right(ends, max(first, last - 1))] for first, last in offsets]
        ending = () if closed else tuple(end)
        return Sample(
            np.array([*ids, *ending], np.int32),
            (*(part.role for part in parts), *("end" for _ in ending)),
            (*(part.field for part in parts), *("" for _ in ending)),
        )

    def _groups(self, tokenizer: Tokenizer) -> Iterator[list[Part]]:
        """Groups of parts that are encoded together: those before the output, the output, and those after it.

        A special token that the tokenizer has is a group of its own.
        """

        def kind(numbered: tuple[int, Part]) -> tuple[str, int]:
            i, part = numbered
            alone = part.role == "output" or _single(tokenizer, part) is not None
            return ("alone", i) if alone else ("before" if part.role != "end" else "end", 0)

        for _, group in itertools.groupby(enumerate(self.parts), kind):
            yield [part for _, part in group]


def _single(tokenizer: Tokenizer, part: Part) -> int | None:
    """The id of a part that is a special token of the tokenizer; otherwise None."""
    special = not part.field and part.text in SPECIAL
    return tokenizer.token_to_id(part.text) if special else None


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The pieces of a template: (text, "") or ("", field); a special token is a piece of its own."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise GPT2Error(f"the template {text!r} is not a text with fields in braces: {error}") from error
    for fixed, field, form, conversion in parsed:
        for piece in re.split("({})".format("|".join(map(re.escape, SPECIAL))), fixed):
            if piece:
                yield piece, ""
        if field is not None:
            if not field or form or conversion:
                raise GPT2Error(f"the template {text!r} must have plain names in braces, such as {{input}}")
            yield "", field


def _with_roles(pieces: Sequence[tuple[str, str]], output: str) -> tuple[Part, ...]:
    fields = [field for _, field in pieces]
    answer, task = fields.index(output), fields.index(TASK) if TASK in fields[: fields.index(output)] else -1
    parts: list[Part] = []
    for i, (text, field) in enumerate(pieces[:answer]):
        words = TASK not in fields and text not in SPECIAL and any(map(str.isalpha, text))
        parts.append(Part(text, field, "task" if i <= task or words else "input"))
    space = ""
    if parts and parts[-1].text.endswith(" "):
        last = parts.pop()
        space, shorter = " ", dataclasses.replace(last, text=last.text[:-1])
        parts += [shorter] if shorter.text else []
    return (*parts, Part(space, output, "output"), *(Part(text, "", "end") for text, _ in pieces[answer + 1 :]))


@dataclasses.dataclass(frozen=True)
class Task:
    """A named template, with an example record."""

    template: Template
    summary: str
    example: Mapping[str, str]


TASKS = {
    "text": Task(
        Template("{task}: {input}\n{output}"),
        "any task, named by a word: copy, reverse, sort, ...",
        {"task": "reverse", "input": "abcd", "output": "dcba"},
    ),
    "summarize": Task(
        Template("[CLS] {article} [SEP] {summarization} [SEP]", "summarization", "article"),
        "a summary, as the MindSpore course lays it out; NLPCC2017's fields",
        {"article": "今天下午北京下了一场大雨，许多道路被水淹没。", "summarization": "北京大雨淹没道路"},
    ),
    "tldr": Task(
        Template("{article}\nTL;DR: {summary}", "summary", "article"),
        "a summary; GPT-2 paper, section 3.6",
        {"article": "It rained all day, and the match was called off.", "summary": "Match off."},
    ),
    "translate": Task(
        Template("{source} = {target}", "target", "source"),
        "a translation; GPT-2 paper, section 3.7",
        {"source": "good morning", "target": "bonjour"},
    ),
    "question": Task(
        Template("{passage}\nQ: {question}\nA: {answer}", "answer", "passage"),
        "an answer about a passage; GPT-2 paper, section 3.5",
        {"passage": "Tom has a red hat.", "question": "What colour is the hat?", "answer": "red"},
    ),
}


def find_template(name: str, output: str | None = None, truncate: str | None = None) -> Template:
    """The template of TASKS with this name, or a new one from the text; output and truncate override its own.

    Raises GPT2Error if Template does.
    """
    if name not in TASKS:
        return Template(name, output or OUTPUT, truncate)
    known = TASKS[name].template
    return Template(known.text, output or known.output, truncate or known.truncate or None)
