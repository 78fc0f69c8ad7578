"""A process with one of our engines, as a user gets it: `python -m benchmarks.engine mindspore`."""

import json
import os
import sys
import time
from collections.abc import Iterable

import numpy as np

import gpt2


def serve(lines: Iterable[str], name: str) -> None:
    """Answer every request on stdout, as tests/peers/hugging_face.py does: time_prefill is the only one."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    model: gpt2.Model | None = None
    for line in lines:
        request = json.loads(line)
        model = model or gpt2.load(request["folder"], backend=name)
        with np.load(request["arrays"]) as file:
            ids = file["input_ids"]
        start = time.perf_counter()
        logits = model.logits(ids)
        seconds = time.perf_counter() - start
        np.savez(request["answer"], **({"logits": logits} if request["keep"] else {}))
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.stdin, sys.argv[1])
