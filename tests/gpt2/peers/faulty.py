"""A subject with every fault that a process can have; it runs there like those in gpt2/peers/worker."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time

import numpy as np

PIPE = 4  # where serve.py keeps the pipe of answers: the second that it opened


class Faulty:
    """What it offers is right, except for what is called a fault."""

    def __init__(self, held=()):
        self.held, self.facts = held, {"name": "faulty"}

    def echo(self, value):
        return value

    def keep(self, value):
        return Faulty(value)

    def kept(self):
        return self.held

    def count(self):
        """How many objects are kept, this one included."""
        return next(len(x.known) for x in gc.get_objects() if type(x).__name__ == "Objects")

    def folder(self):
        return os.getcwd()

    def fault(self, kind, number=0):
        return getattr(self, "_" + kind)(number)

    def _segmentation_fault(self, number):
        ctypes.string_at(number)

    def _abort(self, number):
        os.abort()

    def _killed(self, number):
        os.kill(os.getpid(), signal.SIGKILL)

    def _exits(self, number):
        os._exit(number % 256)

    def _leaves(self, number):
        sys.exit(number)

    def _hangs(self, number):
        while True:
            time.sleep(60)

    def _hangs_with_children(self, number):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._hangs(number)

    def _stops(self, number):
        os.kill(os.getpid(), signal.SIGSTOP)

    def _garbage(self, number):
        os.write(PIPE, np.random.default_rng(number).bytes(1 + number % 5000))
        self._hangs(number)

    def _half_a_frame(self, number):
        import frames

        whole = b"".join(frames.to_frame({"result": np.arange(100)}))
        os.write(PIPE, whole[: 1 + number % (len(whole) - 1)])
        os._exit(0)

    def _half_a_frame_and_hangs(self, number):
        import frames

        whole = b"".join(frames.to_frame({"result": np.arange(100)}))
        os.write(PIPE, whole[: 1 + number % (len(whole) - 1)])
        self._hangs(number)

    def _huge_text(self, number):
        import frames

        os.write(PIPE, frames.HEAD.pack(frames.MAGIC, 2**32 - 1, 0))
        self._hangs(number)

    def _huge_arrays(self, number):
        import frames

        text = b'{"value":{"array":0},"arrays":[["float64",[1000000000]]]}'
        os.write(PIPE, frames.HEAD.pack(frames.MAGIC, len(text), 8 * 10**9) + text)
        os._exit(0)

    def _lying_shape(self, number):
        import frames

        text = b'{"value":{"array":0},"arrays":[["float64",[4611686018427387904,4]]]}'
        os.write(PIPE, frames.HEAD.pack(frames.MAGIC, len(text), 128) + text + bytes(128))
        self._hangs(number)

    def _other_protocol(self, number):
        import frames

        os.write(PIPE, frames.HEAD.pack(frames.MAGIC[:3] + b"\x63", 2, 0) + b"{}")
        self._hangs(number)

    def _deep_text(self, number):
        import frames

        text = b"[" * 100_000
        os.write(PIPE, frames.HEAD.pack(frames.MAGIC, len(text), 0) + text)
        self._hangs(number)

    def _no_answer_frame(self, number):
        import frames

        os.write(PIPE, b"".join(frames.to_frame([number])))
        self._hangs(number)

    def _closes_its_pipe(self, number):
        os.close(PIPE)
        self._hangs(number)

    def _dies_and_a_child_keeps_the_pipe(self, number):
        if os.fork() == 0:
            self._hangs(number)
        os._exit(3)

    def _floods_and_dies(self, number):
        for _ in range(200):
            os.write(2, b"x" * 10_000 + b"\n")
        os._exit(1)

    def _out_of_memory(self, number):
        import resource

        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (2**20, before[1]))
        try:
            return bytes(2**30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    def _raises(self, number):
        raise ValueError(f"the number {number}\nand more")

    def _raises_in_many_lines(self, number):
        raise RuntimeError("\n-----\n- Kernel select failed:\n-----\nno Gather of bfloat16\n-----\n- C++ Call Stack:")

    def _not_offered(self, number):
        raise NotImplementedError("this fault")

    def _returns_an_object_array(self, number):
        return np.array([None])

    def prints(self, count):
        print("on standard output", flush=True)
        os.write(1, b"x" * count)
        subprocess.run(["echo", "from another process"], check=True)
        return count

    def floods(self, count):
        for _ in range(count):
            os.write(2, b"y" * 10_000 + b"\n")
        return count


def make(start="", **options):
    if start == "slow":
        time.sleep(60)
    if start == "raises":
        raise ImportError("No module named 'nothing'")
    if start == "crashes":
        os.abort()
    if start == "prints":
        print("a banner", flush=True)
    return Faulty(options)
