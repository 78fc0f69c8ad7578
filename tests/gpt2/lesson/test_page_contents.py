"""What the lesson's page shows: steps, sources, heat maps, and what stands beside a cell."""

from pathlib import Path
from typing import Any

from tests.gpt2.lesson.pages import LANGUAGES, WORDS, go_to, step_of


def test_the_page_needs_nothing_but_its_file(opened: Any, file: Path, lesson: dict[str, Any]) -> None:
    page = opened(file)
    assert page.locator("#step-list button").count() == len(lesson["steps"])
    assert page.locator("#title").inner_text() == lesson["steps"][0]["title"]["en"]
    assert file.stat().st_size < 3_000_000


def test_every_step_shows_what_the_lesson_says(page: Any, lesson: dict[str, Any]) -> None:
    for step in lesson["steps"]:
        go_to(page, step["id"])
        assert step_of(page) == step["id"]
        assert page.locator("#text").inner_html() == page.evaluate(
            "html => { const box = document.createElement('div'); box.innerHTML = html; return box.innerHTML; }",
            step["text"]["en"],
        )
        assert page.locator(".function h3").all_inner_texts() == [each["name"] for each in step["functions"]]
        assert page.locator(".figure > .note").filter(has_text="not in the page").count() == 0
        drawn = page.locator("#map, .bars, .curve, .scalar, .token-table").count()
        assert drawn == (step["view"] != "none"), step["id"]


def test_the_language_changes_everything_and_back(page: Any, lesson: dict[str, Any]) -> None:
    seen = {}
    for language in ("zh", "en"):
        page.locator(f"[data-language={language}]").click()
        assert page.locator("html").get_attribute("lang") == LANGUAGES[language]
        assert page.locator(f"[data-language={language}]").get_attribute("aria-pressed") == "true"
        titles = [text.split("\n")[-1] for text in page.locator("#step-list button").all_inner_texts()]
        assert titles == [step["title"][language] for step in lesson["steps"]]
        words = "h1, label, #run, #previous, #following, #question summary, #hint, nav .label"
        seen[language] = [page.title(), *titles, *page.locator(words).all_inner_texts()]
    assert all(one != other or one == "MLP" for one, other in zip(seen["zh"], seen["en"], strict=True))


def test_both_languages_have_the_same_words(page: Any) -> None:
    keys = (
        "words => Object.entries(words).flatMap(([name, word]) => [name + ':' + typeof word, ...(typeof word === "
        "'object' ? Object.keys(word).map(each => name + '.' + each) : [])])"
    )
    assert page.evaluate(f"({keys})(WORDS.en)") == page.evaluate(f"({keys})(WORDS.zh)")


def test_stepping_by_buttons_list_and_keys(page: Any, lesson: dict[str, Any]) -> None:
    steps = [step["id"] for step in lesson["steps"]]
    assert step_of(page) == steps[0]
    assert page.locator("#previous").is_disabled()
    page.locator("#following").click()
    page.locator("#following").click()
    page.locator("#previous").click()
    assert step_of(page) == steps[1]
    go_to(page, "softmax")
    at = steps.index("softmax")
    for key, move in (("j", 1), ("k", -1), ("ArrowRight", 1), ("ArrowRight", 1), ("ArrowLeft", -1)):
        page.keyboard.press(key)
        at += move
        assert step_of(page) == steps[at]
        assert lesson["steps"][at]["title"]["en"] in page.locator("[aria-live=polite]").inner_text()
    page.locator("#prompt").focus()
    for key in ("ArrowLeft", "j"):
        page.keyboard.press(key)
        assert step_of(page) == steps[at]  # whoever writes does not step
    go_to(page, steps[-1])
    assert page.locator("#following").is_disabled()
    page.keyboard.press("ArrowRight")
    assert step_of(page) == steps[-1]


def test_the_sources_stand_side_by_side(opened: Any, file: Path, lesson: dict[str, Any]) -> None:
    shown = next(step for step in lesson["steps"] if step["id"] == "softmax")["functions"][0]
    page = opened(file)
    go_to(page, "softmax")
    table = page.locator(".pair").first
    assert table.locator("tbody tr").count() == len(shown["pairs"])
    both = [i for i, pair in enumerate(shown["pairs"]) if None not in pair]
    for i in both:
        cells = table.locator("tbody tr").nth(i).locator("td.source")
        for side, cell in zip(("reference", "backend"), cells.all(), strict=True):
            line = shown[side]["lines"][shown["pairs"][i][side == "backend"]]
            assert cell.text_content() == page.evaluate(
                "html => { const box = document.createElement('div'); box.innerHTML = html; return box.textContent; }",
                line,
            )
    row = table.locator("tbody tr").nth(both[-1])
    colour = "cell => getComputedStyle(cell).backgroundColor"
    row.locator("td.source").first.hover()
    lit = {cell.evaluate(colour) for cell in row.locator("td.source").all()}
    assert len(lit) == 1
    page.mouse.move(0, 0)
    assert not lit & {cell.evaluate(colour) for cell in row.locator("td.source").all()}
    narrow = opened(file, 360)
    narrow.evaluate("goTo(7)")
    for side, other in (("backend", "reference"), ("reference", "backend")):
        narrow.locator(f".tabs [data-side={side}]").first.click()
        assert narrow.locator(f"td.source[data-side={side}]").last.is_visible()
        assert not narrow.locator(f"td.source[data-side={other}]").last.is_visible()


def test_a_verdict_and_what_it_means(page: Any) -> None:
    go_to(page, "scores")
    for badge in (page.locator(".caption .badge"), page.locator(".function .badge").first):
        assert badge.inner_text() == "2 ulp; 0.8 × noise"
        badge.focus()
        tip = badge.locator("[role=tooltip]")
        assert tip.is_visible()
        assert WORDS["en"] in tip.inner_text()
    page.locator("[data-language=zh]").click()
    assert page.locator(".caption .badge").inner_text() == "2 ulp；0.8 × 噪声"
    go_to(page, "softmax")
    assert page.locator(".caption .badge").inner_text() == "未裁决"
