"""The functions that answer in the process of the PyTorch environment."""

import torch

from benchmarks.peers import evaluating, folders, generating, hugging_face, learning

FUNCTIONS = (
    hugging_face.logits,
    hugging_face.classify,
    hugging_face.save,
    hugging_face.generate,
    hugging_face.time_prefill,
    hugging_face.time_decode,
    hugging_face.accuracy,
    hugging_face.ping,
    evaluating.perplexity,
    folders.arrange,
    folders.scores,
    folders.by_default,
    folders.meanings,
    generating.continuations,
    generating.typical,
    learning.gradients,
    learning.train,
    learning.time_train_step,
)

torch.set_num_threads(1)  # the models have few channels
