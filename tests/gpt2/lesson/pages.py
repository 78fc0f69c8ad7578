"""What a test asks of the lesson's page in a browser, and what it is held to."""

import base64
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gpt2.lesson.document import render
from gpt2.model.model import Model
from parity.verdict.stages import stage_references

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
FLOAT32 = np.dtype(np.float32)
NUMBERS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
LANGUAGES = {"en": "en", "zh": "zh-Hans"}
JUDGED = "h.0.attn.scores"
WORDS = {"en": "2 ulp; 0.8 × noise: agrees", "zh": "2 ulp；0.8 × 噪声：一致"}
VERDICT = {"agrees": True, "identical": False, "ulp": 2.0, "noise_ratio": 0.8, "words": WORDS}
# Stages that the page has computed: shapes, and float32 numbers in base64, since Playwright looks at every number.
ENCODED = """stages => Object.entries(stages).map(([name, {shape, data}]) => {
    let bytes = "";
    new Uint8Array(Float32Array.from(data).buffer).forEach(byte => { bytes += String.fromCharCode(byte); });
    return [name, shape, btoa(bytes)];
})"""

# How many colours a square of 20 pixels has, in the enlarged heat map.
COLOURS = """([x, y]) => {
    const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    context.drawImage(document.querySelector("#map canvas"), -x, -y);
    return new Set(new Uint32Array(context.getImageData(0, 0, 20, 20).data.buffer)).size;
}"""


def written(lesson: dict[str, Any], folder: Path) -> Path:
    path = folder / "lesson.html"
    path.write_text(render(lesson), encoding="utf-8")
    return path


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
    return decoded(page.evaluate(f"() => ({ENCODED})(state.stages)"))


def decoded(stages: list[Any]) -> dict[str, Any]:
    """Stages as ENCODED gives them."""
    return {name: np.frombuffer(base64.b64decode(x), FLOAT32).reshape(shape) for name, shape, x in stages}


def assert_agrees(found: dict[str, Any], wanted: Model, ids: Any) -> None:
    references = stage_references(wanted.config, wanted.parameters, ids, None, None, FLOAT32, wanted.backend.accuracy)
    assert list(found) == list(references)
    for name, reference in references.items():
        verdict = reference.judge(found[name])
        assert verdict.agrees, f"{name}: {verdict.explain()}"
