"""Progress on standard error, so that standard output can be piped."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PAUSE = 30.0  # seconds between two lines where no bar can be drawn
SOON, LONG = 2.0, 10.0  # after so many seconds the time left is told, if it is at least that


class ProgressBar:
    """A progress bar with elapsed and remaining time; a line every half minute if standard error is not a terminal.

    In both cases a line says early how long the work will take, unless that is seconds.
    """

    def __enter__(self) -> "ProgressBar":
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._progress.add_task("starting", total=None)
        self._progress.start()
        self._begun = self._said = time.monotonic()
        self._first, self._last, self._told = (0, self._begun), (0, 0), False
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        """Write a line above the bar, at once."""
        self._console.print(f"gpt2: {line}", markup=False, soft_wrap=True)

    def show(self, what: str, done: int, total: int) -> None:
        """Redraw the bar, or write a line if the last one was written half a minute ago."""
        self._progress.update(self._task, completed=done, total=total, description=what)
        now = time.monotonic()
        left = self._left(done, total, now)
        if not self._told and left >= LONG and now - self._first[1] >= SOON:
            self._told = True
            self.say(f"{done} of {total}: about {_in_words(left)} left")
        if not self._console.is_terminal and now - self._said >= PAUSE:
            self._said = now
            line = f"{done} of {total} {what}".rstrip()
            self.say(f"{line}, after {now - self._begun:.0f} s" + (f", about {_in_words(left)} left" if left else ""))

    def _left(self, done: int, total: int, now: float) -> float:
        """The seconds left at the rate since the first step shown, which may compile or be resumed; 0 if unknown."""
        if self._last == (0, 0) or total != self._last[1] or done < self._last[0]:  # other work begins
            self._first, self._told = (done, now), False
        self._last = (done, total)
        steps = done - self._first[0]
        return (now - self._first[1]) / steps * (total - done) if steps else 0.0


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
