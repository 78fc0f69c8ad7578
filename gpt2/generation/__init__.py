"""Text generation: its options, and the loops that all backends share."""

from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation, continue_batch

__all__ = ["Generation", "GenerationConfig", "continue_batch"]
