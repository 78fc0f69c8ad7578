"""Laws of texts: tokenizers and templates.

The code that they judge is the same for every backend. They make their texts from the seed of the case.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers, processors

from gpt2.errors import GPT2Error
from parity.laws.base import Verdicts, law, random_of, shared_module
from parity.verdict.trial import Trial
from parity.verdict.verdict import equal

LETTERS = "abAB .,\n\u00e9\u4eca\u5929\U0001f600"  # of one to four bytes
END = "<|endoftext|>"
SPECIAL = ["[CLS]", "[SEP]", END]
KINDS = ("characters", "bytes", "bpe")
IGNORED = -100
# The templates of the tasks, each as pieces that are encoded by themselves: texts and fields with their roles.
TEMPLATES = {
    "{task}: {input}\n{output}": (
        "input",
        [[("{task}", "task"), (": ", "input"), ("{input}", "input"), ("\n", "input")], [("{output}", "output")]],
    ),
    "[CLS] {article} [SEP] {output} [SEP]": (
        "article",
        [
            [("[CLS]", "input")],
            [(" ", "input"), ("{article}", "input"), (" ", "input")],
            [("[SEP]", "input")],
            [(" {output}", "output")],
            [(" ", "end")],
            [("[SEP]", "end")],
        ],
    ),
    "{input} = {output}": ("input", [[("{input}", "input"), (" =", "input")], [(" {output}", "output")]]),
    "{passage}\nQ: {input}\nA: {output}": (
        "passage",
        [
            [("{passage}", "input"), ("\nQ: ", "task"), ("{input}", "input"), ("\nA:", "task")],
            [(" {output}", "output")],
        ],
    ),
}
FIELDS = ("task", "passage", "article", "input", "output")


def text_of(random: np.random.Generator, length: int, letters: str = LETTERS) -> str:
    return "".join(random.choice(list(letters), length))


def tokenizer_of(trial: Trial, kind: str, learnt: str) -> Tokenizer:
    """A tokenizer of that kind, trained on a text; with special tokens."""
    tokenizer = shared_module(trial, "gpt2.tokenizer").train_tokenizer(kind, [learnt], 290)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def closing(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, which now puts [CLS] before a text and [SEP] after it, as BERT's does."""
    known = tokenizer.get_vocab()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", known["[SEP]"]), ("[CLS]", known["[CLS]"]))
    return tokenizer


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text, by the library alone."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def prompt_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text that is to go on, by the library alone: without the [SEP] of `closing`."""
    return tokenizer.encode(text).ids[:-1]


@law("data")
def what_is_decoded_is_what_was_encoded(trial: Trial) -> Verdicts:
    """A trained tokenizer encodes any text of its characters and decodes it to the same text; a tokenizer of characters
    refuses one that it does not know.

    Proof: a token for each character, or for each byte, leaves nothing out; merged bytes are the same bytes.
    """
    module, random = shared_module(trial, "gpt2.tokenizer"), random_of(trial)
    text = text_of(random, trial.case.sizes["N"])
    for kind in KINDS:
        tokenizer = tokenizer_of(trial, kind, text + LETTERS)
        yield equal(tokenizer.decode(module.encode(tokenizer, text)), text)
    with contextlib.suppress(GPT2Error):
        yield equal(module.encode(module.train_tokenizer("characters", ["a"]), text + "\u00e9"), "an error")


@law("data")
def the_end_of_text_is_one_token(trial: Trial) -> Verdicts:
    """The end of text is one token inside any text, of GPT-2's tokenizer and of one that is trained like it.

    Proof: it is a special token of both, which is found before a text is split into words.
    """
    module, random = shared_module(trial, "gpt2.tokenizer"), random_of(trial)
    one, other = (text_of(random, trial.case.sizes[size]) for size in "NT")
    for tokenizer in (_of_openai(module), module.train_tokenizer("bpe", [one + other], 270)):
        expected = [*plain_ids(tokenizer, one), tokenizer.token_to_id(END), *plain_ids(tokenizer, other)]
        yield equal(module.encode(tokenizer, one + END + other), expected)


def _of_openai(module: Any) -> Tokenizer:
    """GPT-2's kind of tokenizer, from two files like OpenAI's: the bytes, one merge, the end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {token: i for i, token in enumerate([*alphabet, "ab", END])}
    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocab.write_text(json.dumps(known), encoding="utf-8", newline="\n")
        merges.write_text("#version: 0.2\na b\n", encoding="utf-8", newline="\n")
        return module.byte_pair_tokenizer(vocab, merges)


@law("data")
def what_was_added_to_a_vocabulary_is_read(trial: Trial) -> Verdicts:
    """A token that was added to a vocabulary has the id that the files beside the vocabulary give it, inside any text,
    whichever of transformers' files tells of it.

    Proof: added tokens are found before a text is split into words, and the first of them has the first free id.
    """
    module, random = shared_module(trial, "gpt2.tokenizer"), random_of(trial)
    one, other = (text_of(random, trial.case.sizes[size]) for size in "NT")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {token: i for i, token in enumerate([*alphabet, END])}
    for name, fields in _spellings("<|user|>", len(known)).items():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "vocab.json").write_text(json.dumps(known), encoding="utf-8", newline="\r\n")
            Path(folder, "merges.txt").write_text("#version: 0.2\n", encoding="utf-8", newline="\r\n")
            Path(folder, name).write_text(json.dumps(fields), encoding="utf-8")
            tokenizer = module.load_tokenizer(Path(folder))
        expected = [*plain_ids(tokenizer, one), len(known), *plain_ids(tokenizer, other)]
        yield equal(module.encode(tokenizer, f"{one}<|user|>{other}"), expected)


def _spellings(token: str, i: int) -> dict[str, dict[str, Any]]:
    """The ways to tell of an added token: the names of files, and what stands in them."""
    return {
        "added_tokens.json": {token: i},
        "special_tokens_map.json": {"additional_special_tokens": [token]},
        "tokenizer_config.json": {"added_tokens_decoder": {str(i): {"content": token, "special": True}}},
    }


@law("data")
def a_prompt_is_left_open(trial: Trial) -> Verdicts:
    """A text that is to go on begins with what the tokenizer puts before a text, and nothing is put after it.

    Proof: what is put after a text, BERT's [SEP], says that it has ended. A model learns to begin after what is put
    before a text, BERT's [CLS], and finds it there.
    """
    module, random = shared_module(trial, "gpt2.tokenizer"), random_of(trial)
    text = text_of(random, trial.case.sizes["N"])
    for kind in KINDS:
        tokenizer = closing(tokenizer_of(trial, kind, text))
        yield equal(module.encode_prompt(tokenizer, text), prompt_of(tokenizer, text))


@law("data")
def bytes_have_the_ids_of_gpt2(trial: Trial) -> Verdicts:
    """A tokenizer of bytes numbers them as GPT-2 does: the printable ones of Latin-1 first, then the others, each in
    the order of their values.

    Proof: encoder.py of GPT-2, bytes_to_unicode; ! is 0, a space is 220.
    """
    module, random = shared_module(trial, "gpt2.tokenizer"), random_of(trial)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    numbered = [*printable, *(byte for byte in range(256) if byte not in printable)]
    text = text_of(random, trial.case.sizes["N"])
    found = module.encode(module.train_tokenizer("bytes", [text]), text)
    yield equal(found, [numbered.index(byte) for byte in text.encode()])


@law("data")
def a_text_in_pieces_has_the_same_ids(trial: Trial) -> Verdicts:
    """A long text, which is encoded in pieces, has the ids and the places of its tokens that it has in one piece.

    Proof: pieces begin where a word begins, and the tokens of a word depend on that word alone.
    """
    module, random = shared_module(trial, "gpt2.tokenizer.texts"), random_of(trial)
    text = text_of(random, 2 * trial.case.sizes["N"], "abc  \n\u4eca")
    for kind in KINDS:
        tokenizer = tokenizer_of(trial, kind, text)
        whole = tokenizer.encode(text, add_special_tokens=False)
        with patch.object(module, "PIECE", trial.case.sizes["T"]):  # so that this text is a long one
            ids, offsets = module.encode_with_offsets(tokenizer, text)
            yield equal(module.encode(tokenizer, text), whole.ids)
        yield equal(ids, whole.ids)
        yield equal(offsets, whole.offsets)


@law("data")
def a_loaded_tokenizer_cuts_no_text(trial: Trial) -> Verdicts:
    """A tokenizer that was saved with truncation and padding encodes a text as it does without them.

    Proof: both are settings for batches of one length, and no part of a tokenizer; rows are cut and padded later.
    """
    module, random = shared_module(trial, "gpt2.tokenizer"), random_of(trial)
    text = text_of(random, trial.case.sizes["N"])
    for kind in KINDS:
        tokenizer = tokenizer_of(trial, kind, text)
        expected = plain_ids(tokenizer, text)
        tokenizer.enable_truncation(trial.case.sizes["T"])
        tokenizer.enable_padding(length=30)
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(str(Path(folder, "tokenizer.json")))
            loaded = module.load_tokenizer(Path(folder))
        yield equal(module.encode(loaded, text), expected)


def _record(random: np.random.Generator, longest: int) -> dict[str, str]:
    """A value without braces and brackets for each field that a template may have."""
    return {field: text_of(random, random.integers(1, longest + 1), "abc ") for field in FIELDS}


Token = tuple[int, str, str]  # id, role, field


def laid_out(text: str, record: dict[str, str], tokenizer: Tokenizer) -> list[Token]:
    """The tokens of a sample, piece by piece. A token counts for the part that its last character stands in."""
    tokens: list[Token] = []
    for piece in TEMPLATES[text][1]:
        parts = [(part.format(**record), role, part.strip(" {}") if "{" in part else "") for part, role in piece]
        owners = [(role, field) for filled, role, field in parts for _ in filled]
        whole = tokenizer.encode("".join(filled for filled, _, _ in parts), add_special_tokens=False)
        tokens += [
            (i, *owners[max(first, last - 1)]) for i, (first, last) in zip(whole.ids, whole.offsets, strict=True)
        ]
    return tokens if tokens[-1][1] == "end" else [*tokens, (tokenizer.get_vocab()[END], "end", "")]


def _samples(trial: Trial, longest: int) -> Iterator[tuple[Any, list[Token], str, str]]:
    """A sample of every template: as made, token by token, and the field that may be cut, by the template and by us."""
    templates, random = shared_module(trial, "gpt2.data.templates"), random_of(trial)
    for text, (cut, _) in TEMPLATES.items():
        record = _record(random, longest)
        template = templates.Template(text, "output", None if cut == "input" else cut)  # the input is the default
        given = {field: record[field] for field in template.fields}
        tokenizer = tokenizer_of(trial, str(random.choice(KINDS)), text.format(**record) + "".join(record.values()))
        end = [tokenizer.token_to_id(END)]
        yield template.lay_out(given, tokenizer, end), laid_out(text, record, tokenizer), template.truncate, cut


@law("data")
def a_sample_is_its_template_filled_in(trial: Trial) -> Verdicts:
    """A sample has the tokens of its template with the fields filled in by name, and then one end: the last [SEP] of
    the template, or the end of text. A token that belongs to two parts counts for the later one. The prompt is the text
    before the output and its space.

    Proof: this is the definition of a template.
    """
    for sample, tokens, *_ in _samples(trial, trial.case.sizes["T"]):
        yield equal(sample.ids.tolist(), [i for i, _, _ in tokens])
        yield equal(sample.roles, tuple(role for _, role, _ in tokens))
        yield equal(sample.fields, tuple(field for _, _, field in tokens))
    record = _record(random_of(trial), trial.case.sizes["T"])
    for text in TEMPLATES:
        template = shared_module(trial, "gpt2.data.templates").Template(text, "output")
        filled, (before, _) = text.format(**record), text.split("{output}")
        yield equal((template.prompt(record), template.fill(record)), (before.format(**record).rstrip(" "), filled))


@law("data")
def the_output_and_its_end_are_scored(trial: Trial) -> Verdicts:
    """The tokens from the output on are scored, with the space before it and the end after it, and no others; or all
    are.

    Proof: this is the definition. What the model does not learn to write is its task and input.
    """
    for sample, tokens, *_ in _samples(trial, trial.case.sizes["T"]):
        first = [role for _, role, _ in tokens].index("output")
        ids = [i for i, _, _ in tokens]
        yield equal(sample.labels("output", IGNORED).tolist(), [IGNORED] * first + ids[first:])
        yield equal(sample.labels("all", IGNORED).tolist(), ids)


@law("data")
def only_the_end_of_one_field_is_cut(trial: Trial) -> Verdicts:
    """A sample that is too long loses the last tokens of one field, with their roles; nothing else is lost.

    Proof: to remove the field's last token until the sample fits removes no more than must be.
    """
    for sample, tokens, named, field in _samples(trial, trial.case.sizes["T"]):
        count = [name for _, _, name in tokens].count(field)
        for length in range(len(tokens) - count + 1, len(tokens) + 1):
            left = list(tokens)
            while len(left) > length:
                del left[max(i for i, (_, _, name) in enumerate(left) if name == field)]
            cut = sample.cut(length, named)
            yield equal([*zip(cut.ids.tolist(), cut.roles, cut.fields, strict=True)], left)
