"""What `--help` says: every command under a heading, in whole sentences, with two examples that can be typed."""

import shlex

import click
import pytest

from gpt2.backends import get_backend
from gpt2.commands.help import EXAMPLES
from gpt2.commands.main import cli
from tests.gpt2.command import run

of_every_command = pytest.mark.parametrize("name", EXAMPLES)


def test_every_command_stands_under_a_heading_and_is_described_in_full() -> None:
    said = run("--help").result
    assert "..." not in said.partition("Options:")[2]
    assert {name.split()[0] for name in EXAMPLES} == set(cli.commands)
    for heading, names in cli.sections.items():
        assert f"{heading}:\n" in said
        assert all(f"\n  {name} " in said for name in names)
    assert sorted(cli.commands) == sorted(name for names in cli.sections.values() for name in names)


@of_every_command
def test_help_ends_with_its_examples(name: str) -> None:
    said = run(*name.split(), "--help").result
    assert said.endswith("\n".join(["  Examples:", *(f"    {example}" for example in EXAMPLES[name]), ""]))


@of_every_command
def test_an_example_can_be_typed(name: str) -> None:
    """Its options exist, and its arguments are as many as the command takes."""
    for example in EXAMPLES[name]:
        words = shlex.split(example.rpartition("| ")[2])
        assert words[: 1 + len(name.split())] == ["gpt2", *name.split()][: len(words)]
        command: click.Command = cli
        for word in words[1:]:
            if not isinstance(command, click.Group):
                break
            command = command.commands[word]
        depth = 2 + (command.name != words[1] and words[1] in ("finetune", "peers", "report"))
        command.make_context(name, words[depth:], resilient_parsing=False).close()


@pytest.mark.parametrize("device", ["cpu", "Cpu", "CPU"])
def test_a_device_may_be_written_in_any_case(device: str) -> None:
    assert get_backend("numpy", device=device).device == "CPU"
    assert '"device": "CPU"' in run("logits", "tiny", "--ids", "1", "--device", device, "--json").result


def test_backends_that_commands_name_themselves_are_not_offered() -> None:
    refusal = run("logits", "tiny", "--ids", "1", "--backend", "nimpy").refusal
    assert "mindspore, numpy" in refusal
    assert "exercise" not in refusal
    assert "port" not in refusal
