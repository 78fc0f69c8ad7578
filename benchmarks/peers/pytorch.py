"""The process in the PyTorch environment: `python -m benchmarks.peers.pytorch`."""

import torch

from benchmarks.peers import evaluating, folders, generating, hugging_face, learning
from benchmarks.peers.serving import serve

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

if __name__ == "__main__":
    torch.set_num_threads(1)  # the models have few channels
    serve(FUNCTIONS)
