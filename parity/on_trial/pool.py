"""Run tasks in several processes. Ctrl-C ends them; finished results are kept."""

import concurrent.futures
import dataclasses
import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gpt2.interrupt import one_interrupt

Arguments = TypeVar("Arguments", bound=tuple[Any, ...])
Returned = TypeVar("Returned")


@dataclasses.dataclass
class Work:
    """How tasks run, and whether all were finished.

    processes: how many run at once (default: one per core). watch is called with the number of tasks done and of all.
    interrupted: whether Ctrl-C (or SIGTERM) ended it early.
    """

    processes: int | None = None
    watch: Callable[[int, int], Any] | None = None
    interrupted: bool = False

    def do(self, function: Callable[..., Returned], tasks: Sequence[Arguments]) -> list[tuple[Arguments, Returned]]:
        """Call function(*task) for every task: the tasks that were finished, each with its result, as they came in.

        Raises what the function raises; the other tasks are then dropped.
        """
        finished: list[tuple[Arguments, Returned]] = []
        others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")  # MindSpore does not survive a fork
        with (
            one_interrupt(),
            tempfile.TemporaryDirectory(prefix="gpt2_work_") as folder,
            concurrent.futures.ProcessPoolExecutor(
                self.processes, mp_context=context, initializer=_begin, initargs=(folder,)
            ) as pool,
        ):
            try:
                futures = {pool.submit(function, *task): task for task in tasks}
                for future in concurrent.futures.as_completed(futures):
                    finished.append((futures[future], future.result()))
                    if self.watch is not None:
                        self.watch(len(finished), len(tasks))
            except BaseException as error:
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()  # a task may take minutes
                if not isinstance(error, KeyboardInterrupt):
                    raise
                self.interrupted = True
        return finished


def _begin(folder: str) -> None:
    """Leave Ctrl-C to the parent, and put temporary files where it deletes them: a terminated process cannot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder
