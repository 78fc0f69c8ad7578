"""The lesson's page of other models, and with a server behind it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2.errors import GPT2Error
from gpt2.lesson import of_prompt
from gpt2.lesson.document import render
from gpt2.lesson.tensors import packed
from gpt2.model.model import Model
from parity.verdict.stages import stage_axes
from reference.attention import mask_scores, visible_keys
from tests.gpt2.lesson.pages import NUMBERS, go_to, picture, reading, select_cell, written


@pytest.fixture(scope="module")
def sampled(tiny: Model, lesson: dict[str, Any]) -> dict[str, Any]:
    """The lesson as it is for a model too large for the page: no weights, but tensors, of which a part is kept."""
    stored = of_prompt(tiny, np.array([lesson["prompt"]["ids"]]))
    return lesson | {
        "model": lesson["model"] | {"weights": None, "tokens": None},
        "tensors": lesson["tensors"] | stored["tensors"],
    }


def test_a_larger_model_is_sampled_and_says_so(opened: Any, sampled: dict[str, Any], tmp_path: Path) -> None:
    page = opened(written(sampled, tmp_path))
    assert page.locator("#prompt").evaluate("box => box.readOnly")
    assert not page.locator("#run").is_visible()
    assert "--serve" in page.locator("#hint").inner_text()
    go_to(page, "mlp")
    assert "64 of 512 units" in page.locator(".figure .note").first.inner_text()
    select_cell(page, 3, 63)
    assert "unit 511: " in page.locator("#readout").inner_text()


@pytest.mark.parametrize(("dtype", "lowest"), [("float16", "−65504"), ("bfloat16", "−3.4e38"), ("float64", "−1.8e308")])
def test_masked_scores_of_every_dtype(
    opened: Any, sampled: dict[str, Any], tiny: Model, tmp_path: Path, dtype: str, lowest: str
) -> None:
    name, seen = "h.0.attn.masked_scores", tiny.encode(sampled["prompt"]["text"]).shape[1]
    masked = mask_scores(np.zeros((1, 4, seen, seen), NUMBERS[dtype]), visible_keys(seen, seen))
    tensors = sampled["tensors"] | {name: packed(masked, stage_axes(name))}
    page = opened(written(sampled | {"tensors": tensors}, tmp_path))
    go_to(page, "causal_mask")
    select_cell(page, 2, 5)
    assert reading(page) == page.locator(".legend .key").first.inner_text() == f"{lowest}, masked"
    page.locator(".numbers summary").click()
    page.locator(".numbers table").wait_for()
    assert page.locator(".numbers tbody tr").nth(2).locator("td").all_inner_texts() == ["0"] * 3 + [lowest] * (seen - 3)


def test_a_prompt_is_sent_to_the_server_and_nowhere_else(opened: Any, sampled: dict[str, Any], tiny: Model) -> None:
    def answer(route: Any) -> None:
        request = route.request
        if request.method == "GET":
            return route.fulfill(body=render(sampled | {"server": True}), content_type="text/html; charset=utf-8")
        assert request.headers["content-type"] == "application/json"
        try:
            found = of_prompt(tiny, tiny.encode(request.post_data_json["prompt"]))
        except GPT2Error as error:
            return route.fulfill(status=400, json={"error": str(error)})
        return route.fulfill(json=found)

    page = opened("http://localhost:8000/", route=answer)
    go_to(page, "scores")
    before = picture(page)
    page.locator("#prompt").fill("copy: xyz\n")
    page.locator("#run").click()
    page.get_by_text("10 of 64 tokens").wait_for()
    assert picture(page) != before
    assert page.locator("#next b").first.inner_text() == "x"
    page.locator("#prompt").fill("€")
    page.locator("#run").click()
    page.get_by_role("alert").wait_for()
    assert "The server did not take it: " in page.get_by_role("alert").inner_text()
    page.unroute("**/*")
    page.route("**/*", lambda route: route.abort())
    page.locator("#run").click()
    page.get_by_text("The server does not answer").wait_for()
