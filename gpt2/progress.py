"""A progress bar on standard error, so that standard output can be piped."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressBar:
    """A progress bar with elapsed and remaining time; shows nothing if standard error is not a terminal."""

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
        """Redraw the bar."""
        self._progress.update(self._task, completed=done, total=total, description=what)
