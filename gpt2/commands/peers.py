"""`gpt2 peers`: the environments of backends that run in an interpreter of their own."""

import click

from gpt2.backends.registry import PEERS
from gpt2.commands.help import GroupedCommands
from gpt2.commands.options import echo_json, json_option
from gpt2.peers import environments

MEGABYTE = 10**6


@click.group(cls=GroupedCommands)
def peers() -> None:
    """Install PyTorch, MindNLP or another MindSpore beside this one, each in an environment of its own, to judge it.

    A peer is a backend: `gpt2 check --backend torch`. What it needs is pinned, and nothing here depends on it.
    """


@click.command()
@click.argument("name", metavar="PEER")
@click.option("--python", "interpreter", help="The Python to make the environment with  [this one].")
def install(name: str, interpreter: str | None) -> None:
    """Install PEER: torch, mindnlp, or mindspore@2.9.0 with any version. Takes minutes, and up to 3 GB."""
    python = environments.install(name, interpreter, lambda line: click.echo(f"gpt2: {line}", err=True))
    click.echo(str(python))


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the peers that are installed, and where: in $GPT2_PEERS, or the user's cache."""
    found = {name: environments.size(name) for name in environments.installed()}
    if as_json:
        echo_json({"folder": str(environments.home()), "peers": found})
        return
    for name, size in found.items():
        click.echo(f"{name}  {size // MEGABYTE} MB  {environments.home() / name}")
    click.echo(f"gpt2: to install: {', '.join(name for name in PEERS if name not in found)}", err=True)


@click.command()
@click.argument("name", metavar="PEER")
def remove(name: str) -> None:
    """Delete the environment of PEER."""
    environments.remove(name)


peers.add_sections({"Environments": (install, list_, remove)}, prefix="peers ")
