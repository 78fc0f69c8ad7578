"""Whole submodules, parameters' gradients, casts and statistics: from what a dump holds of them."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from parity.recorded.calls import Setting, judge_calls
from parity.recorded.judgement import CallJudgement
from parity.recorded.recording import Call, RecordedRun, RecordedTensor
from reference.attention import attention
from reference.config import GPT2Config, nest, parameter_axes
from reference.gradients.attention import attention_vjp
from reference.gradients.model import block_vjp, mlp_vjp
from reference.model import mlp
from reference.ops import layer_norm
from tests.parity.recorded.calls_by_hand import Numbers, backward, call, recorded, run, tensor, with_result

CONFIG = GPT2Config(vocab_size=11, n_positions=6, n_embd=8, n_head=2, n_layer=1, layer_norm_epsilon=1e-5)
SETTING = Setting({"exp": 2.0**-20, "tanh": 2.0**-20})
X, GRAD = Numbers()(2, 6, 8), Numbers()(2, 6, 8)[::-1]
AT = "transformer.h.0"


def parameters() -> Any:
    numbers, sizes = Numbers(), {"C": 8, "I": 32, "V": 11, "L": 6, "H": 2, "D": 4}
    shapes = {
        name: [int(np.prod([sizes.get(x) or int(x) for x in axis.strip().split("*")])) for axis in axes.split(",")]
        for name, axes in parameter_axes(CONFIG).items()
    }
    return nest({name: numbers(*shape) for name, shape in shapes.items()})["h"][0]


def float64(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: float64(x) for name, x in tree.items()}
    return tree.astype(np.float64)


def single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)


def calls_of_block() -> dict[str, Call]:
    """The calls of one block in the order of a run, by name, with what float64 gives, rounded once."""
    params = parameters()
    wide, x, grad = float64(params), X.astype(np.float64), GRAD.astype(np.float64)
    normed = layer_norm(x, **wide["ln_1"])
    attended = attention(normed, wide["attn"], CONFIG)[0]
    middle = x + attended
    after = mlp(layer_norm(middle, **wide["ln_2"]), wide["mlp"], CONFIG)

    def module(operator: str, name: str, given: Any, result: Any, parent: str = "", **parameters: Any) -> Call:
        path = f"{AT}.{name}" if name else AT
        parent = f"Module.{AT}{parent}.forward.0" if parent else ""
        return call(operator, [single(given)], [single(result)], path, parameters=parameters, parent=parent)

    softmax = call(
        "softmax", [X[:, None, :, :6], -1], [np.ones((2, 2, 6, 6), np.float32)], parent=f"Module.{AT}.attn.A.forward.0"
    )
    gelu = call("NewGELUActivation", [X], [X], f"{AT}.mlp.act", parent=f"Module.{AT}.mlp.M.forward.0")
    inner = {
        name: params[part][name] for part in ("attn", "mlp") for name in ("c_attn", "c_fc") if name in params[part]
    }
    return {
        "ln_1": module("LayerNorm", "ln_1", x, normed, ".Block", **params["ln_1"]),
        "c_attn": module("Conv1D", "attn.c_attn", x, x, ".attn.A", **inner["c_attn"]),
        "scale": call("__truediv__", [X[:, None], 2.0], [X[:, None] / 2], parent=f"Module.{AT}.attn.A.forward.0"),
        "softmax": softmax,
        "c_proj": module("Conv1D", "attn.c_proj", x, x, ".attn.A", **params["attn"]["c_proj"]),
        "attn": module("A", "attn", normed, attended, ".Block"),
        "ln_2": module("LayerNorm", "ln_2", x, x, ".Block", **params["ln_2"]),
        "c_fc": module("Conv1D", "mlp.c_fc", x, x, ".mlp.M", **inner["c_fc"]),
        "gelu": gelu,
        "mlp.c_proj": module("Conv1D", "mlp.c_proj", x, x, ".mlp.M", **params["mlp"]["c_proj"]),
        "mlp": module("M", "mlp", layer_norm(middle, **wide["ln_2"]), after, ".Block"),
        "block": module("Block", "", x, middle + after),
        "attn backward": backward(
            module("A", "attn", normed, attended),
            [GRAD],
            [single(attention_vjp(grad, float64(single(normed)), wide["attn"], CONFIG)[0])],
        ),
        "mlp backward": backward(
            module("M", "mlp", normed, after),
            [GRAD],
            [single(mlp_vjp(grad, float64(single(layer_norm(middle, **wide["ln_2"]))), wide["mlp"], CONFIG)[0])],
        ),
        "block backward": backward(module("Block", "", x, x), [GRAD], [single(block_vjp(grad, x, wide, CONFIG)[0])]),
    }


BLOCK = calls_of_block()


def judged(calls: dict[str, Call], name: str, setting: Setting = SETTING) -> CallJudgement:
    found = list(judge_calls(run(*calls.values()), setting))
    return found[list(calls).index(name)]


@pytest.mark.parametrize("name", ["attn", "mlp", "block", "attn backward", "mlp backward", "block backward"])
def test_a_submodule_is_judged_from_its_input_and_its_childrens_parameters(name):
    right = judged(BLOCK, name)
    assert right.is_judged, right.reason
    assert right.agrees, right.worst.explain()
    wrong = BLOCK[name].results[0].numbers().copy()
    wrong[0, [1, 2]] = wrong[0, [2, 1]]
    assert not judged(BLOCK | {name: with_result(BLOCK[name], 0, wrong)}, name).agrees


def test_heads_that_are_cut_but_not_moved_are_seen():
    """All statistics of a permuted result are those of the right one."""
    x = BLOCK["attn"].results[0].numbers()
    assert not judged(
        BLOCK | {"attn": with_result(BLOCK["attn"], 0, x.reshape(2, 2, 6, 4).reshape(2, 6, 8)[:, ::-1])}, "attn"
    ).agrees


def test_what_cannot_be_told_is_said():
    without_heads = {name: each for name, each in BLOCK.items() if name != "softmax"}
    assert "how many heads" in judged(without_heads, "attn").reason
    assert judged(without_heads, "attn", dataclasses.replace(SETTING, config=CONFIG)).agrees
    without_activation = {name: each for name, each in BLOCK.items() if name != "gelu"}
    assert "its activation is not recorded" in judged(without_activation, "mlp").reason
    past = dataclasses.replace(BLOCK["attn"], keywords={"layer_past": recorded([X, X])})
    assert "it has a past" in judged(BLOCK | {"attn": past}, "attn").reason


def test_another_scale_is_judged_with_a_configuration_alone():
    unscaled = {name: each for name, each in BLOCK.items() if name != "scale"}
    assert "divided by 1 in all, not by the root of 4" in judged(unscaled, "attn").reason
    assert judged(unscaled, "attn", dataclasses.replace(SETTING, config=CONFIG)).agrees
    other = dataclasses.replace(CONFIG, scale_attn_weights=False)
    assert not judged(unscaled, "attn", dataclasses.replace(SETTING, config=other)).agrees


def test_a_mask_that_no_gpt2_has_cannot_be_judged_and_one_that_shows_later_tokens_is_not_followed():
    causal = np.tri(6, dtype=bool)
    for visible in (causal, np.tri(6, k=1, dtype=bool), ~causal):  # the right result, whatever the mask says
        masked = dataclasses.replace(BLOCK["attn"], keywords={"attention_mask": tensor(np.tile(visible, (2, 1, 1, 1)))})
        assert judged(BLOCK | {"attn": masked}, "attn").agrees
    window = causal & ~np.tri(6, k=-3, dtype=bool)
    masked = dataclasses.replace(BLOCK["attn"], keywords={"attention_mask": tensor(np.tile(window, (2, 1, 1, 1)))})
    assert "its mask hides other keys" in judged(BLOCK | {"attn": masked}, "attn").reason


def test_an_epsilon_that_only_a_configuration_tells():
    n = Numbers()
    x, gain, shift = n(2, 5, 8) / 64, n(8), n(8)
    result = single(layer_norm(float64(x), float64(gain), float64(shift), 1e-6))
    calls = run(call("LayerNorm", [x, gain, shift], [result]), framework="mindspore")
    (found,) = judge_calls(calls, SETTING)
    assert "with 1e-06 it agrees" in found.reason
    for epsilon, agrees in ((1e-6, True), (1e-5, False)):
        config = dataclasses.replace(CONFIG, layer_norm_epsilon=epsilon)
        (found,) = judge_calls(calls, dataclasses.replace(SETTING, config=config))
        assert found.agrees == agrees


def gradients(change: float = 0.0) -> RecordedRun:
    """An embedding and a head that are tied, forward and backward, and the gradient of their weight."""
    numbers, ids = Numbers(), np.array([[1, 3, 3]])
    weight, x, d_scores, d_rows = numbers(11, 8), numbers(1, 3, 8), numbers(1, 3, 11), numbers(1, 3, 8)
    wide = weight.astype(np.float64), x.astype(np.float64), d_scores.astype(np.float64)
    head = call("Linear", [x], [single(wide[1] @ wide[0].T)], "lm_head", parameters={"weight": weight})
    wte = call("Embedding", [ids], [weight[ids]], "transformer.wte", parameters={"weight": weight})
    back = backward(head, [d_scores], [single(wide[2] @ wide[0])]), backward(wte, [d_rows], [])
    d_weight = wide[2][0].T @ wide[1][0]
    np.add.at(d_weight, ids, d_rows.astype(np.float64))
    d_weight[3, 0] += change
    return run(wte, head, *back, parameter_gradients={"lm_head.weight": tensor(single(d_weight))})


def test_the_gradient_of_a_tied_weight_is_the_sum_of_both():
    for change in (0.0, 0.01):
        found = list(judge_calls(gradients(change), SETTING))[2]
        assert [verdict.name for verdict in found.verdicts] == ["", "lm_head.weight"]
        assert found.agrees == (not change)


def test_the_gradient_of_a_parameter():
    n = Numbers()
    x, weight, bias, grad = n(2, 3, 8), n(8, 5), n(5), n(2, 3, 5)
    wide = [each.astype(np.float64) for each in (x, weight, bias, grad)]
    forward = call(
        "Conv1D", [x], [single(wide[0] @ wide[1] + wide[2])], "a", parameters={"weight": weight, "bias": bias}
    )
    back = backward(forward, [grad], [single(wide[3] @ wide[1].T)])
    for wrong in (0, 1):
        d_bias = single(wide[3].sum((0, 1)))
        d_bias[1] *= 1 + wrong
        found = list(judge_calls(run(forward, back, parameter_gradients={"a.bias": tensor(d_bias)}), SETTING))[1]
        assert found.verdicts[-1].name == "a.bias"
        assert found.agrees == (not wrong)


def test_a_product_under_autocast_is_judged_in_its_own_dtype():
    n = Numbers()
    x, weight = n(4, 64), n(32, 64)
    low = (x.astype(np.float16).astype(np.float64) @ weight.astype(np.float16).astype(np.float64).T).astype(np.float16)
    (found,) = judge_calls(run(call("linear", [x, weight], [low])), SETTING)
    assert found.is_judged
    assert found.agrees
    low[0, 0] += np.float16(1)
    (found,) = judge_calls(run(call("linear", [x, weight], [low])), SETTING)
    assert not found.agrees


def without_numbers(one: Call) -> Call:
    def strip(value: Any) -> Any:
        if isinstance(value, RecordedTensor):
            return dataclasses.replace(value, read=None)
        return tuple(map(strip, value)) if isinstance(value, tuple) else value

    return dataclasses.replace(one, arguments=strip(one.arguments), results=strip(one.results))


def softmax(x: np.ndarray) -> np.ndarray:
    return single(np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(-1, keepdims=True))


@pytest.mark.parametrize(
    ("operator", "arguments", "right", "wrong"),
    [
        ("reshape", [X, 2, 48], X.reshape(2, 48), 2 * X.reshape(2, 48)),
        ("softmax", [X, -1], softmax(X), softmax(X) / 2),
        ("__mul__", [X, 0.5], X / 2, X / 3),
        ("tanh", [X], np.tanh(X), np.tanh(2 * X)),
        ("__add__", [X, X[0]], X + X[0], 9 * X),
        ("layer_norm", [X, [8], np.ones(8, np.float32), np.zeros(8, np.float32), 1e-5], np.clip(X, -1, 1), 9 * X),
        ("matmul", [X, X.swapaxes(1, 2)], X @ X.swapaxes(1, 2), 9 * X @ X.swapaxes(1, 2)),
    ],
)
def test_statistics_alone(operator, arguments, right, wrong):
    for result, agrees in ((right, True), (wrong, False)):
        (found,) = judge_calls(run(without_numbers(call(operator, arguments, [result]))), SETTING)
        assert found.by_statistics
        assert found.agrees == agrees


def test_statistics_from_which_nothing_follows():
    (found,) = judge_calls(run(without_numbers(call("gelu", [X], [X]))), SETTING)
    assert not found.is_judged
    assert "statistics alone" in found.reason
