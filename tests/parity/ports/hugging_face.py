"""GPT-2 of transformers as a port, with bugs patched in: what the judge says of each.

`python -m tests.parity.ports.hugging_face EXAMPLES [NAME ...]` prints it as JSON, a line for each, for an environment
that has PyTorch and transformers; the model without a bug is named "eager" or "sdpa", after its attention.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parity.check import check_rule, rules
from parity.diagnosis.diagnose import diagnose
from parity.ports.port import get_port

FILE = Path(__file__).parents[3] / "examples" / "ports" / "transformers_gpt2.py"
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
    model.set_attn_implementation("eager" if name != "sdpa" else "sdpa")
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


def _port(name: str) -> Any:
    backend = get_port(f"{FILE}:build;framework=torch")
    backend.entry = lambda config, parameters: build(config, parameters, name)  # type: ignore[attr-defined]
    return backend


def said(name: str, examples: int) -> dict[str, Any]:
    """What the judge says: where a bug starts, or which of RULES object to a right model, and on how many cases."""
    backend = _port(name)
    if name in BUGS:
        result = check_rule(rules()["engine.logits"], backend, 25)
        diagnose(rules()["engine.logits"], result, backend, 5)
        return {"name": name, "agrees": result.agrees, "blame": result.blame, "right": list(BUGS[name])}
    results = [check_rule(rules()[rule], backend, examples) for rule in RULES]
    objections = [result.to_dict() for result in results if not result.agrees]
    return {"name": name, "objections": objections, "cases": sum(result.cases for result in results)}


if __name__ == "__main__":
    for name in sys.argv[2:] or ["eager", "sdpa", *BUGS]:
        print(json.dumps(said(name, int(sys.argv[1]))), flush=True)
