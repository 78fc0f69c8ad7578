"""The reference itself: known values, what the course says of each step, and how small it stays."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from reference import attention, ops
from reference.config import GPT2Config, flatten, nest, parameter_shapes
from reference.model import language_model
from reference.stages import keep_in, observe_each, observing

ROOM = Path(attention.__file__).parent
LINES = [(ROOM / f"{name}.py").read_text(encoding="utf-8").splitlines() for name in ("ops", "attention", "model")]
CONFIG = GPT2Config(vocab_size=7, n_positions=8, n_embd=6, n_layer=2, n_head=2)


def parameters(config: GPT2Config = CONFIG) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape) for name, shape in parameter_shapes(config).items()}


def test_the_forward_path_can_be_read_in_one_sitting() -> None:
    assert all(len(lines) < 200 for lines in LINES)


def test_the_formulas_are_not_buried_in_hooks() -> None:
    """Names for the judge, and care for 16 bits, stand on few lines."""
    hooks = re.compile("observe|rounded_once|as_low_as")
    assert sum(bool(hooks.search(line)) for lines in LINES for line in lines) <= 33


def test_the_mask_lets_a_token_see_itself_and_what_came_before() -> None:
    assert attention.causal_bias(2, 3).tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_masked_scores_are_the_lowest_number_and_their_weights_zero(dtype: str) -> None:
    scores = np.ones((1, 1, 2, 2), dtype)
    visible = attention.causal_bias(2, 2)[None, None]
    for masked in (attention.mask_scores(scores, visible), attention.mask_scores_by_addition(scores, visible)):
        assert masked[0, 0, 0, 1] == np.finfo(dtype).min
        assert ops.softmax(masked)[0, 0].tolist() == [[1, 0], [0.5, 0.5]]


def test_adding_the_mask_to_a_negative_float16_score_does_not_overflow() -> None:
    scores, hidden = np.full((1, 1, 1, 1), -100, np.float16), np.zeros((1, 1, 1, 1), bool)
    assert attention.mask_scores_by_addition(scores, hidden) == np.finfo(np.float16).min


def test_gelu_has_two_forms_and_they_differ() -> None:
    x = np.array([-1.0, 0.0, 1.0])
    assert ops.gelu(x).tolist() == [0.5 * t * (1 + math.erf(t / math.sqrt(2))) for t in x]
    assert (ops.gelu(x) != ops.gelu_new(x)).tolist() == [True, False, True]


def test_heads_are_cut_out_of_the_channels_in_order() -> None:
    x = np.arange(12).reshape(1, 2, 6)
    heads = attention.split_heads(x, 2)
    assert heads[0, 1].tolist() == [[3, 4, 5], [9, 10, 11]]
    assert (attention.merge_heads(heads) == x).all()


def test_parameters_nest_and_flatten() -> None:
    flat = parameters(GPT2Config(vocab_size=2, n_positions=2, n_embd=2, n_layer=11, n_head=1))
    tree = nest(flat)
    assert len(tree["h"]) == 11
    assert tree["h"][10]["ln_1"]["bias"] is flat["h.10.ln_1.bias"]
    assert flatten(tree).keys() == flat.keys()


def test_every_step_of_the_walk_through_can_be_watched() -> None:
    seen: dict[str, np.ndarray] = {}
    with observing(keep_in(seen)):
        logits, _ = language_model(nest(parameters()), np.array([[1, 2, 3]]), CONFIG)
    layer = [
        "ln_1",
        "attn.qkv",
        "attn.q",
        "attn.k",
        "attn.v",
        "attn.scores",
        "attn.masked_scores",
        "attn.attn_weights",
        "attn.attn_output",
        "attn.merged",
        "attn.c_proj",
        "attn_residual",
        "ln_2",
        "mlp.c_fc",
        "mlp.gelu_new",
        "mlp.c_proj",
        "mlp_residual",
    ]
    layers = [f"h.{i}.{name}" for i in range(2) for name in layer]
    assert list(seen) == ["wte", "wpe", "embeddings", *layers, "ln_f", "logits"]
    assert seen["logits"] is logits


def test_an_observer_can_change_what_it_sees() -> None:
    ids = np.array([[1, 2, 3]])
    with observing(lambda name, x: np.zeros_like(x) if name == "ln_f" else x):
        logits, _ = language_model(nest(parameters()), ids, CONFIG)
    assert not logits.any()


def test_stages_that_are_named_together_can_be_changed_one_by_one() -> None:
    with observing(lambda name, x: x + 1 if name in ("h.0.attn.k", "wpe") else x):
        assert observe_each("h.0.attn", q=1, k=2, v=3) == (1, 3, 3)
        assert observe_each(wte=1, wpe=2) == (1, 3)
    assert observe_each("h.0.attn", q=1, k=2, v=3) == (1, 2, 3)


def test_a_second_observer_is_refused() -> None:
    with observing(lambda name, x: x), pytest.raises(RuntimeError, match="one observer at a time"), observing(max):
        pass


def test_the_reference_raises_for_an_id_beyond_the_vocabulary() -> None:
    with pytest.raises(IndexError):
        language_model(nest(parameters()), np.array([[7]]), CONFIG)
