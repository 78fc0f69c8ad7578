"""A report as a page: it stands alone, shows every finding, and cannot be broken into."""

import re
from pathlib import Path
from typing import Any

import pytest

from parity.report.html import page
from tests.parity.report.pieces import Page
from tests.parity.report.reports import finding, full_report, report


def test_the_page_holds_everything() -> None:
    made = full_report()
    shown = Page(page(made))
    assert made.headline in shown.text
    for found in made.findings:
        assert found.function in shown.text
        if not found.agrees:
            for part in (found.explanation, found.case or "", found.blame, found.script):
                assert part in shown.text
    for outcome in made.outcomes:
        assert outcome.message in shown.text
    for value in made.environment.values():
        assert value is None or value[:10] in shown.text


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    source = page(full_report())
    shown = Page(source)
    assert {tag for tag, _ in shown.tags} & {"script", "link", "img", "iframe", "object", "base"} == set()
    for _, attributes in shown.tags:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert all((value or "").startswith("#") for name, value in attributes.items() if name.endswith("href"))
    assert not re.search(r"@import|url\((?!#)", source)


def test_no_id_is_there_twice() -> None:
    ids = [attributes["id"] for _, attributes in Page(page(full_report())).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0


def test_the_same_report_is_the_same_page() -> None:
    made = full_report()
    assert page(made) == page(made)


def test_what_is_identical_is_counted_and_not_drawn() -> None:
    same = [finding(name, noise_ratio=0.0, ulps=0.0, severities=(0.0,) * 4) for name in ("ops.relu", "ops.embedding")]
    assert not [tag for tag, _ in Page(page(report(*same))).tags if tag == "svg"]
    shown = Page(page(report(*same, finding("ops.softmax"))))
    assert "Not drawn: 2 with identical bits in every case." in shown.text
    assert [tag for tag, _ in shown.tags if tag == "svg"] == ["svg", "svg"]


def test_failures_are_linked_from_the_table() -> None:
    tags = Page(page(full_report())).tags
    ids = [attributes["id"] for tag, attributes in tags if tag == "article" and "id" in attributes]
    assert len(ids) == 5
    assert [attributes["href"] for tag, attributes in tags if tag == "a"] == [f"#{name}" for name in ids]


def test_a_report_without_any_result_is_a_page_too() -> None:
    assert "Nothing was judged" in Page(page(report())).text


def colours(source: str, scheme: str) -> dict[str, tuple[float, ...]]:
    """The CSS variables of a colour scheme, as linear RGB."""
    blocks = re.findall(r":root \{(.*?)\}", source, flags=re.DOTALL)
    found = re.findall(r"--(\w+): #(\w{6})", blocks[("light", "dark").index(scheme)])
    channels = {name: [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for name, code in found}
    return {
        name: tuple(x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in values)
        for name, values in channels.items()
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: str) -> None:
    """The contrast that WCAG 2 asks for at level AA: 4.5."""
    palette = colours(page(report()), scheme)
    luminance = {name: 0.2126 * r + 0.7152 * g + 0.0722 * b for name, (r, g, b) in palette.items()}
    for text in ("ink", "quiet", "good", "bad", "known"):
        for behind in ("page", "card", "tint"):
            high, low = sorted((luminance[text], luminance[behind]), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, behind)


@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_in_a_browser(browser: Any, tmp_path: Path, width: int) -> None:
    made = full_report()
    (tmp_path / "report.html").write_text(page(made), encoding="utf-8")
    with browser.new_context(viewport={"width": width, "height": 800}, offline=True) as context:
        opened, said = context.new_page(), []
        opened.on("console", lambda message: said.append(message.text))
        opened.goto((tmp_path / "report.html").as_uri())
        assert opened.locator("h1").inner_text() == made.headline
        rows = opened.locator("tbody th .name").all_inner_texts()
        assert sorted(rows) == sorted(found.function for found in made.findings)
        row = opened.locator("tr.fails").first
        assert row.inner_text().split() == ["ops.layer_norm", "4", "30.00", "99", "differs"]
        assert made.headline in opened.title()  # no script has changed it
        for whole in opened.locator("html, .scroll").all():
            assert whole.evaluate("whole => whole.scrollWidth == whole.clientWidth")  # nothing sticks out
        plots = [plot for plot in opened.locator("figure svg").all() if plot.is_visible()]
        assert len(plots) == 1
        drawn = plots[0].locator("text")
        assert {"ops.softmax", "ops.layer_norm", "allowed", "none"} <= set(drawn.all_text_contents())
        frame = plots[0].bounding_box()
        for text in drawn.all():
            box, name = text.bounding_box(), text.text_content()
            assert box["height"] >= 10, name
            assert frame["x"] <= box["x"], name
            assert box["x"] + box["width"] <= frame["x"] + frame["width"], name
        assert said == []
