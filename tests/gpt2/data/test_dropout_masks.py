"""Dropout masks: how many values they keep, and what they depend on."""

import itertools
import math

import numpy as np
import pytest

from gpt2.data.dropout_masks import draw_keep
from gpt2.errors import GPT2Error
from reference.config import GPT2Config, flatten, keep_axes

CONFIG = GPT2Config(n_embd=48, n_head=4, n_layer=2, embd_pdrop=0.1, attn_pdrop=0.5, resid_pdrop=0.9)
RATES = {
    "embeddings": 0.1,
    **{
        f"h.{layer}.{name}": rate
        for layer in range(2)
        for name, rate in (("attn.attn_weights", 0.5), ("attn.c_proj", 0.9), ("mlp.c_proj", 0.9))
    },
}
BATCH, TOKENS = 3, 64
DEVIATIONS = 5  # a fair draw lies further out once in two million


def masks(config: GPT2Config = CONFIG, seed: int = 0, step: int = 0) -> dict[str, np.ndarray]:
    return flatten(draw_keep(config, BATCH, TOKENS, seed, step))


def is_by_chance(share: float, expected: float, size: int) -> bool:
    """Whether a share of `size` fair draws may be that far from what is expected."""
    return abs(share - expected) <= DEVIATIONS * math.sqrt(expected * (1 - expected) / size)


def test_there_is_a_mask_for_every_name_in_its_shape() -> None:
    drawn = masks()
    assert drawn.keys() == keep_axes(CONFIG).keys() == RATES.keys()
    for name, keep in drawn.items():
        assert keep.dtype == bool
        assert keep.shape == ((3, 4, 64, 64) if name.endswith("attn_weights") else (3, 64, 48))


def test_each_keeps_its_own_share() -> None:
    for name, keep in masks().items():
        assert is_by_chance(keep.mean(), 1 - RATES[name], keep.size), name


def test_one_rate_of_zero_keeps_everything_there() -> None:
    config = GPT2Config(n_embd=48, n_head=4, n_layer=1, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.5)
    kept = {name: bool(keep.all()) for name, keep in masks(config).items()}
    assert kept == {
        "embeddings": True,
        "h.0.attn.attn_weights": True,
        "h.0.attn.c_proj": False,
        "h.0.mlp.c_proj": False,
    }


def test_without_dropout_there_are_no_masks() -> None:
    config = GPT2Config(n_embd=48, n_head=4, n_layer=1, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    assert draw_keep(config, BATCH, TOKENS, seed=0, step=0) is None


def test_the_same_seed_and_step_give_the_same_masks() -> None:
    other = masks(seed=1, step=2)
    for name, keep in masks(seed=1, step=2).items():
        assert np.array_equal(keep, other[name])


def test_masks_of_other_names_seeds_and_steps_have_nothing_in_common() -> None:
    """Any two agree as often as independent draws do."""
    config = GPT2Config(n_embd=48, n_head=4, n_layer=2, embd_pdrop=0.5, attn_pdrop=0.5, resid_pdrop=0.5)
    drawn = {
        (name, seed, step): keep.reshape(-1)[: 3 * 64 * 48]
        for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1))
        for name, keep in masks(config, seed, step).items()
    }
    for (first, one), (second, other) in itertools.combinations(drawn.items(), 2):
        assert is_by_chance(np.mean(one == other), 0.5, one.size), (first, second)


def test_the_numbers_are_the_same_on_every_machine() -> None:
    keep = draw_keep(GPT2Config(n_embd=8, n_head=1, n_layer=1, embd_pdrop=0.5), 1, 8, seed=2**64 - 1, step=2**64 - 1)
    assert np.packbits(keep["embeddings"]).tobytes().hex() == "281d0471839f45e7"


@pytest.mark.parametrize("numbers", [{"seed": -1}, {"step": -1}, {"seed": 2**64}, {"step": 2**64}])
def test_a_seed_or_step_out_of_range_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(GPT2Error, match="must be an integer from 0 to 2\\*\\*64 - 1, but is"):
        masks(**numbers)
