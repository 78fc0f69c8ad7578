"""The subject torch_gpt2 whose GPT-2 is a changed copy of transformers'. It runs in the peer's process."""

import inspect

import torch_gpt2
import transformers
from transformers.models.gpt2 import modeling_gpt2

KINDS = torch_gpt2.KINDS
SOURCE = inspect.getsource(modeling_gpt2)


class Patched(torch_gpt2.Torch):
    """What it is without the bugs, until one is planted."""

    def plant(self, old, new):
        """Compute with the source as it was, one text in it replaced. Raises ValueError if it is not there."""
        if old not in SOURCE:
            raise ValueError(f"not in transformers: {old}")
        exec(compile(SOURCE.replace(old, new), modeling_gpt2.__file__, "exec"), modeling_gpt2.__dict__)
        transformers.GPT2LMHeadModel = modeling_gpt2.GPT2LMHeadModel


def make(device="CPU", dtype="float32", mode="eager"):
    """The subject."""
    return Patched(device, dtype, mode)
