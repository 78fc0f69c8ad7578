"""The lesson's page computes what the Python model computes, layer by layer, with planted bugs too."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gpt2.model.model import Model
from tests.gpt2.lesson.pages import (
    COLOURS,
    ENCODED,
    JUDGED,
    assert_agrees,
    decoded,
    go_to,
    layout_of,
    number,
    picture,
    reading,
    select_cell,
    shown_name,
    stages_of,
    step_of,
)
from tests.gpt2.small import SMALL, model, parameters

# What it computes.


def test_the_first_prompt_is_computed_in_the_page(page: Any, tiny: Model, lesson: dict[str, Any]) -> None:
    assert_agrees(stages_of(page), tiny, np.array([lesson["prompt"]["ids"]]))


@pytest.mark.parametrize("text", ["sort: hgfedcba\n", "U", "upper: " + "lesson " * 8 + "z"])
def test_another_prompt_changes_tensors_and_next_tokens(page: Any, tiny: Model, text: str) -> None:
    go_to(page, "scores")
    before, first = picture(page), page.locator("#next b").all_inner_texts()
    ids = tiny.encode(text)
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")
    assert page.locator("#tokens li").count() == ids.shape[1]
    assert str(ids.shape[1]) in page.locator("#token-count").inner_text()
    found = stages_of(page)
    assert_agrees(found, tiny, ids)
    assert picture(page) != before
    best = np.argsort(-tiny.logits(ids)[0, -1], kind="stable")[:5]
    shown = page.locator("#next b").all_inner_texts()
    assert shown == [tiny.decode([i]).replace("\n", "↵").replace(" ", "␣") for i in best]
    assert shown != first
    row = ids.shape[1] - 1
    select_cell(page, row, row // 2)
    assert number(reading(page)) == float(f"{found[JUDGED][0, 0, row, row // 2]:.4e}")
    assert page.locator(".caption .badge").inner_text() == "computed here"
    page.locator("[data-key=first]").click()
    assert (picture(page), page.locator("#next b").all_inner_texts()) == (before, first)
    assert page.locator(".caption .badge").inner_text() == "2 ulp; 0.8 × noise"


def test_a_candidate_is_appended(page: Any, tiny: Model) -> None:
    """Four times the likeliest token: the page writes what the model generates."""
    for _ in range(4):
        page.locator("#next button").first.click()
    text = "reverse: abcd\n"
    wanted = tiny.decode(tiny.generate(tiny.encode(text), 4)[0])
    assert page.locator("#prompt").input_value() == wanted == text + "dcba"
    assert page.locator("#next button").first.evaluate("button => button === document.activeElement")


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_function": "gelu"},
        {"activation_function": "relu", "tie_word_embeddings": False},
        {"activation_function": "silu", "scale_attn_by_inverse_layer_idx": True, "n_inner": 24},
        {"scale_attn_weights": False, "n_layer": 1, "n_head": 16, "layer_norm_epsilon": 0.1},
    ],
    ids=lambda changes: ",".join(map(str, changes.values())),
)
def test_any_configuration_is_computed_in_the_page(page: Any, changes: dict[str, Any]) -> None:
    wanted = model(config=dataclasses.replace(SMALL, **changes))
    values = {name: x.ravel().tolist() for name, x in parameters(wanted.config).items()}
    ids = [3, 0, 30, 7, 7, 12]
    found = page.evaluate(
        f"""given => {{
            const [config, values, ids] = JSON.parse(given);
            const weights = Object.fromEntries(Object.entries(values).map(([n, x]) => [n, Float32Array.from(x)]));
            return ({ENCODED})(gpt2Stages(config, weights, ids));
        }}""",
        json.dumps([wanted.config.to_dict(), values, ids]),
    )
    assert_agrees(decoded(found), wanted, np.array([ids]))


@pytest.mark.parametrize(
    ("text", "english", "chinese"),
    [
        ("", "The prompt is empty", "提示词是空的"),
        ("reverse: ab€", "no token for “€”", "没有“€”对应的词元"),
        ("a😀", "no token for “😀”", "没有“😀”对应的词元"),
        ("a" * 70, "70 tokens exceed the context of 64: shorten the prompt by 6", "请把提示词缩短 6 个词元"),
    ],
    ids=["empty", "unknown", "beyond 16 bits", "long"],
)
def test_a_prompt_that_cannot_be_is_refused(page: Any, text: str, english: str, chinese: str) -> None:
    go_to(page, "scores")
    before = picture(page)
    page.locator("#prompt").fill(text)
    page.locator("#run").click()
    alert = page.get_by_role("alert")
    assert english in alert.inner_text()
    assert page.locator("#prompt").get_attribute("aria-invalid") == "true"
    assert page.locator("#prompt").input_value() == text
    page.locator("[data-language=zh]").click()
    assert chinese in alert.inner_text()
    assert picture(page) == before
    page.locator("#prompt").fill("a" * 64)
    page.keyboard.press("Enter")
    assert not alert.is_visible()
    assert page.locator("#prompt").get_attribute("aria-invalid") == "false"
    assert picture(page) != before


# Layers, heads, and what is masked.


def test_layer_and_head_are_picked(page: Any) -> None:
    go_to(page, "scores")
    seen = {picture(page)}
    page.locator("#layer").select_option("1")
    assert shown_name(page) == "h.1.attn.scores"
    seen.add(picture(page))
    page.locator("#head").select_option("2")
    seen.add(picture(page))
    picks = page.locator(".overview [role=radio]")
    assert picks.count() == 2 * 4
    assert page.locator(".overview [aria-checked=true]").get_attribute("aria-label") == "layer 1, head 2"
    picks.nth(3).click()
    assert (shown_name(page), page.locator("#head").input_value()) == (JUDGED, "3")
    seen.add(picture(page))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("[state.layer, state.head]") == [1, 2]
    assert page.evaluate("document.activeElement.ariaChecked") == "true"
    assert picture(page) in seen
    assert len(seen) == 4
    go_to(page, "softmax")
    assert shown_name(page) == "h.1.attn.attn_weights"
    assert page.locator("#head").input_value() == "2"


def test_what_is_masked_and_what_is_exactly_zero(page: Any) -> None:
    legend = page.locator(".legend .key")
    for step, said in (("scores", None), ("causal_mask", "−3.4e38, masked"), ("softmax", "exactly 0")):
        go_to(page, step)
        select_cell(page, 2, 5)
        if said is None:
            assert legend.count() == 0
            assert np.isfinite(number(reading(page)))
            continue
        assert (legend.all_inner_texts(), reading(page)) == ([said], said)
        select_cell(page, 5, 2)
        assert reading(page) != said
        select_cell(page, 9, 9)
        layout = layout_of(page)
        places = [
            [layout["left"] + c * layout["cellWidth"] + 4, layout["top"] + r * layout["cellHeight"] + 4]
            for r, c in ((2, 5), (5, 2))
        ]
        hidden, visible = (page.evaluate(COLOURS, place) for place in places)
        assert hidden > 1  # hatched, or with a dot
        assert visible == 1


def test_the_pointer_reads_the_number_under_it(page: Any) -> None:
    go_to(page, "scores")
    select_cell(page, 4, 7)
    there = reading(page)
    select_cell(page, 0, 0)
    layout = layout_of(page)
    x = layout["left"] + 7.8 * layout["cellWidth"]
    y = layout["top"] + 4.8 * layout["cellHeight"]
    page.locator("#map canvas").hover(position={"x": x, "y": y})
    assert reading(page) == there
    assert "query 4 “r” → key 7 “:”" in page.locator("#readout").inner_text()
    go_to(page, "qkv")
    assert "token 13 “↵” · q, channel 0: " in page.locator("#readout").inner_text()
    page.locator("#map").press("End")
    assert "token 13 “↵” · v, channel 127: " in page.locator("#readout").inner_text()


def test_what_is_not_a_number_says_so(page: Any) -> None:
    go_to(page, "mixed_precision")
    page.locator("[data-key=tensor-1]").click()
    select_cell(page, 0, 1)
    assert reading(page) == "NaN"
    assert page.locator(".legend .key").all_inner_texts() == ["NaN", "exactly 0"]
    page.locator("[data-key=tensor-0]").click()
    assert page.locator(".curve text").all_text_contents().count("∞") == 1


def test_the_numbers_as_a_table(page: Any, tiny: Model) -> None:
    go_to(page, "softmax")
    page.locator(".numbers summary").click()
    page.locator(".numbers table").wait_for()
    rows = [row.locator("td").all_inner_texts() for row in page.locator(".numbers tbody tr").all()]
    found = stages_of(page)["h.0.attn.attn_weights"][0, 0]
    assert [[number(text) for text in row] for row in rows] == [
        [float(f"{x:.4e}" if x >= 1e-3 else f"{x:.3e}") for x in row] for row in found
    ]


# Break it.


def test_a_planted_bug_shows_where_the_tensors_part(page: Any, lesson: dict[str, Any]) -> None:
    go_to(page, "scores")
    right = picture(page)
    for broken in lesson["breaks"]:
        page.locator("#break").select_option(broken["id"])
        panel = page.locator("#broken")
        assert panel.locator("h2").inner_text() == broken["name"]["en"]
        assert panel.locator(".diff li").count() == len(broken["diff"])
        bars = panel.locator("#strip button")
        assert bars.count() == len(broken["noise"])
        wrong = [name for name, error in broken["noise"].items() if error > 1]
        assert bars.and_(page.locator(":not(.agrees)")).evaluate_all("all => all.map(e => e.dataset.stage)") == wrong
        assert panel.locator("#strip .first").get_attribute("data-stage") == broken["first_wrong"] == wrong[0]
        page.locator("#show-broken").click()
        assert shown_name(page) == broken["first_wrong"]
        assert page.locator("#step-list .marked").get_attribute("data-key") == broken["step"]
        views = []
        for look in ("right", "broken", "difference"):
            page.locator(f"[data-key=look-{look}]").click()
            views.append((picture(page), page.locator(".legend").inner_text()))
        assert len(set(views)) == 3, broken["id"]
    page.locator("#break").select_option("")
    assert not page.locator("#broken").is_visible()
    go_to(page, "scores")
    assert picture(page) == right


def test_the_strip_of_stages_is_walked_by_keys(page: Any) -> None:
    page.locator("#break").select_option("erf-for-tanh")
    page.locator("#strip .first").focus()
    page.keyboard.press("End")
    assert "logits: " in page.locator(".strip-says").inner_text()
    page.keyboard.press("Enter")
    assert step_of(page) == "logits"
    page.locator("#strip button[tabindex='0']").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert "wpe: " in page.locator(".strip-says").inner_text()
    assert step_of(page) == "logits"


def test_a_bug_belongs_to_the_first_prompt(page: Any) -> None:
    page.locator("#break").select_option("erf-for-tanh")
    go_to(page, "mlp")
    assert page.locator("[data-key=look-broken]").get_attribute("aria-pressed") == "true"
    page.locator("#prompt").fill("copy: x")
    page.keyboard.press("Enter")
    assert "first prompt" in page.locator("#broken .note").inner_text()
    assert page.locator("[data-key=look-broken]").count() == 0
