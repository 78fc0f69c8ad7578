"""How a text is continued: the options, and the loops that every backend shares."""

from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation, continue_batch

__all__ = ["Generation", "GenerationConfig", "continue_batch"]
