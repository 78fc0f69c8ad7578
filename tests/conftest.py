"""How hard Hypothesis looks: "ci", always the same examples, or --hypothesis-profile=deep, thousands of new ones.

And the browser that pages are looked at in, and the cores that tests run on.
"""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from parity.diagnosis.swap import cured_package
from parity.mutants.base import edited_package, remove_copies
from tests.peers.conftest import absent

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "deep", max_examples=3000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")  # Hypothesis's own plugin loads what --hypothesis-profile names after this


# Files that take a minute or more, the longest first: where there are several workers, none of them begins such a file
# when the others are done. (make test gives each file to one worker, in the order of collection.) Before them one that
# forks its worker two hundred times, which takes ten times as long when the worker holds MindSpore and many tests.
LONGEST = (
    "gpt2/peers/test_process.py",
    "parity/on_trial/test_mutants.py",
    "parity/false_alarms/test_graphs_of_models.py",
    "parity/on_trial/test_hunt.py",
    "parity/diagnosis/test_diagnosis.py",
    "parity/laws/test_laws.py",
    "peers/test_hugging_face.py",
    "peers/test_learning.py",
    "parity/laws/test_generation_laws.py",
    "parity/verdict/test_training_band.py",
    "parity/false_alarms/test_graphs_of_functions.py",
    "parity/false_alarms/test_op_by_op.py",
    "parity/false_alarms/test_numpy.py",
    "ms_backend/test_optim.py",
    "gpt2/lesson/test_page_access.py",
    "gpt2/lesson/test_page_numbers.py",
    "test_docs.py",
    "gpt2/backends/test_decoder.py",
    "gpt2/training/test_killed_runs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the others stay in their order."""
    places = {Path(__file__).parent / file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector modules and tests, which stay, and have it look at the rest less often."""
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_configure() -> None:
    """Give every worker of pytest-xdist cores of its own.

    Threads of MindSpore and of OpenBLAS wait for each other by spinning, and would keep the other workers from working.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores, workers = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: workers] or cores)


@pytest.fixture(scope="module", autouse=True)
def copies_of_the_sources() -> Iterator[None]:
    """No file of tests leaves copies of the sources behind: thousands of modules, which `inspect` would look at."""
    before = set(sys.modules)
    yield
    made = [name for name in sys.modules if name.startswith("gpt2_twin_") and name not in before]
    if made:
        edited_package.cache_clear()
        cured_package.cache_clear()
    for name in made:
        del sys.modules[name]
    remove_copies(name for name in made if "." not in name)  # at exit, thousands of files would take too long


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, Playwright's `Browser`. Without it the test is skipped, or fails if GPT2_REQUIRE_PEERS=1."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        absent("no chromium: install it to see the pages in a browser")
    from playwright.sync_api import sync_playwright

    flags = "no-sandbox disable-gpu disable-quic disable-background-networking disable-component-update disable-sync"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[f"--{flag}" for flag in flags.split()])
        yield opened
        opened.close()
