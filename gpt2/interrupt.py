"""Ctrl-C ends long work at a place where nothing is lost."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_to(handler: Callable[..., Any]) -> Iterator[None]:
    """Have handler called at Ctrl-C and SIGTERM. Outside the main thread, which alone may set handlers, do nothing.

    While MindSpore runs a graph it answers Ctrl-C by sending itself SIGTERM; servers that stop a job send it as well,
    and `timeout` sends it twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(each, handler) for each in SIGNALS]
    try:
        yield
    finally:
        for each, old in zip(SIGNALS, before, strict=True):
            signal.signal(each, old)


@dataclasses.dataclass
class Interrupt:
    """Whether Ctrl-C or SIGTERM has come."""

    asked: bool = False

    def ask(self, *_: Any) -> None:
        """Note that it has."""
        self.asked = True


@contextlib.contextmanager
def postponed_interrupt() -> Iterator[Interrupt]:
    """Note Ctrl-C and SIGTERM, and go on: whoever works looks at `asked` where it can stop."""
    interrupt = Interrupt()
    with signals_to(interrupt.ask):
        yield interrupt


@contextlib.contextmanager
def one_interrupt() -> Iterator[Interrupt]:
    """Raise KeyboardInterrupt at the first Ctrl-C or SIGTERM, and at no other: what follows it is clearing up.

    Raised while a compiler calls back, it may be swallowed there: `asked` says that it was.
    """
    state = Interrupt()

    def interrupt(*_: Any) -> None:
        for each in SIGNALS:
            signal.signal(each, lambda *_: None)
        state.ask()
        raise KeyboardInterrupt

    with signals_to(interrupt):
        yield state
