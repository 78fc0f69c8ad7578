"""Run tasks in several processes. Ctrl-C ends them; finished results are kept."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from gpt2.errors import GPT2Error
from gpt2.interrupt import one_interrupt

Arguments = TypeVar("Arguments", bound=tuple[Any, ...])
Returned = TypeVar("Returned")


def cores() -> list[int]:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclasses.dataclass
class Work:
    """How tasks run, and whether all were finished.

    processes: how many run at once (default: one per core). watch is called with the number of tasks done and of all.
    interrupted: whether Ctrl-C (or SIGTERM) ended it early.
    """

    processes: int | None = None
    watch: Callable[[int, int], Any] | None = None
    interrupted: bool = False

    def do(
        self,
        function: Callable[..., Returned],
        tasks: Sequence[Arguments],
        keep: Callable[[Returned], Any] | None = None,
    ) -> list[tuple[Arguments, Returned]]:
        """Call function(*task) for every task: the tasks that were finished, each with its result, as they came in.

        keep is called with every result when it comes in. Raises what the function raises; the other tasks are then
        dropped. Raises GPT2Error if a process dies.
        """
        finished: list[tuple[Arguments, Returned]] = []
        others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")  # MindSpore does not survive a fork
        count = self.processes or len(cores())
        shares = context.SimpleQueue()
        for number in range(count):
            shares.put(cores()[number::count])
        with (
            one_interrupt(),
            tempfile.TemporaryDirectory(prefix="gpt2_work_") as folder,
            concurrent.futures.ProcessPoolExecutor(
                count, mp_context=context, initializer=_begin, initargs=(folder, shares)
            ) as pool,
        ):
            try:
                futures = {pool.submit(function, *task): task for task in tasks}
                for future in concurrent.futures.as_completed(futures):
                    finished.append((futures[future], future.result()))
                    if keep is not None:
                        keep(finished[-1][1])
                    if self.watch is not None:
                        self.watch(len(finished), len(tasks))
            except BaseException as error:
                for process in set(multiprocessing.active_children()) - others:
                    process.terminate()  # a task may take minutes
                if isinstance(error, BrokenProcessPool):
                    raise GPT2Error(
                        f"one of {count} processes died without a word, perhaps for want of memory: "
                        "try again with fewer at once"
                    ) from error
                if not isinstance(error, KeyboardInterrupt):
                    raise
                self.interrupted = True
        return finished


def _begin(folder: str, shares: Any) -> None:
    """Leave Ctrl-C to the parent, and put temporary files where it deletes them: a terminated process cannot.

    Each process has cores of its own: threads of MindSpore wait by spinning, and would keep the others from working.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder
    share = shares.get()
    if share and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share)
