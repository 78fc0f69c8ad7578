"""The public interface: load a GPT-2, run it on either backend, train it, save it.

import gpt2
model = gpt2.load("path/to/folder", backend="mindspore")
print(model.generate(model.encode("The meaning of life is")))
"""

from gpt2.backends import get_backend
from gpt2.errors import EndOfContextWarning, GPT2Error
from gpt2.model.model import Model, load
from gpt2.recorder import record
from gpt2.training.run import train
from reference.config import GPT2Config

__all__ = ["EndOfContextWarning", "GPT2Config", "GPT2Error", "Model", "get_backend", "load", "record", "train"]
__version__ = "0.1.0"
