"""Environments of peers are whole or not there, and who asks for one that is not is told how to get it."""

from pathlib import Path

import pytest

from gpt2.errors import GPT2Error
from gpt2.peers import environments
from tests.gpt2.command import run

NAME = "mindspore@9.8.7"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of environments, and no ready interpreter."""
    monkeypatch.setenv("GPT2_PEERS", str(tmp_path / "peers"))
    monkeypatch.delenv("GPT2_PEER_PYTHON", raising=False)
    return tmp_path / "peers"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be run; the first command makes what `python -m venv` makes."""
    commands: list[list[str]] = []

    def note(name: str, command: list[str]) -> None:
        commands.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir()
            python.symlink_to("/bin/false")

    monkeypatch.setattr(environments, "_run", note)
    return commands


def test_it_is_made_from_the_pinned_lists(home: Path, ran: list[list[str]]) -> None:
    assert run("peers", "install", NAME).out == f"{home / NAME / 'bin' / 'python'}\n"
    assert [command[1:3] for command in ran] == [["-m", "venv"], ["-m", "pip"]]
    assert "mindspore==9.8.7\n" in Path(ran[1][-1]).read_text()
    assert "gpt2 peers remove" in run("peers", "install", NAME).refusal
    run("peers", "install", "mindnlp")
    assert "--no-deps" not in ran[-2]
    assert "--no-deps" in ran[-1]
    assert "mindnlp==" in Path(ran[-1][-1]).read_text()
    listed = run("peers", "list")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["mindnlp", NAME]
    assert '"mindnlp"' in run("peers", "list", "--json").result
    assert run("peers", "remove", NAME).result == ""
    assert not (home / NAME).exists()
    assert "is not installed" in run("peers", "remove", NAME).refusal


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), GPT2Error("no such version"), OSError("the disk is full")])
def test_one_that_is_interrupted_leaves_nothing(
    error: BaseException, last: int, home: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = environments._run

    def stop(name: str, command: list[str]) -> None:
        make(name, command)
        if len(ran) == last:
            raise error

    monkeypatch.setattr(environments, "_run", stop)
    assert run("peers", "install", NAME).code == (130 if isinstance(error, KeyboardInterrupt) else 2)
    assert not (home / NAME).exists()


def test_one_that_was_killed_is_not_taken_for_whole(home: Path, ran: list[list[str]]) -> None:
    python = environments.install(NAME, say=lambda line: None)
    (home / NAME / environments.STAMP).unlink()
    (home / NAME / "half").touch()
    assert run("peers", "list").out == ""
    assert f"gpt2 peers install {NAME}" in run("logits", "tiny", "--ids", "1", "--backend", NAME).refusal
    assert environments.install(NAME, say=lambda line: None) == python
    assert not (home / NAME / "half").exists()


def test_two_that_are_made_at_once_do_not_delete_each_other(
    home: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, said = environments._run, list[str]()

    def meanwhile(name: str, command: list[str]) -> None:
        make(name, command)
        said.extend(run("peers", what, NAME).refusal for what in ("install", "remove"))

    monkeypatch.setattr(environments, "_run", meanwhile)
    assert run("peers", "install", NAME).code == 0
    assert said == [f"peer {NAME!r} is being installed or removed by another process"] * 4
    assert run("peers", "remove", NAME).code == 0


def test_one_that_cannot_be_removed_is_one_line(
    home: Path, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    environments.install(NAME, say=lambda line: None)
    monkeypatch.setattr(environments.shutil, "rmtree", refuse)
    assert "cannot remove peer" in run("peers", "remove", NAME).refusal


def test_what_pip_says_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GPT2Error, match="cannot install peer 'torch': no such thing"):
        environments._run("torch", ["sh", "-c", "echo 'ERROR: no such thing' >&2; exit 1"])
    assert "gpt2: error: cannot install peer" in run("peers", "install", NAME, "--python", "false").err
    assert not (home / NAME).exists()


@pytest.mark.parametrize("command", ["check", "logits tiny --ids 1", "generate tiny a", "blame tiny a"])
@pytest.mark.parametrize("name", ["torch", "mindnlp", "mindspore@2.9.0"])
def test_who_asks_for_one_that_is_not_installed_is_told_how_to_get_it(command: str, name: str) -> None:
    refusal = run(*command.split(), "--backend", name).refusal
    assert refusal == f"peer {name!r} is not installed: gpt2 peers install {name}"


@pytest.mark.parametrize("name", ["mindspore@", "mindspore@latest", "mindspore@../2.9", "mindspore@VERSION"])
def test_a_version_is_a_version(name: str, home: Path) -> None:
    assert "mindspore@2.9.0" in run("peers", "install", name).refusal
    assert "mindspore@2.9.0" in run("logits", "tiny", "--ids", "1", "--backend", name).refusal
    assert not home.exists()


@pytest.mark.parametrize("name", ["torch", "mindnlp"])
def test_the_mode_of_another_backend_is_refused(name: str) -> None:
    said = run("logits", "tiny", "--ids", "1", "--backend", name, "--mode", "graph").refusal
    assert said == f"backend {name!r} has no mode 'graph': leave --mode out"


def test_an_unknown_backend_is_answered_with_the_peers_too() -> None:
    assert "torch, mindnlp, mindspore@VERSION" in run("logits", "tiny", "--ids", "1", "--backend", "tourch").refusal


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan"])
def test_a_limit_is_a_number_of_seconds(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2_PEER_SECONDS", seconds)
    assert "GPT2_PEER_SECONDS" in run("logits", "tiny", "--ids", "1", "--backend", "torch:python3").refusal


def test_a_command_that_does_not_start_is_one_line() -> None:
    said = run("logits", "tiny", "--ids", "1", "--backend", "torch:/no/python").refusal
    assert "torch:/no/python cannot be started: /no/python: No such file" in said
    said = run("logits", "tiny", "--ids", "1", "--backend", "torch:sh -c 'exit 3'").refusal
    assert "ended with exit code 3" in said
    assert "cannot be read" in run("logits", "tiny", "--ids", "1", "--backend", "torch:'").refusal


@pytest.mark.parametrize(
    ("does", "said"),
    [("echo hello", "ended with exit code 0"), ("echo no numpy >&2; exit 1", "it said: no numpy")],
)
def test_an_interpreter_that_does_not_serve_is_named(
    does: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "a python"
    python.write_text(f"#!/bin/sh\n{does}\n")
    python.chmod(0o755)
    monkeypatch.setenv("GPT2_PEER_PYTHON", str(python))
    refusal = run("logits", "tiny", "--ids", "1", "--backend", "torch").refusal
    assert said in refusal
    assert refusal.endswith(f" ($GPT2_PEER_PYTHON is {python})")
