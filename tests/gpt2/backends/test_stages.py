"""Every named stage of any model, padded or not, on every engine: judged by the reference at the same stage."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2
from gpt2.backends import Backend
from gpt2.model.model import positions
from parity.cases.cases import Case, build, cases
from parity.cases.contracts import contracts
from parity.verdict.stages import stage_references
from reference.config import flatten
from tests.gpt2.conftest import examples
from tests.gpt2.small import model

FLOAT32 = np.dtype(np.float32)
HEADS = ("language_model", "sequence_classifier")
PADDED = (np.array([[0, 0, 5, 6], [1, 2, 3, 4]]), np.array([[0, 0, 1, 1], [1, 1, 1, 1]]))


def without_past(case: Case) -> Case:
    return dataclasses.replace(case, absent=case.absent | {"past"}, sizes={**case.sizes, "P": 0, "S": case.sizes["T"]})


@pytest.mark.parametrize("head", HEADS)
def test_every_stage_of_every_model_meets_the_reference(head: str, engine: Backend) -> None:
    drawn: st.SearchStrategy[Case] = cases(contracts()[f"model.{head}"].without("keep"), FLOAT32).map(without_past)

    @examples(0.5, engine)
    @given(drawn)
    def holds(case: Case) -> None:
        arguments, _ = build(case, FLOAT32)
        inputs = (arguments["ids"], arguments.get("attention_mask"), arguments.get("position_ids"))
        asked = gpt2.Model(arguments["config"], flatten(arguments["params"]), engine)
        references = stage_references(asked.config, asked.parameters, *inputs, FLOAT32, engine.accuracy)
        stages = asked.engine.stages(*inputs)
        assert list(stages) == list(references)
        for name, stage in stages.items():
            verdict = references[name].judge(stage)
            assert verdict.agrees, f"{name}: {verdict.explain()}"

    holds()


def test_what_belongs_to_a_pad_means_nothing_and_all_else_does() -> None:
    live, (ids, mask) = model(), PADDED
    inputs = (ids, mask, positions(mask))
    references = stage_references(live.config, live.parameters, *inputs, FLOAT32, {})
    for name, stage in live.stages(*inputs).items():
        at_a_pad, at_a_token = stage.copy(), stage.copy()
        row = np.s_[0, :, 1] if stage.ndim == 4 else np.s_[0, 1]
        at_a_pad[row] += 1
        if name.endswith(".scores"):
            at_a_pad[0, :, :, 1] += 1  # a pad's key; the mask hides it in the next stage
        at_a_token[-1] += 1
        assert references[name].judge(at_a_pad).agrees, name
        assert not references[name].judge(at_a_token).agrees, name


def test_the_mask_shows_in_the_stages() -> None:
    live, (ids, mask) = model(), PADDED
    references = stage_references(live.config, live.parameters, ids, mask, None, FLOAT32, {})
    unmasked = live.stages(ids)
    wrong = [name for name in references if not references[name].judge(unmasked[name]).agrees]
    assert wrong[0] == "h.0.attn.masked_scores"
