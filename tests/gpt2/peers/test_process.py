"""The process of a peer: whatever happens in it, a request ends in time and says what happened; no process is left."""

import gc
import itertools
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2.peers import process
from gpt2.peers.process import PeerDiedError, PeerError, PeerValueError
from tests.gpt2.peers.processes import FAULTY, is_gone, start

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="no /proc: processes cannot be counted")
AT_ONCE = 8
HANG = r"faulty gave no answer within 0 s to fault"
NO_FRAME = r"faulty sent bytes that are no frame: .+"
# Every fault of the faulty subject, and what is said of it.
FAULTS = {
    "segmentation_fault": r"faulty ended by signal 11 \(Segmentation fault\) in _segmentation_fault \(faulty.py:\d+\)",
    "abort": r"faulty ended by signal 6 \(Aborted\) in _abort \(faulty.py:\d+\)",
    "killed": r"faulty ended by signal 9 \(killed, perhaps for want of memory\)",
    "exits": r"faulty ended with exit code \d+",
    "leaves": r"SystemExit: \d+ \(faulty.py:\d+\)",
    "hangs": HANG,
    "hangs_with_children": HANG,
    "stops": HANG,
    "garbage": f"{HANG}|{NO_FRAME}",
    "half_a_frame": r"faulty ended with exit code 0 in the middle of an answer",
    "half_a_frame_and_hangs": HANG,
    "huge_text": NO_FRAME,
    "huge_arrays": r"faulty ended with exit code 0 in the middle of an answer",
    "lying_shape": NO_FRAME,
    "other_protocol": r"faulty sent bytes that are no frame: a frame of protocol 99, not 1",
    "deep_text": NO_FRAME,
    "no_answer_frame": NO_FRAME,
    "closes_its_pipe": r"faulty closed its pipe, and went on",
    "dies_and_a_child_keeps_the_pipe": r"faulty ended with exit code 3",
    "floods_and_dies": r"faulty ended with exit code 1; it said: x{200}",
    "out_of_memory": r"MemoryError: +\(faulty.py:\d+\)",
    "raises": r"ValueError: the number \d+ \(faulty.py:\d+\)",
    "raises_in_many_lines": r"RuntimeError: - Kernel select failed: no Gather of bfloat16 \(faulty.py:\d+\)",
    "not_offered": "this fault",
    "returns_an_object_array": r"TypeError: arrays of dtype object do not pass to another process \(frames.py:\d+\)",
}
LIVES_ON = (
    "leaves",
    "out_of_memory",
    "raises",
    "raises_in_many_lines",
    "not_offered",
    "returns_an_object_array",
)


def limit_of(kind: str) -> float:
    """Seconds for a fault: few where it hangs, enough for a busy machine where it does not."""
    return 0.1 if FAULTS[kind].startswith(HANG) else 20.0


def test_every_fault_is_known() -> None:
    kinds = set(re.findall(r"def _(\w+)\(self, number", FAULTY.read_text(encoding="utf-8")))
    assert kinds == set(FAULTS)
    assert set(LIVES_ON) < kinds


@pytest.mark.usefixtures("in_no_time")
def test_every_fault_is_a_report_in_time() -> None:
    """In random order, several at once, as most of the time is waiting; one that lives on answers right afterwards."""
    reports, groups = [], []

    def put(fault: tuple[str, int]) -> None:
        kind, number = fault
        limit = limit_of(kind)
        peer = start(limit)
        groups.append(peer.group)
        begun = time.monotonic()
        with pytest.raises((PeerError, NotImplementedError)) as raised:
            peer.ask("fault", kind, number)
        assert time.monotonic() - begun < limit + 5
        assert re.fullmatch(FAULTS[kind], str(raised.value)), kind
        reports.append(kind)
        assert peer.is_alive == (kind in LIVES_ON)
        if peer.is_alive:
            assert peer.ask("echo", number) == number
        else:
            with pytest.raises(PeerDiedError, match=r"faulty (gave|sent|ended|closed)"):
                peer.ask("echo", number)
        peer.end()

    @settings(max_examples=max(8, settings().max_examples // len(FAULTS)))
    @given(st.permutations(sorted(FAULTS)), st.lists(st.integers(0, 10**6), min_size=1))
    def put_all(kinds: list[str], numbers: list[int]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(put, zip(kinds, itertools.cycle(numbers))))

    put_all()
    assert len(reports) >= 200
    assert len(set(reports)) == len(FAULTS)
    assert all(map(is_gone, groups))


@pytest.mark.parametrize("kind", ["segmentation_fault", "dies_and_a_child_keeps_the_pipe", "hangs_with_children"])
def test_a_python_of_its_own_dies_in_the_same_way(kind: str) -> None:
    peer = start(limit_of(kind))
    begun = time.monotonic()
    with pytest.raises(PeerDiedError) as raised:
        peer.ask("fault", kind, 7)
    assert time.monotonic() - begun < 10  # who is dead is not waited for
    assert re.fullmatch(FAULTS[kind], str(raised.value))
    assert is_gone(peer.group)


@pytest.mark.usefixtures("in_no_time")
def test_what_is_printed_is_no_answer() -> None:
    peer = start(start="prints")
    assert peer.ask("prints", 300_000) == 300_000
    assert peer.ask("floods", 300) == 300
    assert len(peer._tail) <= process.TAIL
    with pytest.raises(PeerDiedError, match=r"; it said: y{200}$"):
        peer.ask("fault", "killed")
    peer.end()


@pytest.mark.usefixtures("in_no_time")
def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PeerError, match=r"^ImportError: No module named 'nothing' \(faulty.py:\d+\)$"):
        start(start="raises")
    with pytest.raises(PeerDiedError, match=r"^faulty ended by signal 6 \(Aborted\) in make \(faulty.py:\d+\)$"):
        start(start="crashes")
    monkeypatch.setattr("tests.gpt2.peers.processes.START_SECONDS", 0.3)
    with pytest.raises(PeerDiedError, match=r"^faulty gave no answer within 0 s to a start$"):
        start(start="slow")


def test_a_command_that_is_no_python_is_said_to_be_none() -> None:
    with pytest.raises(PeerDiedError, match="faulty cannot be started: /no/python: No such file"):
        start(command=["/no/python"])
    with pytest.raises(PeerDiedError, match="faulty sent bytes that are no frame: b' -c"):
        start(command=["echo", "-n", ""])
    with pytest.raises(PeerDiedError, match="faulty ended with exit code 1"):
        start(command=["false"])


@pytest.mark.usefixtures("in_no_time")
def test_a_value_error_is_one_here() -> None:
    peer = start()
    with pytest.raises(ValueError, match="the number 3") as raised:
        peer.ask("fault", "raises", 3)
    assert isinstance(raised.value, PeerValueError)
    assert raised.value.message == "the number 3"
    peer.end()


@pytest.mark.usefixtures("in_no_time")
def test_objects_stay_there_until_nobody_has_them() -> None:
    peer = start()
    kept = [peer.ask("keep", number) for number in range(5)]
    assert [peer.ask("kept", of=each) for each in kept] == [0, 1, 2, 3, 4]
    assert peer.ask("count") == 6
    del kept[1:]
    gc.collect()
    assert peer.ask("count") == 2
    other = start()
    with pytest.raises(PeerDiedError, match="in which this was kept"):
        other.ask("echo", kept[0])
    peer.end()
    with pytest.raises(PeerDiedError, match="faulty was ended"):
        peer.ask("kept", of=kept[0])
    other.end()


@pytest.mark.usefixtures("in_no_time")
def test_large_arrays_pass_both_ways() -> None:
    peer = start()
    x = np.random.default_rng(0).standard_normal((3, 1_000_000))
    assert np.array_equal(peer.ask("echo", [x.T])[0], x.T)
    peer.end()


@pytest.mark.usefixtures("in_no_time")
def test_an_interrupt_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipes would be out of step: the next answer would be that of the request that was interrupted."""
    peer = start()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process.select, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        peer.ask("fault", "hangs")
    assert not peer.is_alive
    assert is_gone(peer.group)


HOST = """
import sys, time
sys.path.insert(0, {root!r})
from tests.gpt2.peers.processes import start
peer = start(60)
print(peer.group, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["peer.ask('fault', 'hangs')", "peer.ask('fault', 'hangs_with_children')", "pass"])
def test_no_process_outlives_the_one_that_asks(then: str) -> None:
    """Not even one that hangs, when the process that asks is killed."""
    root = str(FAULTY.parents[3])
    host = subprocess.Popen([sys.executable, "-c", HOST.format(root=root, then=then)], stdout=subprocess.PIPE)
    assert host.stdout is not None
    group = int(host.stdout.readline())
    if then == "pass":
        host.wait(20)
    else:
        time.sleep(0.2)
        host.kill()
        host.wait()
    host.stdout.close()
    assert is_gone(group)


def test_another_machine_gets_what_it_runs_over_the_pipe(tmp_path: Path) -> None:
    """`ssh` gives its words to a shell there; the folder there is empty, and nothing of ours is on its path."""
    there = tmp_path / "there"
    there.mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nshift\ncd {there}\nexec env -i PATH="$PATH" sh -c "$*"\n')
    ssh.chmod(0o755)
    peer = start(command=[str(ssh), "host", sys.executable])
    assert peer.ask("echo", "here") == "here"
    assert peer.ask("folder") == str(there)
    assert os.listdir(there) == []
    peer.end()
