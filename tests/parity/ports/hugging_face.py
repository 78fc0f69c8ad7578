"""GPT-2 of transformers as a port, with bugs patched in: what the judge says of each.

`python -m tests.parity.ports.hugging_face EXAMPLES [NAME ...]` prints it as JSON, a line for each, for an environment
that has PyTorch and transformers. The model without a bug is named "eager" or "sdpa", after its attention; "generation
eager" and "generation sdpa" are the same with its cache. "functions" are single functions and modules of transformers.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity.check import Rule, agrees, check_rule, draw, rules
from parity.diagnosis.diagnose import diagnose
from parity.ports.port import get_port
from parity.verdict.trial import Trial

FILE = Path(__file__).parents[3] / "examples" / "ports" / "transformers_gpt2.py"
FUNCTIONS_FILE = Path(__file__).parents[3] / "gpt2" / "peers" / "worker" / "transformers_functions.py"
# Functions of the mirror, and what stands for each in that file.
FUNCTIONS = (
    ("ops.gelu_new", "gelu_new"),
    ("ops.gelu", "gelu"),
    ("ops.relu", "relu"),
    ("ops.silu", "silu"),
    ("ops.layer_norm", "layer_norm"),
    ("ops.conv1d", "conv1d"),
    ("ops.cross_entropy", "cross_entropy"),
    ("attention.attention_weights", "attention_weights"),
    ("attention.attention", "attention"),
    ("attention.attention", "attention_by_sdpa"),
    ("model.mlp", "mlp"),
    ("model.block", "block"),
    ("model.block", "block_by_sdpa"),
    ("model.language_model_loss", "language_model_loss"),
)
RULES = (
    "engine.logits",
    "model.language_model",
    "model.language_model_loss",
    "model.language_model_loss_vjp",
    "laws.causality",
    "laws.pads_are_unseen",
    "laws.sequences_do_not_meet",
    "laws.gradients_of_the_loss_are_tangents",
)
# Rules that read with a cache: of decoders, and of texts that are written with them.
CACHED_RULES = (
    "engine.cached",
    "laws.a_decoder_is_the_plain_model_after_any_calls",
    "laws.a_decoder_has_room_for_every_piece",
    "laws.a_decoder_reads_in_pieces",
    "laws.decoders_do_not_meet",
    "laws.a_decoder_chooses_by_its_scores",
    "laws.results_have_the_promised_shape_and_dtype",
    *(rule.name for rule in rules().values() if rule.generates and "simplest_loop" not in rule.name),
)
CLASSIFIER_RULES = (
    "engine.classify",
    "model.sequence_classifier",
    "model.sequence_classifier_loss",
    "model.sequence_classifier_loss_vjp",
    "laws.a_classifier_is_its_last_stage",
    "laws.labels_are_names",
)
RIGHT = {
    "eager": RULES,
    "sdpa": RULES,
    "generation eager": CACHED_RULES,
    "generation sdpa": CACHED_RULES,
    "classifier eager": CLASSIFIER_RULES,
    "classifier sdpa": CLASSIFIER_RULES,
}
# Of each bug, the stages that may be blamed: the first that hooks see of what it spoils.
BUGS = {
    "mask off by one": ("attn.merged",),
    "erf for tanh": ("mlp.gelu_new", "mlp.c_proj"),
    "no scale": ("attn.merged",),
    "positions shifted": ("wpe",),
    "another epsilon": ("ln_2",),
    "weight turned": ("attn.c_proj",),
    "dropout on": ("embeddings", "attn.merged", "attn_residual", "mlp_residual"),
}
# Bugs that show with a cache alone, and a rule that each breaks.
CACHE_BUGS = {
    "positions start again": "engine.cached",
    "pads of the past are seen": "engine.cached",
    "every new token sees the first keys alone": "laws.a_decoder_reads_in_pieces",
    "the past is forgotten": "engine.cached",
    "keys are kept as values": "engine.cached",
    "all texts share a cache": "laws.decoders_do_not_meet",
    "beams keep their cache": "laws.a_decoder_is_the_plain_model_after_any_calls",
}


def _right() -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("transformers_gpt2", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build: Callable[..., Any] = module.build
    return build


def build(config: Any, parameters: Any, name: str = "sdpa") -> Any:
    """The model with the bug of that name, or with that attention."""
    import torch

    model = _right()(config, parameters)
    model.set_attn_implementation("sdpa" if name.endswith("sdpa") else "eager")
    for block in model.transformer.h:
        if name == "no scale":
            block.attn.scaling = block.attn.scaling * 2
        if name == "another epsilon":
            block.ln_2.eps = 1e-2
        if name == "erf for tanh":
            block.mlp.act = torch.nn.GELU()
        if name == "weight turned":
            block.attn.c_proj.weight.data = block.attn.c_proj.weight.data.T.contiguous()
    if name == "positions shifted":
        model.transformer.wpe.register_forward_hook(lambda module, given, found: torch.roll(found, 1, 1))
    if name == "mask off by one":
        _see_the_next(model)
    if name in CACHE_BUGS:
        _spoil_the_cache(model, name)
    return model.train() if name == "dropout on" else model


def _see_the_next(model: Any) -> None:
    """Let every query see one key more."""
    import torch

    for block in model.transformer.h:
        forward = block.attn.forward

        def shifted(hidden_states: Any, *given: Any, forward: Any = forward, **named: Any) -> Any:
            length = hidden_states.shape[1]
            hidden = torch.triu(torch.full((length, length), torch.finfo(hidden_states.dtype).min), 2)[None, None]
            return forward(hidden_states, *given, **{**named, "attention_mask": hidden})

        block.attn.forward = shifted


def _spoil_the_cache(model: Any, name: str) -> None:
    """Patch the bug into the model's forward pass, where it changes the reading after a cache alone."""
    import torch
    import transformers

    forward, shared = model.transformer.forward, transformers.DynamicCache()

    def spoiled(ids: Any, past_key_values: Any = None, attention_mask: Any = None, **named: Any) -> Any:
        cache, known = past_key_values, 0 if past_key_values is None else past_key_values.get_seq_length()
        if name == "positions start again" and named.get("position_ids") is None:
            named["position_ids"] = torch.arange(ids.shape[1])[None]
        if name == "pads of the past are seen" and attention_mask is not None:
            attention_mask = attention_mask.clone()
            attention_mask[:, :known] = 1
        if name == "every new token sees the first keys alone" and known:
            hidden = torch.full((ids.shape[1], known + ids.shape[1]), torch.finfo(torch.float32).min)
            attention_mask = torch.triu(hidden, 1)[None, None]
        if name == "the past is forgotten" and known:
            cache, attention_mask = None, None if attention_mask is None else attention_mask[:, known:]
            if named.get("position_ids") is None:
                named["position_ids"] = torch.arange(known, known + ids.shape[1])[None]
        if name == "all texts share a cache" and named.get("use_cache"):
            shared.reset() if cache is None else None
            cache = shared
        found = forward(ids, cache, attention_mask, **named)
        if name == "keys are kept as values" and named.get("use_cache"):
            for layer in found.past_key_values.layers:
                layer.values = torch.cat((layer.values[:, :, :known], layer.keys[:, :, known:]), dim=2)
        if name == "beams keep their cache" and named.get("use_cache"):
            found.past_key_values.reorder_cache = lambda rows: None
        return found

    model.transformer.forward = spoiled


def _port(name: str) -> Any:
    backend = get_port(f"{FILE}:build;framework=torch")
    backend.entry = lambda config, parameters: build(config, parameters, name)  # type: ignore[attr-defined]
    return backend


def _agrees(rule: Rule, backend: Any, examples: int) -> bool:
    """Whether it agrees on all of so many cases; without making a failure small, which takes long."""
    return all(agrees(rule, Trial(case, backend)) for case in draw(rule, np.dtype(np.float32), examples))


def functions_said(examples: int) -> Iterator[dict[str, Any]]:
    """What the judge says of each of FUNCTIONS."""
    for function, name in FUNCTIONS:
        port = get_port(f"{function}={FUNCTIONS_FILE}:{name};framework=torch")
        result = check_rule(rules()[function], port, examples, closest=0)
        objections = [] if result.agrees else [result.to_dict()]
        yield {"name": name, "objections": objections, "cases": result.cases, "not_offered": result.not_offered}


def said(name: str, examples: int) -> dict[str, Any]:
    """What the judge says: where a bug starts, or which rules object to a right model, and on how many cases."""
    backend = _port(name)
    if name in CACHE_BUGS:
        cached, uncached = (rules()[rule] for rule in (CACHE_BUGS[name], "engine.logits"))
        return {"name": name, "agrees": _agrees(cached, backend, 25), "uncached": _agrees(uncached, backend, 5)}
    if name in BUGS:
        result = check_rule(rules()["engine.logits"], backend, 25, closest=0)
        diagnose(rules()["engine.logits"], result, backend, 5)
        return {"name": name, "agrees": result.agrees, "blame": result.blame, "right": list(BUGS[name])}
    results = [check_rule(rules()[rule], backend, examples, closest=0) for rule in RIGHT[name]]
    objections = [result.to_dict() for result in results if not result.agrees]
    return {"name": name, "objections": objections, "cases": sum(result.cases for result in results)}


def main(examples: int, names: list[str]) -> None:
    """Print it, a line for each name; without names for all models."""
    import torch

    torch.set_num_threads(1)  # for models of a few channels more threads are slower
    for name in names or [*RIGHT, *BUGS, *CACHE_BUGS]:
        for each in functions_said(examples) if name == "functions" else [said(name, examples)]:
            print(json.dumps(each), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
