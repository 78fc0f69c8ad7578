"""The weights that training begins with: which are drawn, how widely, and from what."""

import dataclasses

import numpy as np
import pytest

from gpt2.training.initial_weights import initial_parameters
from reference.config import GPT2Config, parameter_shapes

CONFIG = GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2, num_labels=3)


@pytest.mark.parametrize("head", ["language_model", "sequence_classifier"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_there_in_float32(head: str, tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tie_word_embeddings=tied)
    drawn = initial_parameters(config, 0, head)
    assert {name: x.shape for name, x in drawn.items()} == parameter_shapes(config, head)
    assert {x.dtype for x in drawn.values()} == {np.dtype(np.float32)}


def test_gains_are_one_and_biases_zero() -> None:
    for name, x in initial_parameters(CONFIG, 0).items():
        if name.endswith("bias"):
            assert (x == 0).all(), name
        elif ".ln_" in f".{name}":
            assert (x == 1).all(), name
        else:
            assert (x != 0).all(), name


def test_every_weight_has_numbers_of_its_own_and_every_seed() -> None:
    one, other, again = (initial_parameters(CONFIG, seed) for seed in (0, 2**64 - 1, 0))
    weights = [name for name, x in one.items() if x.ndim == 2]
    drawn = [float(each[name].flat[0]) for each in (one, other) for name in weights]
    assert len(set(drawn)) == 2 * len(weights)
    assert all(np.array_equal(one[name], again[name]) for name in one)


def test_the_spread_is_that_of_the_configuration() -> None:
    """Every draw is multiplied by it, so four times the spread is four times every weight, to the bit."""
    one = initial_parameters(CONFIG, 0)
    wide = initial_parameters(dataclasses.replace(CONFIG, initializer_range=4 * CONFIG.initializer_range), 0)
    for name, x in one.items():
        assert np.array_equal(wide[name], 4 * x if x.ndim == 2 else x), name


def test_draws_are_normal_with_the_published_standard_deviation() -> None:
    """Of 2**16 normal numbers the standard deviation is nearer to 0.02 than to what the nearest mistakes would make."""
    drawn = initial_parameters(dataclasses.replace(CONFIG, vocab_size=2**11), 0)["wte.weight"] / 0.02
    mistakes = {"uniform on [-1, 1]": 3**-0.5, "1 / sqrt(C)": 32**-0.5 / 0.02, "truncated at 2": 0.8796, "GPT-2": 1.0}
    assert min(mistakes, key=lambda name: abs(drawn.std() - mistakes[name])) == "GPT-2"
    # a uniform distribution of that deviation has no number beyond sqrt(3), a normal one 8% of them
    assert abs(drawn).max() > 3


def test_what_ends_in_the_residual_stream_is_smaller_by_the_root_of_the_sums() -> None:
    """With 2 and with 8 layers the first two are drawn alike, and the latter are sqrt(4 / 16) of the former in size."""
    shallow, deep = (initial_parameters(dataclasses.replace(CONFIG, n_layer=layers), 0) for layers in (2, 8))
    for name, x in shallow.items():
        assert np.array_equal(deep[name], x / 2 if name.endswith("c_proj.weight") else x), name


def test_with_one_layer_there_are_two_such_sums() -> None:
    """A spread of sqrt(2) draws for c_proj what one of 1 draws elsewhere."""
    shape = dict.fromkeys(("vocab_size", "n_positions", "n_embd", "n_inner"), 8)
    names = list(parameter_shapes(config := GPT2Config(**shape, n_layer=1, n_head=1)))
    wide = initial_parameters(dataclasses.replace(config, initializer_range=2**0.5), 0)
    normal = np.random.Generator(np.random.Philox(key=0))
    for name in names:
        if wide[name].ndim == 1:
            continue
        draws = normal.standard_normal(wide[name].shape)
        if name.endswith("c_proj.weight"):
            assert np.array_equal(wide[name], draws.astype(np.float32)), name
