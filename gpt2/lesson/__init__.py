"""GPT-2 as a lesson: the reference and its twin side by side, step by step, with the numbers of one prompt."""

from gpt2.lesson.payload import build, of_prompt

__all__ = ["build", "of_prompt"]
