"""`--backend numpy --mode plain` runs the functions that one reads: what is changed in reference/model.py shows."""

import numpy as np
import pytest

from gpt2.backends import get_backend
from gpt2.errors import GPT2Error
from gpt2.model.model import Model
from parity.check import check_rule, rules
from reference import model as reference
from tests.gpt2.small import SMALL, parameters

PROMPT = np.array([[3, 1, 4, 1, 5]])


def plain() -> Model:
    return Model(SMALL, parameters(), get_backend("numpy", mode="plain"))


@pytest.mark.parametrize("rule", [name for name in rules() if name.startswith("engine.")])
def test_a_plain_engine_agrees(rule: str) -> None:
    result = check_rule(rules()[rule], get_backend("numpy", mode="plain"), 40, 0)
    assert result.agrees, result.failure


def test_it_writes_what_the_fast_forms_write() -> None:
    fast = Model(SMALL, parameters(), get_backend("numpy"))
    for options in ({}, {"temperature": 1.0, "seed": 3}, {"num_beams": 3}):
        assert (plain().generate(PROMPT, 6, **options) == fast.generate(PROMPT, 6, **options)).all()


def test_a_function_that_is_put_in_place_of_block_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    block = reference.block
    monkeypatch.setattr(reference, "block", lambda x, *rest: (seen.append(x.shape), block(x, *rest))[1])
    plain().generate(PROMPT, 3)
    batch, channels = 1, SMALL.n_embd
    assert seen == [(batch, tokens, channels) for tokens in (5, 1, 1) for _ in range(SMALL.n_layer)]


def test_other_modes_are_refused() -> None:
    with pytest.raises(GPT2Error, match="no mode 'graph': choose one of eager, plain"):
        get_backend("numpy", mode="graph")
