"""`gpt2 report`: what is done with reports of `gpt2 check` that are there already."""

import sys
from pathlib import Path

import click

from gpt2.commands.help import GroupedCommands
from gpt2.commands.options import console, json_option


@click.group(cls=GroupedCommands)
def report() -> None:
    """Put the parts of a long check together, which ran on several machines.

    Each part is `gpt2 check --shard 2/8 --json > 2.json`.
    """


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--script", "with_script", is_flag=True, help="Also print the script that reproduces each failure.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write the report as one HTML file.")
@click.option("--junit", type=click.Path(path_type=Path), help="Also write the report as JUnit XML.")
@json_option
def merge(files: tuple[Path, ...], with_script: bool, html: Path | None, junit: Path | None, as_json: bool) -> None:
    """Print what one run would have printed, of FILES: the JSON of all its shards, in any order.

    The exit code is that of one run. Files of other seeds, examples, backends or versions are refused, and so are
    shards that are there twice or missing.
    """
    from parity.report import merge_shards, print_report, require_outputs, write_files

    require_outputs(html, junit)
    whole, names = merge_shards(files)
    if as_json:
        click.echo(whole.to_json())
    else:
        print_report(whole, console, with_absent=bool(names), with_scripts=with_script)
    write_files(whole, html, junit)
    sys.exit(whole.exit_code)


report.add_sections({"Reports": (merge,)}, prefix="report ")
