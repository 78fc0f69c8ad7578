"""Small recorded runs, made by the reference: the calls that msprobe would have recorded of a GPT-2 in two styles."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.recorded.judgement import CallJudgement
from parity.recorded.recording import Call, RecordedRun, RecordedTensor, Recording, Statistics
from parity.verdict.verdict import Verdict
from reference.config import GPT2Config, nest, parameter_shapes
from reference.model import language_model
from reference.stages import keep_in, observing

Array = np.ndarray
CONFIG = GPT2Config(vocab_size=13, n_positions=8, n_embd=8, n_layer=2, n_head=2)
IDS = np.array([[1, 5, 2, 12], [3, 3, 0, 7]])
USERS = "File /home/me/my_gpt2.py, line 7, in forward, \n x = self.part(x)"
FRAMEWORKS = "File /env/lib/python3.11/site-packages/torch/nn/modules/module.py, line 1, in _call_impl, \n return f()"
# Each module: its class, the stage it is given (its own layer's, unless it is another's) and the one it returns.
MODULES = {
    "ln_1": ("LayerNorm", "", "ln_1"),
    "attn.c_attn": ("Conv1D", "ln_1", "attn.qkv"),
    "attn.c_proj": ("Conv1D", "attn.merged", "attn.c_proj"),
    "attn": ("GPT2Attention", "ln_1", "attn.c_proj"),
    "ln_2": ("LayerNorm", "attn_residual", "ln_2"),
    "mlp.c_fc": ("Conv1D", "ln_2", "mlp.c_fc"),
    "mlp.act": ("NewGELUActivation", "mlp.c_fc", "mlp.gelu_new"),
    "mlp.c_proj": ("Conv1D", "mlp.gelu_new", "mlp.c_proj"),
    "mlp": ("GPT2MLP", "ln_2", "mlp.c_proj"),
    "": ("GPT2Block", "", "mlp_residual"),
}


def parameters_of(config: GPT2Config = CONFIG, seed: int = 0) -> dict[str, Array]:
    """Live parameters."""
    random = np.random.default_rng(seed)
    drawn = {name: 0.5 * random.standard_normal(shape) for name, shape in parameter_shapes(config).items()}
    return {
        name: x.astype(np.float32) + np.float32(".ln_" in f".{name}" and "weight" in name) for name, x in drawn.items()
    }


def stages(
    parameters: Mapping[str, Array],
    config: GPT2Config = CONFIG,
    ids: Array = IDS,
    change: Mapping[str, Callable[[Array], Array]] | None = None,
    attention_mask: Array | None = None,
) -> dict[str, Array]:
    """All stages of a forward pass; change: what a bug makes of the stage of that name."""
    seen: dict[str, Array] = {}
    keep = keep_in(seen)
    changes = change or {}
    with observing(lambda name, x: keep(name, changes[name](x) if name in changes else x)):
        language_model(nest(parameters), ids, config, attention_mask)
    return seen


def tensor(x: Array, kept: bool = True) -> RecordedTensor:
    """An array as a recording has it, with its statistics."""
    x = np.asarray(x)
    said = Statistics()
    if x.size and x.dtype.kind == "f":
        wide = x.astype(np.float64)
        said = Statistics(float(wide.max()), float(wide.min()), float(wide.mean()), float(np.sqrt((wide**2).sum())))
    return RecordedTensor(x.dtype.name, x.shape, said, "a.npy" if kept else "", (lambda: x) if kept else None)


def module(path: str, name: str, given: Any, result: Array, parameters: Mapping[str, Array] | None = None) -> Call:
    """A module's call, as PyTorch's msprobe names it."""
    held = {leaf: tensor(x) for leaf, x in (parameters or {}).items()}
    whole = f"Module.{path}.{name}.forward.0"
    return Call(
        whole,
        name,
        path,
        arguments=(tensor(given),),
        results=(tensor(result),),
        parameters=held,
        stack=(FRAMEWORKS, USERS),
    )


def operator(name: str, number: int, *given: Any, result: Array, kind: str = "Functional") -> Call:
    """An operator's call."""
    arguments = tuple(tensor(x) if isinstance(x, np.ndarray) else x for x in given)
    whole = f"{kind}.{name}.{number}.forward"
    return Call(whole, name, number=number, arguments=arguments, results=(tensor(result),), stack=(FRAMEWORKS, USERS))


def hugging_face_run(
    parameters: Mapping[str, Array],
    change: Mapping[str, Callable[[Array], Array]] | None = None,
    attention_mask: Array | None = None,
    recorded: Mapping[str, Array] | None = None,
    ids: Array = IDS,
) -> RecordedRun:
    """A run of transformers' GPT-2 by its modules. recorded: parameters that the recording has otherwise."""
    seen = stages(parameters, ids=ids, change=change, attention_mask=attention_mask)
    held = {**parameters, **(recorded or {})}
    calls = [
        module("transformer.wte", "Embedding", ids, seen["wte"], {"weight": held["wte.weight"]}),
        module(
            "transformer.wpe", "Embedding", np.arange(ids.shape[1])[None], seen["wpe"], {"weight": held["wpe.weight"]}
        ),
        module("transformer.drop", "Dropout", seen["embeddings"], seen["embeddings"]),
    ]
    before = "embeddings"
    for layer in range(CONFIG.n_layer):
        at = f"h.{layer}"
        for path, (name, given, result) in MODULES.items():
            whole = f"{at}.{path}" if path else at
            x = seen[f"{at}.{given}"] if given else seen[before]
            leaves = {leaf: held[f"{whole}.{leaf}"] for leaf in ("weight", "bias") if f"{whole}.{leaf}" in held}
            calls.append(module(f"transformer.{whole}", name, x, seen[f"{at}.{result}"], leaves))
        before = f"{at}.mlp_residual"
    ln_f = {leaf: held[f"ln_f.{leaf}"] for leaf in ("weight", "bias")}
    calls.append(module("transformer.ln_f", "LayerNorm", seen[before], seen["ln_f"], ln_f))
    keywords = {} if attention_mask is None else {"attention_mask": tensor(attention_mask)}
    model = dataclasses.replace(module("transformer", "GPT2Model", ids, seen["ln_f"]), keywords=keywords)
    calls.append(model)
    calls.append(module("lm_head", "Linear", seen["ln_f"], seen["logits"], {"weight": held["wte.weight"]}))
    return RecordedRun("pytorch", "L0", "tensor", calls=tuple(calls))


def operators_run(
    parameters: Mapping[str, Array], change: Mapping[str, Callable[[Array], Array]] | None = None
) -> RecordedRun:
    """A run of a GPT-2 that is written out, by its operators alone."""
    seen = stages(parameters, change=change)
    calls = [
        operator("gather", 0, parameters["wte.weight"], IDS, 0, result=seen["wte"]),
        operator("gather", 1, parameters["wpe.weight"], np.arange(IDS.shape[1]), 0, result=seen["wpe"][0]),
        operator("__add__", 0, seen["wte"], seen["wpe"][0], result=seen["embeddings"], kind="Tensor"),
    ]
    before = seen["embeddings"]
    for i in range(CONFIG.n_layer):
        at = f"h.{i}"

        def affine(stage: str, name: str, number: int, x: Array, at: str = at) -> Call:
            weight, bias = parameters[f"{at}.{name}.weight"], parameters[f"{at}.{name}.bias"]
            rows, result = x.reshape(-1, x.shape[-1]), seen[f"{at}.{stage}"]
            return operator(
                "addmm", number, bias, rows, weight, result=result.reshape(-1, result.shape[-1]), kind="Torch"
            )

        k = seen[f"{at}.attn.k"].swapaxes(-1, -2)
        q, v, weights = (seen[f"{at}.attn.{name}"] for name in ("q", "v", "attn_weights"))
        products = q @ k
        calls += [
            operator("layer_norm", 2 * i, before, result=seen[f"{at}.ln_1"]),
            affine("attn.qkv", "attn.c_attn", 4 * i, seen[f"{at}.ln_1"]),
            operator("matmul", 2 * i, q, k, result=products, kind="Torch"),
            operator("__truediv__", i, products, 2.0, result=seen[f"{at}.attn.scores"], kind="Tensor"),
            operator("softmax", i, seen[f"{at}.attn.masked_scores"], result=weights),
            operator("matmul", 2 * i + 1, weights, v, result=seen[f"{at}.attn.attn_output"], kind="Torch"),
            affine("attn.c_proj", "attn.c_proj", 4 * i + 1, seen[f"{at}.attn.merged"]),
            operator("layer_norm", 2 * i + 1, seen[f"{at}.attn_residual"], result=seen[f"{at}.ln_2"]),
            affine("mlp.c_fc", "mlp.c_fc", 4 * i + 2, seen[f"{at}.ln_2"]),
            operator("gelu", i, seen[f"{at}.mlp.c_fc"], result=seen[f"{at}.mlp.gelu_new"]),
            affine("mlp.c_proj", "mlp.c_proj", 4 * i + 3, seen[f"{at}.mlp.gelu_new"]),
        ]
        before = seen[f"{at}.mlp_residual"]
    calls += [
        operator("layer_norm", 2 * CONFIG.n_layer, before, result=seen["ln_f"]),
        operator("linear", 0, seen["ln_f"], parameters["wte.weight"], result=seen["logits"]),
    ]
    return RecordedRun("mindspore", "L1", "tensor", calls=tuple(calls))


def recording(*runs: RecordedRun, source: str = "dump", notes: tuple[str, ...] = ()) -> Recording:
    """These runs as a recording."""
    return Recording(Path(source), "msprobe", runs, notes)


def judged_as(wrong: str = "") -> Callable[..., Any]:
    """A judge of calls that finds all right but the call of that name, and does not know embeddings."""

    def judge(run: RecordedRun, *_: Any) -> Any:
        for call in run.calls:
            agrees = call.name != wrong
            size = 0.5 if agrees else 7e5
            if call.operator in ("Embedding", "gather"):
                yield CallJudgement(call, reason="nobody knows this operator")
            else:
                yield CallJudgement(call, "ops.layer_norm", (Verdict(agrees, size, 1.0, 1.0, (0, 1), size, 0.0),))

    return judge


def write_msprobe(run: RecordedRun, folder: Path, place: str = "step0/rank0") -> Path:
    """Write a run as a dump of msprobe, with its arrays as .npy; returns the folder of its files."""
    inside = folder / place
    data = inside / "dump_tensor_data"
    data.mkdir(parents=True)

    def written(value: Any, name: str) -> Any:
        if not isinstance(value, RecordedTensor):
            return value if value is None else {"type": type(value).__name__, "value": value}
        said = value.statistics
        facts = {"type": "torch.Tensor", "dtype": f"torch.{value.dtype}", "shape": list(value.shape)}
        facts |= {"Max": said.max, "Min": said.min, "Mean": said.mean, "Norm": said.norm}
        if value.has_numbers:
            facts["data_name"] = f"{name}.npy"
            np.save(data / f"{name}.npy", value.numbers())
        return facts

    calls = {
        call.name: {
            "input_args": [written(x, f"{call.name}.input.{i}") for i, x in enumerate(call.arguments)],
            "input_kwargs": {name: written(x, f"{call.name}.input.{name}") for name, x in call.keywords.items()},
            "output": [written(x, f"{call.name}.output.{i}") for i, x in enumerate(call.results)],
            "parameters": {name: written(x, f"{call.name}.parameters.{name}") for name, x in call.parameters.items()},
        }
        for call in run.calls
    }
    head = {"task": run.task, "level": run.level, "framework": run.framework, "dump_data_dir": "/elsewhere"}
    (inside / "dump.json").write_text(json.dumps(head | {"data": calls}), encoding="utf-8")
    (inside / "construct.json").write_text(json.dumps(parents_of(run)), encoding="utf-8")
    stacks = {str(i): [[call.name], list(call.stack)] for i, call in enumerate(run.calls)}
    (inside / "stack.json").write_text(json.dumps(stacks), encoding="utf-8")
    return inside


def parents_of(run: RecordedRun) -> dict[str, str | None]:
    """The module call that each call is part of, by the paths."""
    modules = {call.path: call.name for call in run.calls if call.is_module}

    def parent(path: str) -> str | None:
        above = path.rpartition(".")[0]
        return modules.get(above) or parent(above) if above else None

    return {call.name: parent(call.path) for call in run.calls}
