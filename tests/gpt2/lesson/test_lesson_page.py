"""The lesson's page in a browser: it computes what the Python model computes, and everybody can use it."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ml_dtypes
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

import gpt2
from gpt2.errors import GPT2Error
from gpt2.lesson import build, of_prompt
from gpt2.lesson.document import render
from gpt2.lesson.tensors import packed
from gpt2.model.model import Model
from parity.verdict.stages import stage_axes, stage_references
from reference.attention import mask_scores, visible_keys
from tests.gpt2.small import SMALL, model, parameters

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
FLOAT32 = np.dtype(np.float32)
NUMBERS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
LANGUAGES = {"en": "en", "zh": "zh-Hans"}
JUDGED = "h.0.attn.scores"
WORDS = {"en": "2 ulp; 0.8 × noise: agrees", "zh": "2 ulp；0.8 × 噪声：一致"}
VERDICT = {"agrees": True, "identical": False, "ulp": 2.0, "noise_ratio": 0.8, "words": WORDS}
# Every stage that the page has computed, as lists.
STAGES = """() => Object.fromEntries(Object.entries(state.stages).map(([name, {shape, data}]) =>
    [name, {shape, data: Array.from(data)}]))"""

# How many colours a square of 20 pixels has, in the enlarged heat map.
COLOURS = """([x, y]) => {
    const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    context.drawImage(document.querySelector("#map canvas"), -x, -y);
    return new Set(new Uint32Array(context.getImageData(0, 0, 20, 20).data.buffer)).size;
}"""


@pytest.fixture(scope="module")
def tiny() -> Model:
    """The packaged model on the reference."""
    return gpt2.load("tiny", "numpy")


@pytest.fixture(scope="module")
def lesson(tiny: Model) -> dict[str, Any]:
    """The lesson on the packaged model, with one verdict on a twin that need not be installed here."""
    made = build(tiny)
    return made | {"verdicts": {JUDGED: VERDICT}}


@pytest.fixture(scope="module")
def file(lesson: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    return written(lesson, tmp_path_factory.mktemp("lesson"))


def written(lesson: dict[str, Any], folder: Path) -> Path:
    path = folder / "lesson.html"
    path.write_text(render(lesson), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """A function that opens a page without a network. At the end nothing was complained of, nothing else asked for."""
    contexts, said, asked, allowed = [], [], [], set()

    def open_page(address: Path | str, width: int = 1440, route: Any = None, **options: Any) -> Any:
        """route: who answers in place of a server; that it refuses something is no complaint of the page's."""
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, locale="en-US", **options)
        contexts.append(context)
        page = context.new_page()
        refusal = "Failed to load resource" if route else None
        page.on("console", lambda m: None if refusal and m.text.startswith(refusal) else said.append(m.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        if route:
            page.route("**/*", route)
        target = address if isinstance(address, str) else address.as_uri()
        allowed.update({target, target + "lesson"} if route else {target.split("#")[0]})
        page.goto(target)
        return page

    yield open_page
    assert said == []
    assert {url.split("#")[0] for url in asked if urlsplit(url).scheme != "data"} <= allowed
    for context in contexts:
        context.close()


@pytest.fixture
def page(opened: Any, file: Path) -> Any:
    """The page of the packaged model, wide, light, in English."""
    return opened(file)


def go_to(page: Any, step: str) -> None:
    titles = page.evaluate("lesson.steps.map(step => step.id)")
    page.locator("#step-list button").nth(titles.index(step)).click()


def step_of(page: Any) -> str:
    chosen = page.locator("#step-list [aria-current=step]")
    assert chosen.count() == 1
    assert chosen.inner_text().split("\n")[-1] == page.locator("#title").inner_text()
    return str(chosen.get_attribute("data-key"))


def shown_name(page: Any) -> str:
    """The stage whose numbers the figure shows."""
    return str(page.locator(".caption code").inner_text())


def picture(page: Any) -> str:
    """The enlarged heat map, pixel by pixel."""
    return str(page.locator("#map canvas").evaluate("canvas => canvas.toDataURL()"))


def reading(page: Any) -> str:
    return str(page.locator("#readout b").inner_text())


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def layout_of(page: Any) -> dict[str, Any]:
    """Where the cells of the enlarged heat map lie."""
    name, width = shown_name(page), "document.querySelector('#figure').clientWidth - 4"
    return dict(page.evaluate(f"layOut(mapOf(lookedAt({json.dumps(name)}), state.head), {width})"))


def select_cell(page: Any, row: int, column: int) -> None:
    """Move to a cell of the heat map by the arrow keys, from wherever."""
    page.locator("#map").focus()
    here = page.evaluate("state.cell")
    for distance, keys in ((row - here[0], "ArrowDown ArrowUp"), (column - here[1], "ArrowRight ArrowLeft")):
        for _ in range(abs(distance)):
            page.keyboard.press(keys.split()[distance < 0])


def stages_of(page: Any) -> dict[str, Any]:
    return {
        name: np.array(stage["data"], FLOAT32).reshape(stage["shape"]) for name, stage in page.evaluate(STAGES).items()
    }


def assert_agrees(found: dict[str, Any], wanted: Model, ids: Any) -> None:
    references = stage_references(wanted.config, wanted.parameters, ids, None, None, FLOAT32, wanted.backend.accuracy)
    assert list(found) == list(references)
    for name, reference in references.items():
        verdict = reference.judge(found[name])
        assert verdict.agrees, f"{name}: {verdict.explain()}"


# What it shows.


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
        """([config, values, ids]) => {
            const weights = Object.fromEntries(Object.entries(values).map(([n, x]) => [n, Float32Array.from(x)]));
            return Object.entries(gpt2Stages(config, weights, ids)).map(([n, x]) => [n, x.shape, Array.from(x.data)]);
        }""",
        [wanted.config.to_dict(), values, ids],
    )
    stages = {name: np.array(data, FLOAT32).reshape(shape) for name, shape, data in found}
    assert_agrees(stages, wanted, np.array([ids]))


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


# Other models, and the server.


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


# For everybody.


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
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


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("language", LANGUAGES)
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
