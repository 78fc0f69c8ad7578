"""The NumPy backend as the subject of a peer: right, but for what is asked to kill it."""

import os
import signal

from gpt2.backends import Batch, NumPyBackend
from reference.config import GPT2Config, TrainingConfig

KINDS = {"GPT2Config": GPT2Config, "TrainingConfig": TrainingConfig, "Batch": Batch}


class Mortal(NumPyBackend):
    """fatal: a number of tokens; a function of an x with so many or more ends the process."""

    def __init__(self, fatal, **options):
        super().__init__(**options)
        self.fatal = fatal
        self.facts = {"device": self.device, "dtype": self.dtype, "mode": self.mode, "versions": {"mortal": "1"}}

    def call(self, function, arguments):
        if self.fatal and arguments["x"].shape[1] >= self.fatal:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().call(function, arguments)


def make(fatal=0, **options):
    """The subject."""
    return Mortal(fatal, **options)
