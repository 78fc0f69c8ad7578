"""Fine-tuning for a task: a summarizer, a classifier, and how well each does."""

from gpt2.finetune.run import classify, summarize

__all__ = ["classify", "summarize"]
