"""Tasks as text: a template lays a record out as one row of tokens, each of them with a role.

Source: GPT-2 paper, section 2: task, input and output are all one sequence of symbols.
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

from gpt2.errors import GPT2Error
from gpt2.tokenizer import END_OF_TEXT, encode_with_offsets

ROLES = ("task", "input", "output", "end", "pad")
SCORES = ("output", "all")
SCORED = ("output", "end")  # of score "output": without the end, nothing would learn to stop
SPECIAL = ("[CLS]", "[SEP]", END_OF_TEXT)
TASK, INPUT, OUTPUT = "task", "input", "output"  # the fields, where nothing else is said


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a template: fixed text, or a field of the record."""

    text: str
    field: str
    """ "": the text is fixed."""
    role: str

    def fill(self, record: Mapping[str, str]) -> str:
        """Its text in a sample."""
        return self.text + (record[self.field] if self.field else "")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A record as tokens: ids (N,) int32, and of each its role, and the field that it is from ("": fixed text)."""

    ids: NDArray[np.int32]
    roles: tuple[str, ...]
    fields: tuple[str, ...]

    def labels(self, score: str, ignore_index: int = -100) -> NDArray[np.int32]:
        """The ids where a token is scored, ignore_index elsewhere, (N,) int32. score: "output" or "all"."""
        if score == "all":
            return self.ids
        return np.where([role in SCORED for role in self.roles], self.ids, np.int32(ignore_index))

    def cut(self, length: int, field: str) -> "Sample":
        """The sample in length tokens: the last ones of a field are left out, all else stays.

        Raises GPT2Error if not one token of the field would stay, as Hugging Face's truncation="only_first" does.
        """
        surplus = len(self.ids) - length
        if surplus <= 0:
            return self
        own = [i for i, name in enumerate(self.fields) if field and name == field]
        if len(own) <= surplus:
            count, rest = len(self.ids), len(self.ids) - len(own)
            what = f"with {rest} of them outside the field {field!r}" if own else "and none of them may be cut"
            raise GPT2Error(
                f"the sample has {count} tokens, {what}, but a row has {length}: shorten it, or enlarge block_size"
            )
        out = set(own[-surplus:])
        kept = [i for i in range(len(self.ids)) if i not in out]
        return Sample(self.ids[kept], tuple(self.roles[i] for i in kept), tuple(self.fields[i] for i in kept))


class Template:
    """A text with fields in braces, such as "{task}: {input}\\n{output}"; {{ and }} are braces themselves.

    output is the field of the answer; what comes after it ends the sample. What comes before is the input, but for the
    task: all up to and with the field "task", or without such a field the fixed text that has words. One space before
    the output belongs to it, as GPT-2's tokens begin with theirs. truncate is the field that may be cut; None: "input"
    if there is one. [CLS], [SEP] and <|endoftext|> are single tokens if the tokenizer has them.
    Raises GPT2Error for braces that do not match, a field that stands twice, or a field asked for that is not there.
    """

    def __init__(self, text: str, output: str = OUTPUT, truncate: str | None = None) -> None:
        self.text, self.output = text, output
        pieces = list(_pieces(text))
        self.fields = tuple(field for _, field in pieces if field)
        for field in self.fields:
            if self.fields.count(field) > 1:
                raise GPT2Error(f"the template {text!r} has the field {field!r} twice: once is enough")
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
        """What stands before the output: what a model is given that is to write it."""
        before = itertools.takewhile(lambda part: part.role != "output", self.parts)
        return "".join(part.fill(record) for part in before)

    def fill(self, record: Mapping[str, str]) -> str:
        """The sample as text, without the end token."""
        return "".join(part.fill(record) for part in self.parts)

    def lay_out(self, record: Mapping[str, str], tokenizer: Tokenizer, end: Sequence[int] = ()) -> Sample:
        """The sample as tokens; end are the ids after it, unless the template ends with a special token of its own.

        What stands before the output is encoded as one text, as a prompt is. A token across two parts belongs to the
        later one. Raises GPT2Error for text that the tokenizer cannot take.
        """
        ids: list[int] = []
        parts: list[Part] = []
        closed = False
        for group in self._groups(tokenizer):
            token = _single(tokenizer, group[0])
            closed = token is not None
            if token is not None:
                ids, parts = [*ids, token], [*parts, *group]
                continue
            texts = [part.fill(record) for part in group]
            found, offsets = encode_with_offsets(tokenizer, "".join(texts))
            ends = list(itertools.accumulate(map(len, texts)))
            ids += found
            parts += [group[bisect.bisect_right(ends, max(first, last - 1))] for first, last in offsets]
        ending = () if closed else tuple(end)
        return Sample(
            np.array([*ids, *ending], np.int32),
            (*(part.role for part in parts), *("end" for _ in ending)),
            (*(part.field for part in parts), *("" for _ in ending)),
        )

    def _groups(self, tokenizer: Tokenizer) -> Iterator[list[Part]]:
        """The parts in runs that are encoded together: what is before the output, the output, what ends it.

        A special token that the tokenizer has stands alone.
        """

        def kind(numbered: tuple[int, Part]) -> tuple[str, int]:
            i, part = numbered
            alone = part.role == "output" or _single(tokenizer, part) is not None
            return ("alone", i) if alone else ("before" if part.role != "end" else "end", 0)

        for _, group in itertools.groupby(enumerate(self.parts), kind):
            yield [part for _, part in group]


def _single(tokenizer: Tokenizer, part: Part) -> int | None:
    """The id of a part that is a special token; None if it is none, or one that the tokenizer has not."""
    special = not part.field and part.text in SPECIAL
    return tokenizer.token_to_id(part.text) if special else None


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """What a template is made of, (text, "") or ("", field), special tokens apart."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise GPT2Error(f"the template {text!r} is no text with fields in braces: {error}") from error
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
    """A template with a name, and a record that shows it."""

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
    """A template of TASKS by its name, or the one that the text is. output and truncate, if given, go before its own.

    Raises GPT2Error as Template does.
    """
    if name not in TASKS:
        return Template(name, output or OUTPUT, truncate)
    known = TASKS[name].template
    return Template(known.text, output or known.output, truncate or known.truncate or None)
