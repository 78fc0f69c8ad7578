"""The class Model, and reading and writing its folders."""

from gpt2.model.model import Model, load

__all__ = ["Model", "load"]
