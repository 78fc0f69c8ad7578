"""Folders as PyTorch and transformers write and read them: old layouts, other heads, options of generation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    TextClassificationPipeline,
)

from benchmarks.peers.serving import Answer, Arrays

State = dict[str, torch.Tensor]


def shards(state: State, folder: Path) -> None:
    """pytorch_model.bin in two parts, with its index."""
    files = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(state)}
    for file in set(files.values()):
        torch.save({name: x for name, x in state.items() if files[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": files}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")


def with_value_head(state: State, folder: Path) -> None:
    """As TRL writes a model with a value head."""
    more = {"v_head.summary.weight": torch.ones(1, 2), "v_head.summary.bias": torch.ones(1)}
    save_file(state | more, folder / "model.safetensors", {"format": "pt"})


def only_head(state: State, folder: Path) -> None:
    """The table of a tied model under the name of the head alone."""
    kept = {name: x for name, x in state.items() if name != "transformer.wte.weight"}
    save_file(
        kept | {"lm_head.weight": state["transformer.wte.weight"]}, folder / "model.safetensors", {"format": "pt"}
    )


LAYOUTS: dict[str, Callable[[State, Path], None]] = {
    "pickle": lambda state, folder: torch.save(state, folder / "pytorch_model.bin"),
    "old pickle": lambda state, folder: torch.save(
        state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
    "pickled shards": shards,
    "value head": with_value_head,
    "only lm_head": only_head,
    "both tables": lambda state, folder: save_file(state, folder / "model.safetensors", {"format": "pt"}),
}
MODELS = {"double heads": GPT2DoubleHeadsModel, "token classification": GPT2ForTokenClassification}


@torch.no_grad()
def arrange(arrays: Arrays, folder: str, config: dict[str, Any], layout: str, dtype: str) -> Answer:
    """Write a folder in a layout of LAYOUTS, or as a model of MODELS; arrays: the parameters of a language model.

    Old pickles hold the buffers of old checkpoints, and the tied head a second time.
    """
    place, kind = Path(folder), getattr(torch, dtype)
    state = {
        name if name == "lm_head.weight" else f"transformer.{name}": torch.from_numpy(x).to(kind)
        for name, x in arrays.items()
    }
    if layout in MODELS:
        model = MODELS[layout](GPT2Config(**config))
        model.load_state_dict(state, strict=False)
        if model.get_output_embeddings() is not None:
            model.tie_weights()
        model.to(kind).save_pretrained(folder)
        return {}, {}
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if layout == "old pickle":
        state.setdefault("lm_head.weight", state["transformer.wte.weight"])
        for layer in range(config["n_layer"]):
            state[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 2, 2, dtype=torch.uint8).tril()
            state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    LAYOUTS[layout](state, place)
    return {}, {}


@torch.no_grad()
def scores(arrays: Arrays, folder: str) -> Answer:
    """logits (B, T, V) of input_ids (B, T), float32; what the folder holds beside the model is ignored."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    inputs = {name: torch.from_numpy(x) for name, x in arrays.items()}
    return {}, {"logits": model(**inputs).logits.numpy()}


@torch.no_grad()
def by_default(arrays: Arrays, folder: str) -> Answer:
    """new_ids: the continuations of input_ids (1, T) that the folder's own options of generation ask for."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.from_numpy(arrays["input_ids"])
    written = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=model.config.vocab_size - 1)
    return {"new_ids": written[:, ids.shape[1] :].tolist()}, {}


def meanings(arrays: Arrays, problem_type: str | None) -> Answer:
    """chances (B, K): what the pipeline of text classification makes of logits (B, K)."""
    pipeline = object.__new__(TextClassificationPipeline)
    labels = arrays["logits"].shape[1]
    config = GPT2Config(num_labels=labels, problem_type=problem_type)
    pipeline.model = type("Model", (), {"config": config})()
    found = []
    for row in arrays["logits"]:
        said = pipeline.postprocess({"logits": torch.from_numpy(row[None])}, top_k=None, _legacy=False)
        chance = {each["label"]: each["score"] for each in said}
        found.append([chance[f"LABEL_{i}"] for i in range(labels)])
    return {}, {"chances": np.array(found, np.float32)}
