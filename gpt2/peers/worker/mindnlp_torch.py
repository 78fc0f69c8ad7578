"""MindNLP, which takes the place of torch when it is imported, before anything asks for torch."""

import mindnlp  # noqa: F401
