"""The lesson: GPT-2 step by step, with the reference and its twin side by side and the tensors of one prompt."""

from gpt2.lesson.payload import build, of_prompt

__all__ = ["build", "of_prompt"]
