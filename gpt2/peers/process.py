"""The process of a peer: started in another interpreter, asked within limits, and ended with all that it started."""

import contextlib
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2.peers import frames
from reference.config import StepReport

HERE = Path(__file__).parent
# What the interpreter is started with: it reads its files from its input, so that nothing need be installed there.
BOOT = """
import json, sys, types
said = json.loads(sys.stdin.buffer.readline())
for name, path, text in said["base"]:
    module = sys.modules[name] = types.ModuleType(name)
    module.__file__ = path
    exec(compile(text, path, "exec"), module.__dict__)
module.main(said["modules"], said["options"])
"""
START_SECONDS = 120.0
CALL_SECONDS = 60.0
BYTES_PER_SECOND = 1e7  # of a large model a second more is allowed for so many bytes, of arrays or of weights
DYING_SECONDS = 3.0
ENDING_SECONDS = 1.0
SLICE = 0.2  # how often it is looked whether a silent process is still there
TAIL = 2**14  # bytes of standard error that are kept
PIPE = 2**20
SIGNALS = {signal.SIGKILL: "killed, perhaps for want of memory"}


class PeerError(RuntimeError):
    """An error that was raised in the peer's process: its type, message and place."""


class PeerValueError(PeerError, ValueError):
    """A ValueError that was raised there: what was asked for is refused. `message`: what it says."""

    message = ""


class PeerDiedError(PeerError):
    """The peer's process ended, gave no answer in time, or sent bytes that are none: it is no longer there."""

    fatal = True  # for the judge: what did this is not done again for every case that it would count


class Remote:
    """An object in the peer's process, by its number there. It is freed there when nobody has it here."""

    def __init__(self, process: "PeerProcess", number: int) -> None:
        self.process, self.number = process, number
        weakref.finalize(self, process.freed.append, number).atexit = False


def source(path: Path, name: str | None = None) -> tuple[str, str, str]:
    """A file as the peer's process gets it: the name of its module, its path and its text."""
    return name or path.stem, str(path), path.read_text(encoding="utf-8")


class PeerProcess:
    """One process from its start to its death.

    command: what starts a Python; modules: the files that it runs, the last of which has `make(**options)`; limits: the
    seconds that the start and a call may take. Raises PeerDiedError, PeerError if it does not start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        modules: Sequence[tuple[str, str, str]],
        options: Mapping[str, Any],
        limits: tuple[float, float] = (START_SECONDS, CALL_SECONDS),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.limits, self.freed = name, limits, list[int]()
        self._tail, self._death, self._read = bytearray(), "", 0
        self._files = [path for _, path, _ in modules]
        boot = shlex.quote(BOOT) if Path(command[0]).name == "ssh" else BOOT  # ssh gives its words to a shell
        try:
            self._process = subprocess.Popen(
                [*command, "-c", boot],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                env=environment if environment is not None else own_environment(),
            )
        except OSError as error:
            raise PeerDiedError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._given, self._answers, self._errors = (
            pipe.fileno() for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._ended = weakref.finalize(self, _end, self._process)
        self._heard = [self._answers, self._errors]
        for pipe in (self._given, *self._heard):
            os.set_blocking(pipe, False)
            if sys.platform == "linux":
                import fcntl  # which other systems do not have

                with contextlib.suppress(OSError):  # more than the system allows
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
        begun = {
            "base": [source(HERE / "frames.py"), source(HERE / "worker" / "serve.py")],
            "modules": modules,
            "options": options,
        }
        said = memoryview(json.dumps(begun).encode("ascii") + b"\n")
        self.hello: dict[str, Any] = self._exchange([said], limits[0], "a start")

    @property
    def group(self) -> int:
        """The number of its group of processes."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self._death

    def ask(self, call: str, *given: Any, of: Remote | None = None, weight: float = 0.0, **named: Any) -> Any:
        """The result of a method of the subject, or of an object of its.

        weight: how many bytes its model has, for which it may take longer. Raises what was raised there, a
        NotImplementedError as such and anything else as PeerError; PeerDiedError if the process dies of it.
        """
        freed = self.freed[:]
        del self.freed[: len(freed)]
        request = {
            "call": call,
            "of": 0 if of is None else of.number,
            "given": list(given),
            "named": named,
            "freed": freed,
        }
        buffers = frames.to_frame(request, self._handle)
        weight += sum(buffer.nbytes for buffer in buffers)
        return self._exchange(buffers, self.limits[1] + weight / BYTES_PER_SECOND, call)

    def end(self) -> None:
        """End it, and all processes that it started."""
        self._death = self._death or f"{self.name} was ended"
        self._ended()

    def _handle(self, value: Any) -> tuple[str, int]:
        if not isinstance(value, Remote):
            raise TypeError(f"{type(value).__name__} does not pass to another process")
        if value.process is not self:
            raise PeerDiedError(f"the process of {self.name} in which this was kept has ended")
        return "handle", value.number

    def _exchange(self, buffers: list[memoryview], seconds: float, call: str) -> Any:
        """Send a frame and read the answer. Whatever goes wrong between ends the process: the pipes are out of step."""
        if self._death:
            raise PeerDiedError(self._death)
        deadline = time.monotonic() + seconds
        kinds: dict[str, Callable[..., Any]] = {"handle": lambda number: Remote(self, number), "StepReport": StepReport}
        self._read = 0
        try:
            with contextlib.suppress(BrokenPipeError):  # what it has sent before its end says more
                self._send(buffers, deadline)
            answer = frames.from_frame(lambda view: self._fill(view, deadline), kinds)
            if not isinstance(answer, dict) or not (answer.keys() <= {"result", "error"} and len(answer) == 1):
                raise frames.FrameError("an answer that is none")
            if "error" in answer:
                kind, name, message, place = map(str, answer["error"])
        except TimeoutError:
            raise self._died(f"gave no answer within {seconds:.0f} s to {call}") from None
        except frames.FrameError as error:
            raise self._died(f"sent bytes that are no frame: {error}") from error
        except EOFError:
            raise self._died(self._last_words()) from None
        except BaseException:
            self._died("was interrupted")
            raise
        if "result" in answer:
            return answer["result"]
        if kind == "NotImplementedError":
            raise NotImplementedError(message)
        said = f"{name}: {message}{f' ({place})' if place else ''}"
        if kind != "ValueError":
            raise PeerError(said)
        refused = PeerValueError(said)
        refused.message = message
        raise refused

    def _send(self, buffers: list[memoryview], deadline: float) -> None:
        for buffer in buffers:
            while buffer:
                try:
                    buffer = buffer[os.write(self._given, buffer) :]
                except BlockingIOError:
                    self._wait(deadline, self._given)

    def _fill(self, view: memoryview, deadline: float) -> None:
        done = 0
        while done < len(view):
            try:
                count = os.readv(self._answers, [view[done:]])
            except BlockingIOError:
                self._wait(deadline)
                continue
            if count == 0:
                raise EOFError
            done += count
            self._read += count

    def _wait(self, deadline: float, to_write: int | None = None) -> None:
        """Wait until there is something to read, or room to write, and keep the end of what it says on stderr.

        Raises TimeoutError at the deadline, EOFError if it is dead and silent: a child of its may hold the pipe open.
        """
        was_dead = self._process.poll() is not None
        left = deadline - time.monotonic()
        if left <= 0:
            raise EOFError if was_dead else TimeoutError
        heard = self._heard if to_write is None else self._heard[1:]
        ready, writable, _ = select.select(heard, [to_write] if to_write is not None else [], [], min(left, SLICE))
        if self._errors in ready:
            self._listen()
        if was_dead and not writable and self._answers not in ready:
            raise EOFError

    def _listen(self) -> None:
        """Read what there is on standard error, and keep its end."""
        try:
            heard = os.read(self._errors, PIPE)
        except BlockingIOError:
            return
        if not heard:
            self._heard = [self._answers]
        self._tail = (self._tail + heard)[-TAIL:]

    def _last_words(self) -> str:
        """How it ended, and what it said last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(DYING_SECONDS)
        return ended(self._process.returncode) + " in the middle of an answer" * (self._read > 0)

    def _died(self, how: str) -> PeerDiedError:
        """End it, and return the error that says how it died."""
        if self._errors in self._heard:
            self._listen()
        text = self._tail.decode("utf-8", "replace")
        self._death = f"{self.name} {how}{crash_place(text, self._files)}"
        with contextlib.suppress(OSError):  # it is gone
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ended()
        self._death += said_last(text)
        return PeerDiedError(self._death)


def ended(code: int | None) -> str:
    """How a process ended, by its exit code: "ended by signal 11 (Segmentation fault)"."""
    if code is None:
        return "closed its pipe, and went on"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        what = SIGNALS.get(signal.Signals(-code)) or signal.strsignal(-code) or "unknown"
    except ValueError:
        what = "unknown"
    return f"ended by signal {-code} ({what})"


def own_environment() -> dict[str, str]:
    """The environment variables without those that would show the modules of this Python to another one."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


FRAME = re.compile(r'^  File "([^"]*)", line (\d+) in (\S+)', re.MULTILINE)


def crash_place(text: str, files: Sequence[str]) -> str:
    """Where Python was when it crashed, as its faulthandler says on standard error; "" if it does not.

    It is the innermost line in one of the files, or the innermost line of all.
    """
    thread = text.partition("Fatal Python error: ")[2].partition("Current thread ")[2].partition("\n\n")[0]
    lines = FRAME.findall(thread)
    for file, line, function in [each for each in lines if each[0] in files] or lines[:1]:
        return f" in {function} ({Path(file).name}:{line})"
    return ""


def said_last(text: str) -> str:
    """The last line of standard error before Python's report of a crash, in a few words; "" if there is none."""
    before = text.partition("Fatal Python error: ")[0]
    last = next((line.strip() for line in reversed(before.splitlines()) if line.strip()), "")
    return f"; it said: {last[:200]}" if last else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let a process end by itself, at the end of its input, then kill all of its group, and close its pipes."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDING_SECONDS)
    with contextlib.suppress(OSError):  # it is gone, with all that it started
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
