"""How fast a peer is asked: a small request, and arrays of many sizes there and back.

Run `python -m benchmarks.peer_pipe`. The subject returns what it is given; `--python` names another interpreter.
"""

import statistics
import sys
import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gpt2.peers.process import PeerProcess

ECHO = """
class Echo:
    def echo(self, x):
        return x

def make():
    return Echo()
"""
SIZES = (1, 10**3, 10**6, 10**7, 10**8)
FILE = str(Path(__file__).with_name("echo.py"))


@click.command()
@click.option("--python", default=sys.executable, show_default=True, help="The peer's interpreter.")
@click.option("--rounds", type=click.IntRange(2), default=20, show_default=True, help="The first warms up.")
def main(python: str, rounds: int) -> None:
    """Print the median time of a request by the bytes of its array, and how many bytes pass in a second."""
    begun = time.perf_counter()
    peer = PeerProcess("echo", [python], [("echo", FILE, ECHO)], {})
    started = time.perf_counter() - begun
    table = Table("array", "there and back", "MB/s", title=f"a process that starts in {started:.2f} s")
    for size in SIZES:
        x, seconds = np.ones(size, np.uint8), []
        for _ in range(rounds if size < 10**7 else 5):
            begun = time.perf_counter()
            peer.ask("echo", x)
            seconds.append(time.perf_counter() - begun)
        median = statistics.median(seconds[1:])
        table.add_row(f"{size:,} bytes", f"{1000 * median:.2f} ms", f"{2 * size / median / 1e6:.0f}")
    peer.end()
    Console().print(table)


if __name__ == "__main__":
    main()
