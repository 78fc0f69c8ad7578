"""A GPT-2 that somebody uses, and the folders that it is read from and written to."""

from gpt2.model.model import Model, load

__all__ = ["Model", "load"]
