"""Everybody can use the lesson's page: by keyboard, on paper, in the dark, on a telephone, in both languages."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.gpt2.lesson.pages import LANGUAGES, SCREENSHOTS, go_to, picture, shown_name, step_of


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the focus is there; wherever it comes by, it is seen."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue
        outlined = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        assert page.evaluate(outlined), page.evaluate("document.activeElement.outerHTML")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not come to {selector}")


def test_everything_works_by_keyboard_alone(page: Any) -> None:
    press = page.keyboard.press
    tab_to(page, "#skip")
    press("Enter")
    tab_to(page, "#following")
    press("Enter")
    assert step_of(page) == "embeddings"
    tab_to(page, "#question summary")
    press("Enter")
    assert page.locator("#question .text").is_visible()
    tab_to(page, "#prompt")
    press("Control+a")
    page.keyboard.type("sort: dbca")
    press("Shift+Enter")
    press("Enter")
    assert page.locator("#tokens li").last.inner_text() == "↵"
    assert page.locator("#next b").first.inner_text() == "a"
    tab_to(page, "#run")
    tab_to(page, "#break")
    page.keyboard.type("GELU")
    assert page.locator("#broken").is_visible()
    tab_to(page, "[data-key=softmax]")
    press("Enter")
    assert step_of(page) == "softmax"
    assert page.evaluate("document.activeElement.dataset.key") == "softmax"
    tab_to(page, "#layer")
    press("ArrowDown")
    assert shown_name(page) == "h.1.attn.attn_weights"
    tab_to(page, "#head")
    press("ArrowDown")
    tab_to(page, ".overview [role=radio]")
    press("ArrowRight")
    assert page.evaluate("[state.layer, state.head]") == [1, 2]
    tab_to(page, "#map")
    before = page.locator("#readout").inner_text()
    press("ArrowUp")
    press("End")
    assert page.locator("#readout").inner_text() != before
    assert page.locator("#announcer").inner_text() == page.locator("#readout").inner_text()
    assert step_of(page) == "softmax"  # the arrows belonged to the map
    tab_to(page, ".numbers summary")
    press("Enter")
    page.locator(".numbers table").wait_for()
    tab_to(page, "[data-language=zh]")
    press("Enter")
    assert page.locator("html").get_attribute("lang") == LANGUAGES["zh"]
    press("j")
    assert step_of(page) == "weighting"


@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("zh", "dark")])
def test_axe_finds_nothing(opened: Any, file: Path, language: str, scheme: str) -> None:
    page = opened(file, color_scheme=scheme)
    page.locator(f"[data-language={language}]").click()
    page.locator("#break").select_option("erf-for-tanh")
    for step in ("mlp", "softmax", "loss", "mixed_precision"):
        go_to(page, step)
        page.locator("#question").evaluate("question => { question.open = true; }")
        if step == "loss":
            page.locator("#prompt").fill("€")
            page.keyboard.press("Enter")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def settle(page: Any) -> None:
    """Wait until the page has heard of a change of the screen."""
    page.evaluate("() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def test_the_map_follows_the_screen(opened: Any, file: Path, lesson: dict[str, Any]) -> None:
    page = opened(file.as_uri() + "#softmax")
    assert step_of(page) == "softmax"
    light = picture(page)
    page.emulate_media(color_scheme="dark")
    settle(page)
    assert picture(page) != light
    page.emulate_media(color_scheme="light")
    settle(page)
    assert picture(page) == light
    page.set_viewport_size({"width": 360, "height": 800})
    settle(page)
    assert page.locator("#map canvas").bounding_box()["width"] < 360
    assert not page.locator("#step-list").is_visible()  # folded, where there is no room beside
    page.locator("#steps summary").click()
    page.locator("[data-key=scores]").click()
    scores = next(step for step in lesson["steps"] if step["id"] == "scores")
    assert page.locator("#title").inner_text() == scores["title"]["en"]
    assert not page.locator("#step-list").is_visible()


@pytest.mark.parametrize(("language", "width"), [("en", 360), ("en", 1440), ("zh", 360)])
def test_nothing_sticks_out(opened: Any, file: Path, width: int, language: str) -> None:
    """Pictures of some steps stay in build/screenshots, to be looked at."""
    page = opened(file, width)
    page.locator(f"[data-language={language}]").click()
    page.locator("#break").select_option("erf-for-tanh")
    for i in range(page.evaluate("lesson.steps.length")):
        page.evaluate("i => goTo(i)", i)
        assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("innerWidth") == width
        if i % 6 == 1:
            name = page.evaluate("i => lesson.steps[i].id", i)
            page.screenshot(path=SCREENSHOTS / f"{language}-{width}-{name}.png", full_page=True)
