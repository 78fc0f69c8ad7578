"""`gpt2 judge`: judge a run that was recorded on another machine."""

import sys
from pathlib import Path

import click

from gpt2.arguments import LANGUAGES
from gpt2.commands.options import console, json_option


@click.command()
@click.argument("dump", type=click.Path(path_type=Path))
@click.option(
    "--model", help="The GPT-2 that was run, a folder or a name: judge every stage from the recorded ids, too."
)
@click.option("--against", type=click.Path(path_type=Path), help="A second recording to compare with.")
@click.option(
    "--operators", type=click.Path(path_type=Path), help="A YAML file of operators that the judge does not know."
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write the report as one HTML file.")
@click.option("--junit", type=click.Path(path_type=Path), help="Also write the report as JUnit XML.")
@click.option("--language", type=click.Choice(LANGUAGES), default="en", show_default=True, help="Of table and page.")
@json_option
def judge(
    dump: Path,
    model: str | None,
    against: Path | None,
    operators: Path | None,
    html: Path | None,
    junit: Path | None,
    language: str,
    as_json: bool,
) -> None:
    """Judge a run that was recorded elsewhere: every call on its own recorded inputs, so that no error is inherited.

    DUMP is a folder of msprobe (mindstudio-probe), of troubleshooter, of gpt2.record, or of arrays that are named by
    stage. Nothing in it is executed. Exit code 1 if anything differs, 2 if a file cannot be read, 3 if nothing was
    judged.
    """
    from gpt2.files import require_writable, write_text
    from parity.recorded.operators import load_operators
    from parity.recorded.read import read_recording
    from parity.report.recorded.machine import junit as junit_document
    from parity.report.recorded.machine import to_json
    from parity.report.recorded.page import recorded_page
    from parity.report.recorded.run import LoadedModel, judge_recording, require_calls
    from parity.report.recorded.table import print_recorded

    for path in filter(None, (html, junit)):
        require_writable(path)
    table = load_operators(operators)
    recording = read_recording(dump)
    other = None if against is None else read_recording(against)
    for each in filter(None, (recording, other)):
        require_calls(each)
    report = judge_recording(recording, None if model is None else LoadedModel.of(model), other, table)
    if as_json:
        click.echo(to_json(report))
    else:
        print_recorded(report, console, language)
    if html is not None:
        write_text(html, recorded_page(report, language))
    if junit is not None:
        write_text(junit, junit_document(report))
    sys.exit(report.exit_code)
