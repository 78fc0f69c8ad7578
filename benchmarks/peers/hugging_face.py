"""Run Hugging Face transformers in the PyTorch environment. Imports none of our code that computes."""

import os
import time
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
import transformers
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedModel

from benchmarks.peers.serving import Answer, Arrays

transformers.utils.logging.disable_progress_bar()

HEADS = {"language_model": GPT2LMHeadModel, "sequence_classifier": GPT2ForSequenceClassification}


def load(folder: str, head: str = "language_model", attention: str = "eager") -> PreTrainedModel:
    """The model in a folder, in float32. Raises ValueError if a tensor is missing, left over or of another shape."""
    model, report = HEADS[head].from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32, output_loading_info=True
    )
    wrong = {what: sorted(map(str, names)) for what, names in report.items() if names}
    if wrong:
        raise ValueError(f"transformers loads {folder} only in part: {wrong}")
    return model.eval()


def given(arrays: Arrays, tokens: slice = slice(None)) -> dict[str, torch.Tensor]:
    """Arguments for forward. With position_ids there is always a mask: without a mask, transformers takes a jump in the
    positions for the border of two packed sequences, and hides one from the other.
    """
    inputs = {name: torch.from_numpy(x) for name, x in arrays.items()}
    if "position_ids" in inputs:
        inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
        inputs["position_ids"] = inputs["position_ids"][:, tokens]
    inputs["input_ids"] = inputs["input_ids"][:, tokens]
    if "attention_mask" in inputs and tokens.stop is not None:
        inputs["attention_mask"] = inputs["attention_mask"][:, : tokens.stop]
    return inputs


@torch.no_grad()
def logits(arrays: Arrays, folder: str, attention: str = "eager", past: int = 0) -> Answer:
    """logits (B, T, V) and "hidden_states.{i}" (B, T, C) of input_ids (B, T), float32.

    The first `past` tokens are read by a separate call, and reach the second call through the cache.
    """
    model, cache, parts = load(folder, attention=attention), None, []
    for tokens in [slice(0, past), slice(past, None)] if past else [slice(None)]:
        output = model(**given(arrays, tokens), past_key_values=cache, use_cache=past > 0, output_hidden_states=True)
        cache = output.past_key_values
        parts.append(scores_and_hidden_states(output))
    return {}, {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


@torch.no_grad()
def classify(arrays: Arrays, folder: str, attention: str = "eager") -> Answer:
    """logits (B, K) and "hidden_states.{i}" (B, T, C) of input_ids (B, T), float32."""
    model = load(folder, "sequence_classifier", attention)
    return {}, scores_and_hidden_states(model(**given(arrays), output_hidden_states=True))


def scores_and_hidden_states(output: Any) -> Arrays:
    """A model's output as NumPy arrays."""
    hidden = {f"hidden_states.{i}": x.numpy() for i, x in enumerate(output.hidden_states)}
    return {"logits": output.logits.numpy(), **hidden}


@torch.no_grad()
def save(
    arrays: Arrays,
    folder: str,
    config: dict[str, Any],
    head: str = "language_model",
    dtype: str = "float32",
    max_shard_size: int | None = None,
) -> Answer:
    """Write a folder with save_pretrained; arrays: the parameters, named without "transformer.", rounded to dtype."""
    model = HEADS[head](GPT2Config(**config))
    tied = config["tie_word_embeddings"] and head == "language_model"
    state = {name: x for name, x in model.state_dict().items() if not (tied and name == "lm_head.weight")}
    if {name.removeprefix("transformer.") for name in state} != arrays.keys():
        raise ValueError(f"transformers has the parameters {sorted(state)}, given were {sorted(arrays)}")
    for name, x in state.items():
        x.copy_(torch.from_numpy(arrays[name.removeprefix("transformer.")]))
    sharded = {} if max_shard_size is None else {"max_shard_size": max_shard_size}
    model.to(getattr(torch, dtype)).save_pretrained(folder, **sharded)
    return {}, {}


@torch.no_grad()
def generate(arrays: Arrays, folder: str, max_new_tokens: int) -> Answer:
    """ids (B, T + new): greedy continuation of input_ids (B, T), padded on the left as attention_mask (B, T) says."""
    inputs = given(arrays)
    ids = load(folder).generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    return {}, {"ids": ids.numpy()}


_timed: dict[tuple[str, str], PreTrainedModel] = {}


def timed(folder: str, attention: str, threads: int) -> PreTrainedModel:
    """The model in a folder, on this number of threads; it stays in memory for later requests."""
    torch.set_num_threads(threads)
    if (folder, attention) not in _timed:
        _timed[folder, attention] = load(folder, attention=attention)
    return _timed[folder, attention]


@torch.no_grad()
def time_prefill(arrays: Arrays, folder: str, attention: str = "sdpa", threads: int = 2, keep: bool = False) -> Answer:
    """Seconds of one forward pass over input_ids (B, T); with keep, also its logits (B, T, V)."""
    model, ids = timed(folder, attention, threads), torch.from_numpy(arrays["input_ids"])
    start = time.perf_counter()
    scores = model(ids, use_cache=False).logits.numpy()
    return {"seconds": time.perf_counter() - start}, {"logits": scores} if keep else {}


def time_decode(
    arrays: Arrays, folder: str, new: int, times: int = 1, attention: str = "sdpa", threads: int = 2
) -> Answer:
    """Seconds and processor seconds to continue input_ids (B, T) greedily by `new` tokens, and the ids (B, T + new).

    times: the number of repetitions. The folder's config must have no eos_token_id.
    """
    model, ids = timed(folder, attention, threads), torch.from_numpy(arrays["input_ids"])
    mask = torch.ones_like(ids)
    start, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        continued = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=new).numpy()
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}, {"ids": continued}


@torch.no_grad()
def accuracy(arrays: Arrays) -> Answer:
    """Largest relative error of PyTorch's float32 elementary functions on [-20, 20], against float64."""
    x = torch.linspace(-20, 20, 200_000)  # an even number, so that no point is 0
    errors = {}
    for function in (torch.exp, torch.tanh, torch.erf, torch.sigmoid):
        exact = function(x.double())
        errors[function.__name__] = float(((function(x).double() - exact) / exact).abs().max())
    return errors, {}


def ping(arrays: Arrays) -> Answer:
    """The versions of the libraries."""
    return {module.__name__: str(module.__version__) for module in (torch, transformers, np)}, {}
