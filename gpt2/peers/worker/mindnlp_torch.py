"""MindNLP, which takes the place of torch when it is imported, before anything asks for torch."""

import importlib

import mindnlp  # noqa: F401

mindspore = importlib.import_module("mindspore")
mindspore.runtime.launch_blocking()  # without it every small op waits about 3 ms for the launch threads
