"""One of our backends, named in sys.argv, used as a user would: functions that answer in a process of its own."""

import functools
import sys
import time
from pathlib import Path
from typing import Any

import gpt2
from benchmarks.peers.serving import Answer, Arrays
from gpt2.backends import Batch, Trainer, get_backend
from gpt2.model.hf_folder import read_config, read_parameters
from reference.config import TrainingConfig


@functools.cache
def model(folder: str) -> gpt2.Model:
    """The model in a folder; it stays in memory for later requests."""
    return gpt2.load(folder, backend=sys.argv[1])


@functools.cache
def trainer(folder: str, **settings: Any) -> Trainer:
    """A trainer of the model in a folder; it keeps its state from one request to the next."""
    config = read_config(Path(folder))
    parameters = read_parameters(Path(folder), config)
    return get_backend(sys.argv[1]).trainer(config, parameters, TrainingConfig(**settings))


def time_prefill(arrays: Arrays, folder: str, keep: bool = False) -> Answer:
    """Seconds of one forward pass over input_ids (B, T); with keep, also its logits (B, T, V)."""
    model(folder)
    start = time.perf_counter()
    logits = model(folder).logits(arrays["input_ids"])
    return {"seconds": time.perf_counter() - start}, {"logits": logits} if keep else {}


def time_decode(arrays: Arrays, folder: str, new: int, times: int = 1) -> Answer:
    """Seconds and processor seconds to continue input_ids (B, T) greedily by `new` tokens, and the ids (B, T + new).

    times: the number of repetitions.
    """
    model(folder)
    start, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        ids = model(folder).generate(arrays["input_ids"], new)
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}, {"ids": ids}


def time_train_step(arrays: Arrays, folder: str, settings: dict[str, Any]) -> Answer:
    """Seconds and loss of one micro-batch, input_ids and labels (B, T)."""
    batch = Batch(arrays["input_ids"], arrays["labels"])
    trainer(folder, **settings)
    start = time.perf_counter()
    report = trainer(folder, **settings).step(batch)
    return {"seconds": time.perf_counter() - start, "loss": report.loss}, {}


FUNCTIONS = (time_prefill, time_decode, time_train_step)
