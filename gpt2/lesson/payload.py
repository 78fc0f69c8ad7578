"""The lesson as one object with everything that the page shows: texts, sources, tensors, verdicts, planted bugs."""

import functools
import importlib.metadata
import platform
import sys
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import get_backend
from gpt2.errors import GPT2Error
from gpt2.lesson import sources
from gpt2.lesson.breaks import planted
from gpt2.lesson.judged import judge_stages
from gpt2.lesson.outline import STEPS, Shown, Step
from gpt2.lesson.tensors import MOST_LAYERS, base64_floats, evenly, packed
from gpt2.lesson.training import Text, training_tensors, training_verdicts
from gpt2.lesson.words import STEP_WORDS
from gpt2.model.model import Model
from gpt2.tokenizer import surroundings, without_opening
from reference.ops import softmax

Array = NDArray[Any]

FORMAT = 1
SMALL = 600_000  # most parameters of a model whose weights go into the page
IN_THE_PAGE = ("gelu_new", "gelu", "relu", "silu")  # activations that the page's script can compute
NEXT = 10
VISIBLE = {"\n": "↵", " ": "␣", "\t": "⇥"}
EXAMPLES = ("reverse: abcd\n", "sort: hbxa\n", "upper: model\n", "copy: gpt2\n")
PROMPT, SENTENCE = EXAMPLES[0], "Alice was beginning to get very tired of sitting by her"


def default_ids(model: Model) -> Array:
    """The default prompt of the lesson, (1, T), one that the model's tokenizer can encode."""
    if model.tokenizer is None:
        return np.arange(min(12, model.config.vocab_size, model.config.n_positions))[None]
    try:
        return model.encode(PROMPT if _characters(model) else SENTENCE)
    except GPT2Error:
        return model.encode(model.decode(np.arange(min(12, model.config.vocab_size))))


def build(model: Model, ids: Array | None = None, server: bool = False, breaks: bool = True) -> dict[str, Any]:
    """The whole lesson on a model, whose backend is the twin, and a prompt, ids (1, T).

    On the backend "numpy" there is no twin, and all verdicts are None. All tensors are the reference's.
    server: whether the page may ask a server for other prompts. breaks: whether to plant bugs, which is half the work.
    Raises GPT2Error for a classifier, or ids that do not fit the model.
    """
    ids = default_ids(model) if ids is None else ids
    prompt = of_prompt(model, ids)
    text = Text(reference_of(model), ids, lambda chosen: token_texts(model, chosen))
    tensors = training_tensors(text, lambda chosen: token_texts(model, chosen))
    verdicts = prompt["verdicts"]
    if two_implementations(model) and _small(model) and model.backend.dtype == "float32":
        verdicts |= training_verdicts(text, model.backend)
    known = {*prompt["tensors"], *tensors}
    weights = _weights(model)
    folder = sources.twin_folder(model.backend)
    return {
        "format": FORMAT,
        "server": server,
        "model": {
            "name": model.folder.name if model.folder else "model",
            "config": model.config.to_dict(),
            "parameters": sum(x.size for x in model.parameters.values()),
            "tokens": token_texts(model, np.arange(model.config.vocab_size), raw=True) if _characters(model) else None,
            "weights": weights,
        },
        "examples": examples(model),
        "environment": environment(model),
        "layers": evenly(model.config.n_layer, MOST_LAYERS),
        "steps": [_step(step, model, folder, verdicts, known) for step in STEPS],
        **prompt,
        "tensors": tensors | ({} if weights else prompt["tensors"]),
        "verdicts": verdicts,
        "breaks": list(planted(reference_of(model), ids, lambda row: next_tokens(model, row))) if breaks else [],
    }


def of_prompt(model: Model, ids: Array) -> dict[str, Any]:
    """The part of the lesson that depends on the prompt: "prompt", "next", "tensors" and "verdicts"."""
    from parity.verdict.stages import stage_axes

    if "score.weight" in model.parameters:
        raise GPT2Error("this model has a classification head: the lesson is about a language model, give one")
    stages = reference_of(model).stages(ids)
    layers = evenly(model.config.n_layer, MOST_LAYERS)
    return {
        "prompt": {
            "text": _text(model, ids[0].tolist()),
            "ids": [int(i) for i in ids[0]],
            "tokens": token_texts(model, ids[0]),
        },
        "next": next_tokens(model, stages["logits"][0, -1]),
        "tensors": {
            name: packed(x, stage_axes(name))
            for name, x in stages.items()
            if not name.startswith("h.") or int(name.split(".")[1]) in layers
        },
        "verdicts": judge_stages(model, ids) if two_implementations(model) else {},
    }


def _text(model: Model, ids: list[int]) -> str | None:
    """The prompt as it is typed."""
    return None if model.tokenizer is None else model.decode(without_opening(model.tokenizer, ids))


def examples(model: Model) -> list[str]:
    """Example prompts that the tokenizer can encode and that fit the context."""
    usable = []
    for text in EXAMPLES:
        try:
            usable += [text] if model.encode(text).shape[1] <= model.config.n_positions else []
        except GPT2Error:
            continue
    return usable


def two_implementations(model: Model) -> bool:
    """Whether there is a second implementation to judge."""
    return model.backend.name != "numpy"


@functools.lru_cache(maxsize=1)  # slow for a large model, and a server needs it for every prompt
def reference_of(model: Model) -> Model:
    """The same model on the reference, in the same precision."""
    backend = get_backend("numpy", dtype=model.backend.dtype)
    return Model(model.config, model.parameters, backend, model.tokenizer, model.folder)


def next_tokens(model: Model, logits: Array) -> list[dict[str, Any]]:
    """The likeliest next tokens by logits (V,), best first."""
    probabilities = softmax(logits.astype(np.float64))
    best = np.argsort(-probabilities, kind="stable")[:NEXT]
    texts = token_texts(model, best)
    return [
        {"id": int(i), "token": token, "probability": float(probabilities[i])}
        for i, token in zip(best, texts, strict=True)
    ]


def token_texts(model: Model, ids: Array, raw: bool = False) -> list[str]:
    """The text of each token, with spaces made visible unless raw; its id, if there is no tokenizer."""
    if model.tokenizer is None:
        return [str(i) for i in ids]
    texts = [model.tokenizer.decode([int(i)], skip_special_tokens=False) for i in ids]
    return texts if raw else ["".join(VISIBLE.get(letter, letter) for letter in text) for text in texts]


def environment(model: Model) -> list[list[str]]:
    """Versions, backend and machine that computed the numbers."""
    made = [["Python", platform.python_version()], ["NumPy", np.__version__]]
    if model.backend.name == "mindspore":
        made.append(["MindSpore", importlib.metadata.version("mindspore")])
    backend = model.backend
    made += [
        ["backend", f"{backend.name}, {backend.device}, {backend.dtype}, {backend.mode}"],
        ["machine", f"{platform.machine()}, {sys.platform}"],
    ]
    return made


def _small(model: Model) -> bool:
    return sum(x.size for x in model.parameters.values()) <= SMALL


def _characters(model: Model) -> bool:
    """Whether every token except special ones is one character, so that the page can tokenize a prompt.

    The page puts no tokens before a text.
    """
    if model.tokenizer is None or surroundings(model.tokenizer) != ([], []):
        return False
    special = {token.content for token in model.tokenizer.get_added_tokens_decoder().values()}
    texts = token_texts(model, np.arange(model.config.vocab_size), raw=True)
    return all(len(text) == 1 or text in special for text in texts)


def _weights(model: Model) -> dict[str, Any] | None:
    """The weights, if the model is small and the page's script can compute it; else None."""
    if not _small(model) or model.config.activation_function not in IN_THE_PAGE or model.backend.dtype != "float32":
        return None
    return {name: {"shape": list(x.shape), "data": base64_floats(x)} for name, x in model.parameters.items()}


def _step(
    step: Step, model: Model, folder: Path | None, verdicts: Mapping[str, Any], known: Container[str]
) -> dict[str, Any]:
    names = [name.replace("{activation}", model.config.activation_function) for name in step.tensors]
    return {
        "id": step.id,
        **STEP_WORDS[step.id],
        "view": step.view,
        "tensors": [name for name in names if name.replace("{layer}", "0") in known],
        "functions": [_function(shown, folder, verdicts) for shown in step.functions],
    }


def _function(shown: Shown, folder: Path | None, verdicts: Mapping[str, Any]) -> dict[str, Any]:
    verdict = verdicts.get(shown.stage.replace("{layer}", "0")) if shown.stage else None
    return {**sources.side_by_side(shown.name, folder), "stage": shown.stage or None, "verdict": verdict}
