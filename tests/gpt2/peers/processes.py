"""The faulty subject, in a process of its own or in a fork of this one, which starts in no time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2.peers.process import PeerProcess, source

START_SECONDS = 20.0
FAULTY = Path(__file__).with_name("faulty.py")


class Fork:
    """In place of subprocess.Popen: a fork of this process runs the program that a new Python would be given."""

    def __init__(self, command: Sequence[str], **_: Any) -> None:
        given, answers, errors = os.pipe(), os.pipe(), os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _run(command[-1], (given[0], answers[1], errors[1]))
        for pipe in (given[0], answers[1], errors[1]):
            os.close(pipe)
        self.stdin = os.fdopen(given[1], "wb", 0)
        self.stdout, self.stderr = (os.fdopen(pipe[0], "rb", 0) for pipe in (answers, errors))

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, seconds: float = 10.0) -> int:
        """The exit code. Raises TimeoutExpired."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("fork", seconds)
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode


def _run(program: str, ours: tuple[int, int, int]) -> None:
    try:
        os.setsid()
        for target, pipe in enumerate(ours):
            os.dup2(pipe, target)
        os.closerange(3, 1024)  # also the pipes of other processes: it would keep them open
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        for name in ("frames", "serve", "faulty"):
            sys.modules.pop(name, None)
        exec(program, {})
        os._exit(0)
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        os._exit(1)


def start(seconds: float = 5.0, command: Sequence[str] = (sys.executable,), **options: Any) -> PeerProcess:
    """The faulty subject, whose requests may take so many seconds."""
    return PeerProcess("faulty", command, [source(FAULTY)], options, (START_SECONDS, seconds))


def is_gone(group: int, seconds: float = 5.0) -> bool:
    """Whether no process of a group is alive, after so many seconds at the latest: a kill takes a moment."""
    end = time.monotonic() + seconds
    while alive_in(group):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def alive_in(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, of = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
                found += [int(folder.name)] * (int(of) == group and state not in "ZX")
    return found
