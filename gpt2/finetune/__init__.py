"""Fine-tuning: train and evaluate a summariser or a classifier."""

from gpt2.finetune.run import classify, summarize

__all__ = ["classify", "summarize"]
