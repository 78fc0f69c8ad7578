"""The progress bar of long work: on standard error, so that results can be piped."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar:
    """How far work is, and how long it will take; nothing where nobody looks at it."""

    def __enter__(self) -> "ProgressBar":
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("starting", total=None)
        self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """Draw the bar anew."""
        self._progress.update(self._task, completed=done, total=total, description=what)
