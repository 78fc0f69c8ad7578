"""The command `gpt2`, run inside this process (fast) or as a user runs it (a process of its own)."""

import contextlib
import dataclasses
import io
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import Any
from unittest import mock

from gpt2.commands.main import main
from tests.gpt2.small import ROOT

MARK = "gpt2: error: "
# What a training run says at its start.
START = re.compile(r"^gpt2: \d+ layers?, .* parameters; .* rows? held out\n", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard error, without the start of a training run."""
        return START.sub("", self.err, count=1)

    @property
    def refusal(self) -> str:
        """The one line that says what was wrong. Raises AssertionError if the command did not end as errors must."""
        assert (self.code, self.out) == (2, ""), self
        assert self.said.startswith(MARK), self
        assert self.said.count("\n") == 1, self
        assert self.said.endswith("\n"), self
        return self.said.removeprefix(MARK).rstrip("\n")

    @property
    def result(self) -> str:
        """What a command printed that went well."""
        assert (self.code, self.said) == (0, ""), self
        return self.out


def run(*arguments: Any, stdin: str = "", environment: Mapping[str, str] | None = None) -> Ran:
    """The command with these arguments, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(mock.patch.object(sys, "argv", ["gpt2", *map(str, arguments)]))
        stack.enter_context(mock.patch.object(sys, "stdin", io.StringIO(stdin)))
        stack.enter_context(mock.patch.object(warnings, "showwarning"))  # main puts its own there
        stack.enter_context(mock.patch.dict(os.environ, _environment(environment), clear=True))
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def run_outside(
    *arguments: Any, stdin: bytes = b"", environment: Mapping[str, str] | None = None, program: str = ""
) -> Ran:
    """The command with these arguments, in a process of its own; or that program, given as its source."""
    start = ["-c", program] if program else ["-m", "gpt2"]
    command = [sys.executable, *start, *map(os.fspath, map(str, arguments))]
    ran = subprocess.run(
        command, input=stdin, cwd=ROOT, env=_environment(environment), capture_output=True, check=False, timeout=120
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def _environment(changes: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "GPT2_BACKEND"}
    return kept | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"} | dict(changes or {})
