"""The process of a peer: answers requests on its pipes until they are closed. Python 3.9, NumPy and frames.py.

A request is a frame of {"call": name, "of": handle, "given": [...], "named": {...}, "freed": [handle, ...]}: a method,
or an attribute, of the subject (handle 0) or of an object that it returned. The answer is {"result": tree}, in which
{"handle": 7} stands for an object that stays here, or {"error": [kind, type, message, place]}; the kind is ValueError
of every type of it. The first answer, to no request, is the hello: what the subject is.
"""

import contextlib
import faulthandler
import os
import platform
import select
import signal
import sys
import time
import traceback
import types

import frames
import numpy as np


class Pipes:
    """Standard input and output, taken for frames alone: what the subject prints, from C++ too, goes to stderr."""

    def __init__(self):
        self.given, self.answers = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)

    def fill(self, view):
        """Fill the buffer. Raises EOFError if the other side is gone."""
        done = 0
        while done < len(view):
            count = os.readv(self.given, [view[done:]])
            if count == 0:
                raise EOFError
            done += count

    def send(self, buffers):
        """Write all of them."""
        for buffer in buffers:
            while buffer:
                buffer = buffer[os.write(self.answers, buffer) :]


class Objects:
    """The subject, numbered 0, and the objects that stay here for the other side, by number."""

    def __init__(self, subject):
        self.known, self.count = {0: subject}, 0

    def keep(self, found):
        """What stands for an object in a frame."""
        self.count += 1
        self.known[self.count] = found
        return "handle", self.count

    def answer(self, call, of, given, named, freed):
        """What a request returns. Raises NotImplementedError where there is no such method."""
        for number in freed:
            self.known.pop(number, None)
        found = self.known[of]
        if call.startswith("_") or not hasattr(found, call):
            raise NotImplementedError(call)
        found = getattr(found, call)
        return found(*given, **named) if callable(found) else found


def error_of(error, files):
    """An exception as it is sent: its type, its first line of words, and its last place in the files, or of all."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]  # no line of dashes
    if lines and lines[0].endswith(":"):  # a heading
        lines[0] = " ".join(lines[:2])
    frames_of = traceback.extract_tb(error.__traceback__)
    inside = [each for each in frames_of if each.filename in files] or frames_of
    place = f"{os.path.basename(inside[-1].filename)}:{inside[-1].lineno}" if inside else ""
    kind = "ValueError" if isinstance(error, ValueError) else type(error).__name__
    return {"error": [kind, type(error).__name__, lines[0] if lines else "", place]}


def _leave_nothing(pipes):
    """Write no core file, say where it crashed, and let a process kill all of this when the other side is gone.

    It is a process, since no thread runs while one that hangs holds Python's lock, and since it kills children too.
    """
    faulthandler.enable()
    with contextlib.suppress(ImportError, OSError, ValueError):  # where it cannot be forbidden, one may be written
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.fork() == 0:
        for pipe in (pipes.answers, 1, 2):
            os.close(pipe)
        watch = select.poll()
        watch.register(pipes.given, 0)  # that nobody can write any longer is reported unasked
        watch.poll()
        time.sleep(0.5)  # in which it ends by itself, unless it hangs
        os.killpg(0, signal.SIGKILL)


def loaded(modules):
    """The modules of (name, path, text), made in that order; the last one."""
    module = None
    for name, path, text in modules:
        module = sys.modules[name] = types.ModuleType(name)
        module.__file__ = path
        exec(compile(text, path, "exec"), module.__dict__)
    return module


def main(modules, options):
    """Serve the subject: what `make(**options)` of the last module returns, whose `kinds` make values of its own."""
    pipes = Pipes()
    _leave_nothing(pipes)
    files = [path for _, path, _ in modules]
    try:
        module = loaded(modules)
        objects = Objects(module.make(**options))
        facts = getattr(objects.known[0], "facts", {})
    except BaseException as error:  # whatever an environment raises that is not what it should be
        pipes.send(frames.to_frame(error_of(error, files)))
        return
    hello = {"protocol": frames.PROTOCOL, "python": platform.python_version(), "numpy": np.__version__}
    pipes.send(frames.to_frame({"result": {**hello, **facts}}))
    kinds = {**getattr(module, "KINDS", {}), "handle": lambda number: objects.known[number]}
    while True:
        try:
            request = frames.from_frame(pipes.fill, kinds)
        except EOFError:
            getattr(objects.known[0], "close", int)()
            os._exit(0)  # what is torn down at an end may hang
        try:
            buffers = frames.to_frame({"result": objects.answer(**request)}, objects.keep)
        except (Exception, SystemExit) as error:  # whatever the subject raises: the other side is told
            buffers = frames.to_frame(error_of(error, files))
        pipes.send(buffers)
        del request, buffers
