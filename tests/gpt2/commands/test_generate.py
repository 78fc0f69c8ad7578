"""`gpt2 generate`: what it prints for people and for machines, as it comes and at the end, and what it refuses."""

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from string import ascii_letters
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

import gpt2
from gpt2.commands.generate import Stream
from gpt2.model.model import left_padded
from tests.gpt2.command import Ran, run
from tests.gpt2.conftest import usable
from tests.gpt2.small import ROOT, SMALL, folder_of

PROMPT = "né"  # three bytes
SAMPLED = ("--temperature", "1.5", "--top-k", "40", "--top-p", "0.9")
ONE = ("--ids", "1")


def facts(*arguments: Any) -> Any:
    """What a command says with --json."""
    return json.loads(run(*arguments, "--json").result)


def first(*arguments: Any) -> Any:
    """What it says of the first continuation."""
    return facts(*arguments)["continuations"][0]


def file_of(path: Path, *lines: str) -> Path:
    """A file of prompts."""
    (path / "prompts").write_text("\n".join(lines), encoding="utf-8")
    return path / "prompts"


# One prompt.


def test_ids_are_printed_where_there_is_no_tokenizer(small: Path) -> None:
    ids = gpt2.load(small, "numpy").generate([1, 2, 3], 5)[0]
    printed = run("generate", small, "--ids", "1, 2 3", "--max-new-tokens", "5").result
    assert printed == " ".join(map(str, ids)) + "\n"


def test_text_is_printed_where_there_is_a_tokenizer(speaker: Path) -> None:
    model = gpt2.load(speaker, "numpy")
    expected = model.decode(model.generate(model.encode(PROMPT), 9)[0])
    assert run("generate", speaker, PROMPT, "--max-new-tokens", "9").result == expected + "\n"


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "top_k": 40}, {"num_beams": 3}])
def test_machines_are_told_all(options: dict[str, Any], speaker: Path) -> None:
    named = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    said = facts("generate", speaker, PROMPT, "--max-new-tokens", "9", *named)
    model = gpt2.load(speaker, "numpy")
    found = model.generate_all(model.encode(PROMPT), 9, **options)
    continuation = {
        "prompt_ids": found.ids[0, :3].tolist(),
        "new_ids": found.new_ids[0],
        "text": model.decode(found.ids[0]),
        "finish_reason": "length",
        "score": found.scores[0],
        "log_probabilities": found.log_probabilities[0],
    }
    assert said == {
        **continuation,
        "continuations": [continuation],
        "backend": "numpy",
        "device": "CPU",
        "dtype": "float32",
        "mode": "eager",
    }


def test_there_is_no_text_for_machines_where_there_is_no_tokenizer(small: Path) -> None:
    assert first("generate", small, *ONE)["text"] is None


@pytest.mark.parametrize("seed", range(5))
def test_pieces_as_they_come_join_to_the_text_for_machines(seed: int, speaker: Path) -> None:
    options = ("generate", speaker, PROMPT, "--max-new-tokens", "20", *SAMPLED, "--seed", seed)
    assert run(*options).result == first(*options)["text"] + "\n"


REVERSE = ("generate", "tiny", "reverse: ab\n")


def test_the_special_token_that_ends_a_text_is_not_printed() -> None:
    assert run(*REVERSE).result == "reverse: ab\nba\n"
    assert run(*REVERSE, "--n", 2, "--temperature", 0.01).result == "reverse: ab\nba\n---\nreverse: ab\nba\n"
    facts = first(*REVERSE)
    assert facts["text"] == "reverse: ab\nba"
    assert len(facts["new_ids"]) == 3


def test_a_special_token_within_a_text_is_printed() -> None:
    assert run(*REVERSE, "--stop-id", 0, "--max-new-tokens", 5).result.startswith("reverse: ab\nba<|endoftext|>")


@pytest.mark.parametrize("count", [0, 1])
def test_the_prompt_is_printed_before_few_tokens_too(count: int, small: Path) -> None:
    printed = run("generate", small, "--ids", "4 5", "--max-new-tokens", count).result
    assert re.fullmatch(r"4 5" + r" \d+" * count + "\n", printed)


def test_the_prompt_may_come_from_standard_input(speaker: Path) -> None:
    assert run("generate", speaker, "-", stdin=PROMPT) == run("generate", speaker, PROMPT)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(speaker: Path) -> None:
    def text(seed: int) -> str:
        return run("generate", speaker, PROMPT, *SAMPLED, "--seed", seed).result

    assert text(1) == text(1) != text(2)


BASES: dict[str, dict[str, Any]] = {
    "hot": {"temperature": 4.0},
    "greedy": {"max_new_tokens": 25},
    "beams": {"num_beams": 4, "max_new_tokens": 25, "stop_ids": (1, 183)},
}


@pytest.mark.parametrize(
    ("base", "option", "value"),
    [
        ("hot", "top_k", 2),
        ("hot", "top_p", 0.25),
        ("hot", "min_p", 0.5),
        ("hot", "seed", 1),
        ("hot", "temperature", 0.25),
        ("greedy", "repetition_penalty", 3.0),
        ("greedy", "no_repeat_ngram_size", 1),
        ("greedy", "max_new_tokens", 3),
        ("greedy", "num_beams", 4),
        ("beams", "length_penalty", -5.0),
        ("beams", "early_stopping", "never"),
    ],
)
def test_an_option_does_what_its_argument_does(base: str, option: str, value: float, speaker: Path) -> None:
    def options(chosen: dict[str, Any]) -> list[str]:
        named = [(name, each) for name, value in chosen.items() for each in np.atleast_1d(value).tolist()]
        return [
            f"--{name.removesuffix('s') if name == 'stop_ids' else name}".replace("_", "-") + f"={each}"
            for name, each in named
        ]

    usual = BASES[base]
    said, without = (first("generate", speaker, PROMPT, *options(x)) for x in (usual | {option: value}, usual))
    model = gpt2.load(speaker, "numpy")
    ids = model.generate(model.encode(PROMPT), **(usual | {option: value}))[0]
    assert said["prompt_ids"] + said["new_ids"] == ids[: 3 + len(said["new_ids"])].tolist()
    assert said["new_ids"] != without["new_ids"]


@pytest.mark.parametrize("options", [(), SAMPLED, ("--num-beams", "3", "--no-repeat-ngram-size", "2")])
@pytest.mark.parametrize("mode", ["pynative", "graph"])
def test_mindspore_writes_the_same_text(mode: str, options: tuple[str, ...], speaker: Path) -> None:
    usable(f"mindspore {mode}")
    command = ("generate", speaker, PROMPT, *options)
    assert run(*command, "--backend", "mindspore", "--mode", mode).result == run(*command).result


# Where it ends, and what it must not write.


def test_a_stop_text_ends_and_is_kept(speaker: Path) -> None:
    free = first("generate", speaker, "ab", *SAMPLED)
    text = next(letter for letter in free["text"].removeprefix("ab") if letter.isascii())
    stopped = first("generate", speaker, "ab", *SAMPLED, "--stop", "no such text", "--stop", text)
    assert stopped["finish_reason"] == "stop"
    assert stopped["new_ids"] == free["new_ids"][: len(stopped["new_ids"])]
    assert stopped["text"].removeprefix("ab").index(text) == len(stopped["text"]) - 3


def test_a_stop_id_ends_but_not_before_enough_tokens(small: Path) -> None:
    free = first("generate", small, *ONE)["new_ids"]
    stopped = first("generate", small, *ONE, "--stop-id", free[2])
    assert stopped["new_ids"] == free[: free.index(free[2]) + 1]
    assert len(first("generate", small, *ONE, "--stop-id", free[2], "--min-new-tokens", 9)["new_ids"]) >= 9


def test_bad_words_are_not_written(speaker: Path) -> None:
    free = first("generate", speaker, PROMPT)["new_ids"]
    banned = first("generate", speaker, PROMPT, "--bad-ids", free[0])["new_ids"]
    assert free[0] not in banned
    words = [option for letter in ascii_letters for option in ("--bad-word", letter)]
    assert re.search("[a-zA-Z]", first("generate", speaker, "1", *SAMPLED)["text"])
    assert not re.search("[a-zA-Z]", first("generate", speaker, "1", *SAMPLED, *words)["text"])


def test_beyond_the_context_the_window_slides_on_request(small: Path) -> None:
    new = SMALL.n_positions + 5
    assert len(first("generate", small, *ONE, "--max-new-tokens", new, "--sliding-window")["new_ids"]) == new


def test_a_prompt_beyond_the_context_is_refused(small: Path) -> None:
    refusal = run("generate", small, "--ids", "1 " * (SMALL.n_positions + 3)).refusal
    assert "shorten the prompt by 3" in refusal
    assert "--sliding-window" in refusal


# Several prompts.


def test_a_file_of_prompts_gives_each_what_it_gives_alone(speaker: Path, tmp_path: Path) -> None:
    lines = [PROMPT, "a much longer one", "", "b"]
    printed = run("generate", speaker, "--prompts", file_of(tmp_path, *lines), "--max-new-tokens", 4).result
    alone = [run("generate", speaker, line, "--max-new-tokens", 4).result for line in lines if line]
    assert printed == "---\n".join(alone)


def test_a_file_of_ids_does_where_there_is_no_tokenizer(small: Path, tmp_path: Path) -> None:
    said = facts("generate", small, "--prompts", file_of(tmp_path, "1 2", "3"))["continuations"]
    assert [row["prompt_ids"] for row in said] == [[1, 2], [3]]
    assert said[1]["new_ids"] == first("generate", small, "--ids", "3")["new_ids"]


def test_prompts_of_json_lines_stop_each_in_its_own_way(speaker: Path, tmp_path: Path) -> None:
    new = ("--max-new-tokens", 9)
    texts = [first("generate", speaker, text, *new)["text"][len(text) :] for text in ("a", "b")]
    stops = [text[3] for text in texts]
    lines: list[dict[str, Any]] = [{"prompt": "a", "stop": stops[0]}, {"prompt": "b", "stop": [stops[1], "\n"]}]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, {"prompt": "a"}])), encoding="utf-8")
    said = facts("generate", speaker, "--prompts", path, *new)["continuations"]
    alone = [first("generate", speaker, text, *new, "--stop", stop) for text, stop in zip("ab", stops, strict=True)]
    assert [row["new_ids"] for row in said[:2]] == [row["new_ids"] for row in alone]
    assert [row["finish_reason"] for row in said] == ["stop", "stop", "length"]
    common = facts("generate", speaker, "--prompts", path, *new, "--stop", stops[0])["continuations"]
    assert [common[i]["new_ids"] for i in (0, 2)] == [alone[0]["new_ids"]] * 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a", "line 1 is not valid JSON"),
        ("[]", "line 1 must be an object"),
        ('{"text": "a"}', "line 1 has"),
        ('{"prompt": "a", "stops": "b"}', "unknown field 'stops': is 'stop' meant?"),
        ('{"prompt": "a", "stop": ""}', "'stop'"),
        ('{"prompt": ""}', "the prompt is empty, and no bos_token_id"),
    ],
)
def test_json_lines_that_are_no_prompts_are_named(line: str, said: str, speaker: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text(line, encoding="utf-8")
    assert said in run("generate", speaker, "--prompts", tmp_path / "prompts.jsonl").refusal


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_size_of_a_batch_changes_nothing(size: int, speaker: Path, tmp_path: Path) -> None:
    command = ("generate", speaker, "--prompts", file_of(tmp_path, *"abcab"), *SAMPLED, "--n", 2, "--max-new-tokens", 6)
    said = [facts(*command, "--batch-size", each)["continuations"] for each in (size, 5)]
    assert [row["new_ids"] for row in said[0]] == [row["new_ids"] for row in said[1]]
    assert len({tuple(row["new_ids"]) for row in said[0]}) > 5  # equal prompts draw their own chance


@pytest.mark.parametrize("how", [("--temperature", "2"), ("--num-beams", "3")])
def test_several_continuations_of_one_prompt(how: tuple[str, ...], speaker: Path) -> None:
    command = ("generate", speaker, PROMPT, *how, "--n", "3")
    said = facts(*command)["continuations"]
    assert len({tuple(row["new_ids"]) for row in said}) == 3
    assert run(*command).result == "---\n".join(row["text"] + "\n" for row in said)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4))
def test_padding_on_the_left_keeps_every_prompt(prompts: list[list[int]]) -> None:
    ids, mask = left_padded([np.array(prompt) for prompt in prompts])
    assert [row[kept == 1].tolist() for row, kept in zip(ids, mask, strict=True)] == prompts
    assert (np.diff(mask, axis=1) >= 0).all()


# Ties.


def test_noise_is_told_to_people_and_machines(speaker: Path) -> None:
    said = first("generate", speaker, PROMPT, "--ties")
    assert said["ties"] == []
    ran = run("generate", speaker, PROMPT, "--ties")
    assert (ran.code, ran.out, ran.err) == (0, said["text"] + "\n", "gpt2: note: no choice is noise\n")


def test_equal_scores_are_noise(tmp_path: Path) -> None:
    model = gpt2.load(folder_of(tmp_path / "plain"), "numpy")
    best = int(model.generate([1], 1)[0, 1])
    other = (best + 1) % SMALL.vocab_size
    twins = {name: x.copy() for name, x in model.parameters.items()}
    twins["wte.weight"][other] = twins["wte.weight"][best]
    folder = folder_of(tmp_path / "twins", tensors=twins)
    ran = run("generate", folder, *ONE, "--max-new-tokens", 1, "--ties")
    assert ran.err == "gpt2: note: the choice of new token 1 is noise\n"
    ran = run("generate", folder, *ONE, "--max-new-tokens", 1, "--num-beams", 2, "--ties")
    assert ran.err == "gpt2: note: the choice of new token 1 is noise\n"


# Refusals.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["text", "--prompts", "file"], ["PROMPT", "--ids", "--prompts"]),
        (["--prompts", "no/such/file"], ["cannot read the data no/such/file", "No such file"]),
        ([*ONE, "--num-beams", 2, "--temperature", 1], ["beam search does not sample"]),
        ([*ONE, "--num-beams", 2, "--n", 3], ["num_return_sequences", "num_beams = 2", "3"]),
        ([*ONE, "--n", 2], ["num_return_sequences", "temperature", "num_beams"]),
        ([*ONE, "--n", 0], ["num_return_sequences", "0"]),
        ([*ONE, "--num-beams", 0], ["num_beams", "0"]),
        ([*ONE, "--num-beams", 10**9], ["num_beams", "1000"]),
        ([*ONE, "--min-p", 2], ["min_p", "2.0"]),
        ([*ONE, "--typical-p", 0], ["typical_p", "0.0"]),
        ([*ONE, "--repetition-penalty", 0], ["repetition_penalty", "0.0"]),
        ([*ONE, "--length-penalty", "nan"], ["length_penalty", "nan"]),
        ([*ONE, "--no-repeat-ngram-size", -1], ["no_repeat_ngram_size", "-1"]),
        ([*ONE, "--min-new-tokens", 21], ["min_new_tokens", "max_new_tokens = 20", "21"]),
        ([*ONE, "--early-stopping", "maybe"], ["--early-stopping", "'maybe'", "never"]),
        ([*ONE, "--stop", "x"], ["no tokenizer", "stop_ids"]),
        ([*ONE, "--bad-word", "x"], ["no", "tokenizer", "--bad-ids"]),
        ([*ONE, "--bad-ids", "x"], ["--bad-ids", "'x'"]),
        ([*ONE, "--bad-ids", ""], ["bad_words", "at least one id"]),
        ([*ONE, "--bad-ids", "999"], ["bad_words", "999 is outside the vocabulary"]),
        ([*ONE, "--bad-ids", "3", "--stop-id", "3"], ["bad_words", "3 is a stop id"]),
        (["--ids", " ".join(["1"] * 30)], ["30 tokens", "context of 24", "by 6", "--sliding-window"]),
        ([*ONE, "--ties", "--sliding-window"], ["ties", "--sliding-window"]),
    ],
    ids=repr,
)
def test_what_cannot_be_is_named(options: list[Any], said: list[str], small: Path) -> None:
    refusal = run("generate", small, *options).refusal
    assert all(words in refusal for words in said), refusal


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "is empty"),
        (["", "  "], "is empty"),
        (["1", "x"], "line 2"),
        (["1", "", "99"], "99 is outside the vocabulary"),
    ],
)
def test_a_file_without_usable_prompts_is_named(lines: list[str], said: str, small: Path, tmp_path: Path) -> None:
    assert said in run("generate", small, "--prompts", file_of(tmp_path, *lines)).refusal


def test_a_file_that_is_no_text_is_named(small: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts").write_bytes(b"\xff")
    refusal = run("generate", small, "--prompts", tmp_path / "prompts").refusal
    assert f"{tmp_path / 'prompts'} is not UTF-8: line 1 holds the byte 0xff" in refusal


def test_a_character_without_token_is_named(small: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder = folder_of(tmp_path / "letters")
    tokenizer.save(str(folder / "tokenizer.json"))
    assert "no token for 'z'" in run("generate", folder, "abz").refusal
    assert (
        "line 2: the tokenizer has no token for 'z'"
        in run("generate", folder, "--prompts", file_of(tmp_path, "a", "z")).refusal
    )


# Ctrl-C.

INTERRUPTING = """
import os, signal
from gpt2.generation import beams, loop
original = loop.finish_reason
def finish_reason(new_ids, *rest):
    if len(new_ids) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return original(new_ids, *rest)
beams.finish_reason = loop.finish_reason = finish_reason
from gpt2.commands.main import main
main()
"""


@pytest.mark.parametrize("options", [(), ("--temperature", "1", "--n", "2"), ("--num-beams", "2"), ("--json",)])
def test_an_interrupt_prints_what_there_is(options: tuple[str, ...], small: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTING, "generate", str(small), *ONE, *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (130, "gpt2: interrupted: this is the text generated so far\n")
    if options == ("--json",):
        said = json.loads(ran.stdout)["continuations"][0]
        assert (len(said["new_ids"]), said["finish_reason"]) == (3, "interrupted")
    else:
        assert all(len(line.split()) == 4 for line in ran.stdout.splitlines() if line != "---")
        assert ran.stdout


def test_a_handler_of_ones_own_is_back_afterwards(small: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run("generate", small, *ONE)
    assert signal.getsignal(signal.SIGINT) is before


# The stream of pieces.


class Bytes:
    """Stands for a model with a tokenizer whose tokens are bytes."""

    tokenizer = Tokenizer(models.BPE())  # asked for special tokens, and has none

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")


def pieces(ids: bytes, prompt_length: int) -> list[str]:
    """What a stream has printed after each of the tokens that follow the prompt, and at the end."""
    out, printed = io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        stream = Stream(Bytes(), np.array(list(ids[:prompt_length]), np.int64))
        for token in ids[prompt_length:]:
            stream(np.array([token]))
            printed.append(out.getvalue())
        stream.end()
    return [*printed, out.getvalue()]


@given(st.binary(min_size=1), st.data())
def test_pieces_of_any_bytes_join_to_their_text(raw: bytes, data: st.DataObject) -> None:
    assert pieces(raw, data.draw(st.integers(0, len(raw))))[-1] == Bytes().decode(list(raw)) + "\n"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\N{REPLACEMENT CHARACTER}"), min_size=1))
def test_no_piece_ends_inside_a_character(text: str) -> None:
    assert all(text.startswith(piece.removesuffix("\n")) or piece == text + "\n" for piece in pieces(text.encode(), 1))


# What a person would not expect.

AT_ONCE = "the model ended the text at once: its first new token is the end of text, id 65"
LINE_END = (
    r". If its prompts in training end with a line end, this one needs one, too: printf '...\n' | gpt2 generate tiny -"
)


def test_a_text_that_ends_at_once_is_told_and_why() -> None:
    assert run("generate", "tiny", "reverse: spore") == Ran(0, "reverse: spore\n", f"gpt2: note: {AT_ONCE}{LINE_END}\n")
    said = run("generate", "tiny", "reverse: spore", "--json")
    assert (json.loads(said.out)["finish_reason"], said.err) == ("stop", f"gpt2: note: {AT_ONCE}{LINE_END}\n")
    assert run("generate", "tiny", "-", stdin="reverse: spore\n").err == ""
    assert run("generate", "tiny", "-", stdin="reverse: spore").err == f"gpt2: note: {AT_ONCE}\n"
    assert run("generate", "tiny", "reverse: spore", "--min-new-tokens", 1).err == ""


def test_texts_of_a_file_that_end_at_once_are_counted(tmp_path: Path) -> None:
    said = run("generate", "tiny", "--prompts", file_of(tmp_path, "copy: a", "reverse: spore"), "--batch-size", 1).err
    assert said == (
        "gpt2: note: the model ended 1 of 2 texts at once: their first new token is the end of text, id 65\n"
    )


@pytest.mark.parametrize("options", [(), ("--num-beams", "2"), ("--temperature", "1", "--n", "2")])
def test_a_text_stops_at_the_end_of_the_context_and_says_so_once(options: tuple[str, ...], small: Path) -> None:
    ran = run("generate", small, "--ids", "1 2", "--max-new-tokens", 100, *options)
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert ran.err.endswith(
        "stopped at the end of the context, 24 tokens, after 23 new ones: --sliding-window goes on\n"
    )
    assert all(len(line.split()) == 25 for line in ran.out.splitlines() if line != "---")
    told = json.loads(run("generate", small, "--ids", "1 2", "--max-new-tokens", 100, *options, "--json").out)
    assert {row["finish_reason"] for row in told["continuations"]} == {"context"}
    slid = run("generate", small, "--ids", "1 2", "--max-new-tokens", 26, *options, "--sliding-window").result
    assert all(len(line.split()) == 28 for line in slid.splitlines() if line != "---")


def test_batches_that_stop_at_the_end_of_the_context_have_one_note(tmp_path: Path, small: Path) -> None:
    lines = file_of(tmp_path, "1 2", "3", "4 5 6")
    ran = run("generate", small, "--prompts", lines, "--batch-size", 2, "--max-new-tokens", 23)
    assert ran.err == (
        "gpt2: note: 1 of 3 texts stopped at the end of the context, 24 tokens, after 22 new ones: "
        "--sliding-window goes on\n"
    )


def test_a_missing_prompt_is_named_before_the_model_is_loaded() -> None:
    for command in ("generate", "logits"):
        said = run(command, "tiny").refusal
        assert said.startswith("PROMPT is missing: give it after MODEL ('-': standard input), or give --ids")
    assert run("generate", "/nowhere").refusal.startswith("PROMPT is missing")
    assert run("generate", "tiny", "a", "--ids", "1").refusal == "give only one of PROMPT, --ids, --prompts"
