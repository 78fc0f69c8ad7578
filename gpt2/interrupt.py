"""Handle Ctrl-C and SIGTERM so that long work stops where nothing is lost."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def signals_to(handler: Callable[..., Any]) -> Iterator[None]:
    """Call handler at Ctrl-C and SIGTERM. Do nothing outside the main thread, as only that one may set handlers.

    While MindSpore runs a graph, it turns Ctrl-C into a SIGTERM to itself. Job schedulers send SIGTERM too, and
    `timeout` sends it twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, old in zip(SIGNALS, before, strict=True):
            signal.signal(number, old)


@dataclasses.dataclass
class Interrupt:
    """Whether Ctrl-C or SIGTERM was received; `heard` is called at the first."""

    asked: bool = False
    heard: Callable[[], Any] | None = None

    def ask(self, *_: Any) -> None:
        """Record the signal."""
        if not self.asked and self.heard is not None:
            self.heard()
        self.asked = True


@contextlib.contextmanager
def postponed_interrupt(heard: Callable[[], Any] | None = None) -> Iterator[Interrupt]:
    """Record Ctrl-C and SIGTERM and continue: the caller checks `asked` where it can stop.

    heard: what to call at the first, inside a signal handler.
    """
    interrupt = Interrupt(heard=heard)
    with signals_to(interrupt.ask):
        yield interrupt


@contextlib.contextmanager
def one_interrupt() -> Iterator[Interrupt]:
    """Raise KeyboardInterrupt at the first Ctrl-C or SIGTERM; ignore later ones, so that cleaning up can finish.

    An exception raised inside a compiler's callback may be swallowed there; `asked` still records the signal.
    """
    state = Interrupt()

    def interrupt(*_: Any) -> None:
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        state.ask()
        raise KeyboardInterrupt

    with signals_to(interrupt):
        yield state
