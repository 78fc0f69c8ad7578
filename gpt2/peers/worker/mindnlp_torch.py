"""MindNLP, which takes the place of torch when it is imported, before anything asks for torch."""

import mindnlp  # noqa: F401
import mindspore

mindspore.runtime.launch_blocking()  # without it every small op waits about 3 ms for the launch threads
