"""Progress on standard error, so that standard output can be piped."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PAUSE = 30.0  # seconds between two lines where no bar can be drawn


class ProgressBar:
    """A progress bar with elapsed and remaining time; a line every half minute if standard error is not a terminal."""

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
        if not self._console.is_terminal and now - self._said >= PAUSE:
            self._said = now
            line = f"gpt2: {done} of {total} {what}".rstrip()
            self._console.print(f"{line}, after {now - self._begun:.0f} s", markup=False, soft_wrap=True)
