"""Zero-shot evaluation: the tasks of the GPT-2 paper, plug-ins that read public file formats and give scores."""

from gpt2.evaluation.base import EvaluationReport, EvaluationTask, Run, evaluate, find_task, task_names

__all__ = ["EvaluationReport", "EvaluationTask", "Run", "evaluate", "find_task", "task_names"]
