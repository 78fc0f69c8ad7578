"""The command `gpt2`. Results go to standard output. An error is one line on standard error, with exit code 2."""

import errno
import os
import re
import sys
import warnings

import click

from gpt2.commands.compare import compare
from gpt2.commands.demo import demo
from gpt2.commands.evaluate import evaluation
from gpt2.commands.explain import explain
from gpt2.commands.finetune import classify, summarize, tune
from gpt2.commands.generate import generate
from gpt2.commands.help import GroupedCommands
from gpt2.commands.judge import blame, check
from gpt2.commands.lesson import lesson
from gpt2.commands.model import convert, info, levels, logits
from gpt2.commands.on_trial import (
    diagnosis_table,
    exercise,
    explanation_table,
    kill_table,
    measure_accuracy,
    other_rules,
    reach,
)
from gpt2.commands.options import FOREIGN
from gpt2.commands.peers import peers
from gpt2.commands.recorded import judge
from gpt2.commands.report import report
from gpt2.commands.tasks import tasks
from gpt2.commands.train import train
from gpt2.errors import GPT2Error, described
from gpt2.files import user_cache
from gpt2.peers import PeerError

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SECTIONS = {
    "Run a model": (generate, summarize, classify, logits, info, convert),
    "Train and evaluate": (train, tune, evaluation, tasks, levels),
    "Judge an implementation": (check, report, judge, blame, explain, reach, peers),
    "Test the judge": (kill_table, diagnosis_table, explanation_table, other_rules, measure_accuracy),
    "Learn": (demo, lesson, compare, exercise),
}


def main() -> None:
    """Run the command; report every expected error as one line, with exit code 2."""
    warnings.showwarning = lambda message, *_: click.echo(_one_line(f"gpt2: note: {message}"), err=True)
    # Hypothesis keeps tables of Unicode and of constants, by default in the folder where the user happens to be.
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(user_cache() / "gpt2-parity" / "hypothesis"))
    try:
        cli(standalone_mode=False, prog_name="gpt2")
    except GPT2Error as error:
        _stop(f"gpt2: error: {error}")
    except click.exceptions.Abort:
        _stop("gpt2: interrupted", 130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = "gpt2" if context is None else context.command_path
        _stop(f"gpt2: error: {error.format_message()} (see {command} --help)", error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output is gone, so there is nobody to report to
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            _stop(f"gpt2: error: cannot write the output: {error.strerror}")
        if isinstance(error, PeerError) and not FOREIGN:  # it died before there was a model
            _stop(f"gpt2: error: {type(error).__name__}: {error}", 1)
        if not FOREIGN:
            raise
        if isinstance(error, NotImplementedError):
            _stop(f"gpt2: error: {FOREIGN[-1].name} does not offer what this needs: {error}", 1)
        _stop(f"gpt2: error: {FOREIGN[-1].name}: {described(error, getattr(FOREIGN[-1], 'file', None))}", 1)


def _stop(message: str, code: int = 2) -> None:
    click.echo(_one_line(message), err=True)
    sys.exit(code)


def _one_line(message: str) -> str:
    """The message with its line ends and terminal codes escaped, which come from the names in a file."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], message)


@click.group(
    cls=GroupedCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    invoke_without_command=True,
)
@click.version_option(package_name="gpt2-parity", prog_name="gpt2")
@click.pass_context
def cli(context: click.Context) -> None:
    """GPT-2 twice, in NumPy to read and in MindSpore to run, and a judge that checks whether the two agree."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


cli.add_sections(SECTIONS)
