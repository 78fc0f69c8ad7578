"""Mistakes with a choice or a number in them: the number is estimated from the results, and read."""

import pytest

from parity.explanation.choices import every_choice
from parity.explanation.copies import Copy
from parity.mutants.base import Edit
from tests.parity.explanation.test_explain import edited, explained, only

ROOT_OF_D = "math.sqrt(config.head_size)"


@pytest.mark.parametrize(
    ("edit", "rule", "name", "number"),
    [
        (
            Edit("reference.attention.attention_scale", ROOT_OF_D, "7.25"),
            "attention.attention_weights",
            "another number for the root of D: 7.25",
            "7.25",
        ),
        (
            Edit("reference.attention.attention_scale", ROOT_OF_D, "config.head_size ** 0.25"),
            "attention.attention_weights",
            "another number for the root of D: D^(1/4)",
            "that is D^(1/4)",
        ),
        (
            Edit("reference.ops.layer_norm", "variance + eps", "variance + 3e-4"),
            "ops.layer_norm",
            "LayerNorm with another epsilon: 0.0003",
            "epsilon is 0.0003",
        ),
        (
            Edit("reference.ops.silu", "x * sigmoid(x)", "0.75 * x * sigmoid(x)"),
            "ops.silu",
            "the result times a number: 0.75",
            "0.75",
        ),
    ],
)
def test_a_number_is_estimated_and_read(edit: Edit, rule: str, name: str, number: str) -> None:
    found = only(explained(edited(edit), rule))
    assert found.name == name
    assert number in found.number
    assert found.changes[0].function == edit.function.removeprefix("reference.")


@pytest.mark.parametrize(
    ("edit", "rule", "name"),
    [
        (
            Edit("reference.ops.gelu_new", "0.5 * x * (1 + tanh(inner))", "x * np.clip(x / 6 + 0.5, 0, 1)"),
            "ops.gelu_new",
            "hard swish for gelu_new",
        ),
        (
            Edit("reference.attention.causal_bias", "key_length - query_length, d", "key_length - query_length - 2, d"),
            "attention.causal_bias",
            "the mask off by -2",
        ),
    ],
)
def test_a_choice_is_found(edit: Edit, rule: str, name: str) -> None:
    assert only(explained(edited(edit), rule)).name == name


def test_every_choice_fits_the_sources() -> None:
    names = [choice.name for choice in every_choice()]
    assert len(set(names)) == len(names)
    for choice in every_choice():
        Copy(choice.edits)  # raises ValueError for lines that are no longer there
