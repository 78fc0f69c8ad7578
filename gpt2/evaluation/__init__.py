"""Zero-shot evaluation on the tasks of the GPT-2 paper. Each task is a plug-in that reads a public file format."""

from gpt2.evaluation.base import EvaluationReport, EvaluationTask, Run, evaluate, find_task, task_names

__all__ = ["EvaluationReport", "EvaluationTask", "Run", "evaluate", "find_task", "task_names"]
