"""The gradients that were derived by hand, against the complex step: the derivative of the loss without derivation."""

import dataclasses
import zlib
from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings

from parity.cases.cases import Case, build, cases
from parity.cases.contracts import contracts
from parity.laws.gradients import KINKED
from parity.verdict.liveness import STEP
from parity.verdict.trial import references
from parity.verdict.verdict import Verdict
from reference import ops
from reference.config import ACTIVATIONS, GPT2Config, map_tree
from reference.gradients import attention as of_attention
from reference.gradients import model as of_model
from reference.gradients import ops as of_ops
from reference.ops import Array
from reference.stages import keep_in, observing

FLOAT64 = np.dtype(np.float64)
LOSSES = ("model.language_model_loss_vjp", "model.sequence_classifier_loss_vjp")
of_both_heads = pytest.mark.parametrize("function", LOSSES)
Directions = Callable[[str, Array], Iterator[Array]]  # of a parameter: which ways to go from it


def loss_of(case: Case) -> Callable[..., Array]:
    """What grad multiplies, of the case's arguments, as a function of the parameter to move and of the complex step."""
    arguments = build(case, FLOAT64)[0]
    grad, params = arguments.pop("grad"), arguments.pop("params")
    target = contracts()[case.contract.function.removesuffix("_vjp")].target

    def loss(name: str = "", step: Array | float = 0.0) -> Array:
        moved = map_tree(lambda leaf, x: x + (step if leaf == name else 0j), params)
        with np.errstate(all="ignore"):
            return grad * target(**arguments, params=moved)

    return loss


def verdicts(case: Case, directions: Directions) -> Iterator[tuple[str, Verdict]]:
    """On every parameter: is the derivative along a direction what the gradient says?

    The yardstick is how far the gradient itself strays in float64, on equivalent forms of the input.
    """
    loss = loss_of(case)
    for known in references(case, FLOAT64, {}):
        for direction in directions(known.name, known.oracle):
            along = known.then(lambda gradient, way=direction: np.asarray((gradient * way).sum()))  # type: ignore[misc]
            yield known.name, along.judge(np.asarray(loss(known.name, 1j * STEP * direction).imag / STEP))


def dense(name: str, x: Array) -> Iterator[Array]:
    """One direction that moves every entry."""
    yield np.random.default_rng(zlib.crc32(name.encode())).standard_normal(x.shape)


def every_entry(name: str, x: Array) -> Iterator[Array]:
    """A direction for each entry, that moves it alone."""
    for place in range(x.size):
        yield (np.arange(x.size) == place).astype(FLOAT64).reshape(x.shape)


def has_a_kink(case: Case) -> bool:
    """Whether an activation is given a 0, where relu has no derivative."""
    seen: dict[str, Array] = {}
    with observing(keep_in(seen)):
        loss_of(case)()
    units = [x for name, x in seen.items() if name.endswith("mlp.c_fc")]
    return case.config.activation_function in KINKED and any((x.real == 0).any() for x in units)


@of_both_heads
def test_gradients_are_the_derivatives_of_the_loss(function: str) -> None:
    @settings(max_examples=15)
    @given(cases(contracts()[function], FLOAT64))
    def holds(case: Case) -> None:
        assume(not has_a_kink(case))
        for name, verdict in verdicts(case, dense):
            assert verdict.agrees, f"{name}: {verdict.explain()}"

    holds()


def tiny(function: str, activation: str = "gelu_new", seed: int = 0) -> Case:
    """A small model with masks, pads and labels, of which some are not scored."""
    config = GPT2Config(
        vocab_size=5,
        n_positions=4,
        n_embd=4,
        n_layer=2,
        n_head=2,
        n_inner=3,
        num_labels=2,
        embd_pdrop=0.1,
        attn_pdrop=0.5,
        resid_pdrop=0.1,
        activation_function=activation,
        scale_attn_by_inverse_layer_idx=True,
    )
    return Case(
        contract=contracts()[function],
        sizes={"B": 2, "T": 4, "P": 0, "S": 4, "H": 2, "D": 2, "C": 4, "N": 1, "I": 3, "V": 5, "K": 2, "L": 4},
        scalars={"config": config, "ignore_index": -100},
        absent=frozenset(),
        padding="left",
        regime="live",
        seed=seed,
    )


# Every activation, in turn tied and untied: no function of the backward pass knows both.
TIED = {(activation, number % 2 == 0) for number, activation in enumerate(ACTIVATIONS)}
KINDS = sorted(TIED | {("gelu_new", tied) for tied in (True, False)})


@of_both_heads
@pytest.mark.parametrize(("activation", "tied"), KINDS)
def test_every_single_entry_is_right(function: str, activation: str, tied: bool) -> None:
    case = tiny(function, activation)
    case.scalars["config"] = dataclasses.replace(case.config, tie_word_embeddings=tied)
    wrong = [f"{name}: {verdict.explain()}" for name, verdict in verdicts(case, every_entry) if not verdict.agrees]
    assert not wrong


def last_token_only(grad: Array, ids: Array, weight: Array) -> Array:
    """embedding_vjp in which a row keeps what its last token sends."""
    gradient = np.zeros_like(weight)
    gradient[ids] = grad
    return gradient


def gains_forgotten(grad: Array, x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """layer_norm_vjp of a LayerNorm without gains."""
    return of_ops.layer_norm_vjp(grad, x, np.ones_like(weight), bias, eps)


def head_forgotten(grad: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    """unembedding_vjp that takes the head's weight for fixed."""
    return grad @ weight, np.zeros_like(weight)


# What people get wrong, and some of the parameters whose gradient is wrong then.
FAULTS = {
    "a row looked up twice": (of_model, "embedding_vjp", last_token_only, {"wpe.weight"}),
    "softmax without its second term": (
        of_attention,
        "softmax_vjp",
        lambda grad, x: grad * ops.softmax(x),
        {"h.0.attn.c_attn.weight", "wte.weight"},
    ),
    "gains forgotten": (of_model, "layer_norm_vjp", gains_forgotten, {"h.1.mlp.c_fc.weight", "h.0.ln_2.weight"}),
    "the head's share lost": (of_model, "unembedding_vjp", head_forgotten, {"wte.weight"}),
    "biases summed over the batch alone": (of_ops, "_sum_rows", lambda x: x[0], {"h.1.mlp.c_fc.bias"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_gradient_is_seen(fault: str) -> None:
    room, name, wrong, parameters = FAULTS[fault]
    with patch.object(room, name, wrong):
        found = {name for name, verdict in verdicts(tiny(LOSSES[0]), dense) if not verdict.agrees}
    assert parameters <= found
    assert not any(name.startswith("ln_f") for name in found)  # what comes before the fault, backwards, is right
