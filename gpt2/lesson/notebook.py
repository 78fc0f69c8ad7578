"""The lesson as a Jupyter notebook, with the steps, texts and numbers of the page, for readers who edit code.

The cells of a notebook use `Lesson`; `notebook` writes the cells.
"""

import base64
import dataclasses
import html
import io
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpt2.arguments import LANGUAGES
from gpt2.errors import GPT2Error
from gpt2.lesson.outline import STEPS
from gpt2.lesson.payload import PROMPT, build, reference_of
from gpt2.lesson.sources import FORWARD
from gpt2.lesson.tensors import packed
from gpt2.lesson.words import STEP_WORDS

if TYPE_CHECKING:
    from gpt2.model.model import Model

Array = NDArray[Any]
HIDDEN = -1e30  # lower scores come from the mask and are not drawn
CJK = "\u3000"  # matplotlib's font lacks characters from here on
WORDS = {
    "title": ("GPT-2, step by step", "逐步走进 GPT-2"),
    "about": (
        "The same lesson as the page that `gpt2 lesson` writes: NumPy's GPT-2 (the reference) and its twin, one below "
        "the other, with the tensors of one prompt and the judge's verdict. Run a cell with Shift + Enter. Change the "
        "prompt, the layer, the code.",
        "与 `gpt2 lesson` 生成的网页是同一课：NumPy 的 GPT-2（参考实现）和它的孪生实现上下对照，"
        "附上一个提示的各个张量和裁判的判定。"
        "用 Shift + Enter 运行单元格。可以改提示、改层号、改代码。",
    ),
    "forward": ("The whole forward pass on one page", "一页读完整个前向传播"),
    "forward_about": (
        "`reference/forward.py`: ten minutes, NumPy alone. The steps below follow it; in each you see the full "
        "function, with batches, masks and a cache, beside its twin. The scores are the same, bit for bit.",
        "`reference/forward.py`：十分钟读完，只用 NumPy。下面的步骤跟着它走；"
        "每一步里都能看到加上批次、掩码和缓存之后的完整函数，以及它的孪生实现。两者的分数逐位相同。",
    ),
    "question": ("Question", "问题"),
    "reference": ("Reference", "参考实现"),
    "twin": ("Twin", "孪生实现"),
    "none": (
        "the twin has no such function: its gradients are automatic",
        "孪生实现没有这个函数：它的梯度是自动求出的",
    ),
}


@dataclasses.dataclass(frozen=True)
class Rendered:
    """Output of a notebook cell: a PNG picture, or Markdown text."""

    name: str
    markdown: str | None = None
    png: bytes | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _repr_markdown_(self) -> str | None:
        return self.markdown

    def _repr_png_(self) -> bytes | None:
        return self.png


class Lesson:
    """A prompt in a model. `stages` are the reference's tensors by name, `ids` the prompt, (1, T)."""

    def __init__(self, model: "Model", ids: Array, language: str = "en") -> None:
        """model: a model on the twin's backend. Raises GPT2Error for an unknown language, or a classifier."""
        if language not in LANGUAGES:
            raise GPT2Error(f"unknown language {language!r}: choose one of {', '.join(LANGUAGES)}")
        self.ids, self._language = ids, language
        from parity.verdict.stages import stage_axes

        self._data = build(model, ids, breaks=False)
        self._steps = {step["id"]: step for step in self._data["steps"]}
        self.stages = reference_of(model).stages(ids)
        sampled = {name: packed(x, stage_axes(name)) for name, x in self.stages.items()}
        self._tensors = sampled | self._data["tensors"]

    def sources(self, step: str) -> Rendered:
        """The functions of a step in both implementations, with the judge's verdicts."""
        words, shown = {name: _said(said, self._language) for name, said in WORDS.items()}, []
        for function in self._step(step)["functions"]:
            verdict = function["verdict"]
            judged = "" if verdict is None else f": {verdict['words'][self._language]}"
            shown.append(f"**{function['name']}**{judged}")
            for side in ("reference", "backend"):
                name = words["reference" if side == "reference" else "twin"]
                source = function[side]
                shown.append(f"{name}: {words['none']}" if source is None else f"{name}, `{source['file']}`")
                if source is not None:
                    shown.append(f"```python\n{_plain(source['lines'])}\n```")
        return Rendered(f"sources of {step}", markdown="\n\n".join(shown))

    def show(self, step: str, layer: int = 0) -> Rendered:
        """Pictures of a step's tensors, in one layer if each layer has them: tokens down, channels or keys across."""
        from matplotlib.figure import Figure

        names = [name.replace("{layer}", str(layer)) for name in self._step(step)["tensors"]]
        missing = [name for name in names if name not in self._tensors]
        if missing:
            layers = ", ".join(map(str, self._data["layers"]))
            raise GPT2Error(f"no tensor {missing[0]}: expected one of the layers {layers}")
        pictures = [(name, head) for name in names for head in self._heads(name)]
        rows = -(-len(pictures) // 4)
        figure = Figure(figsize=(12, 3.2 * rows), layout="constrained", dpi=60)
        grid = figure.subplots(rows, min(4, len(pictures)), squeeze=False).ravel()
        for axes, (name, head) in zip(grid, pictures, strict=False):
            self._draw(axes, name, head)
        image = io.BytesIO()
        figure.savefig(image, format="png")
        return Rendered(f"tensors of {step}", png=image.getvalue())

    def _step(self, step: str) -> Mapping[str, Any]:
        if step not in self._steps:
            raise GPT2Error(f"no step {step!r}: choose one of {', '.join(self._steps)}")
        return self._steps[step]

    def _heads(self, name: str) -> list[int | None]:
        axes, shape = self._tensors[name]["axes"], self._tensors[name]["shape"]
        return list(range(shape[axes.index("H")])) if "H" in axes else [None]

    def _draw(self, axes: Any, name: str, head: int | None) -> None:
        tensor = self._tensors[name]
        x, letters = _array(tensor), [letter for letter in tensor["axes"] if letter not in ("B", "H")]
        x = x[0] if "B" in tensor["axes"] else x
        x = x if head is None else x[head]
        axes.set_title(name if head is None else f"{name}[{head}]", fontsize=9)
        if letters[0] == "series":
            axes.plot(x.T, label=_names(tensor["labels"]["series"]))
            axes.legend(fontsize=7)
        elif x.ndim == 1:
            axes.bar(range(len(x)), x)
            self._mark(axes.set_xticks, tensor, letters[0])
        else:
            drawn = np.where(np.isfinite(x) & (x > HIDDEN), x, np.nan)  # NaN shows the grey background
            largest = float(np.nanmax(abs(drawn), initial=0.0))
            axes.imshow(drawn, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
            axes.set_facecolor("0.85")
            self._mark(axes.set_yticks, tensor, letters[0])
            self._mark(axes.set_xticks, tensor, letters[1])

    def _mark(self, ticks: Any, tensor: Mapping[str, Any], letter: str) -> None:
        tokens = self._data["prompt"]["tokens"] if letter in ("T", "S") else []
        names = _names(tensor["labels"].get(letter, tokens))
        if 0 < len(names) <= 24 and max("".join(names)) < CJK:
            ticks(range(len(names)), names, fontsize=7)


def forward_page() -> Rendered:
    """The source of reference/forward.py."""
    return Rendered("reference/forward.py", markdown=f"```python\n{FORWARD.read_text(encoding='utf-8')}```")


def _names(labels: list[Any]) -> list[str]:
    return [label if isinstance(label, str) else label["en"] for label in labels]


def _array(tensor: Mapping[str, Any]) -> Array:
    return np.frombuffer(base64.b64decode(tensor["data"]), "<f4").reshape(tensor["shape"])


def _plain(lines: list[str]) -> str:
    return "\n".join(html.unescape(re.sub(r"<[^>]+>", "", line)) for line in lines)


def _said(said: tuple[str, str], language: str) -> str:
    return said[LANGUAGES.index(language)]


def notebook(language: str, model: str = "tiny", prompt: str = PROMPT) -> dict[str, Any]:
    """The contents of an .ipynb file with the lesson, not run yet. Raises GPT2Error for an unknown language."""
    if language not in LANGUAGES:
        raise GPT2Error(f"unknown language {language!r}: choose one of {', '.join(LANGUAGES)}")
    words = {name: _said(said, language) for name, said in WORDS.items()}
    cells = [
        ("markdown", f"# {words['title']}\n\n{words['about']}"),
        ("markdown", f"## {words['forward']}\n\n{words['forward_about']}"),
        ("code", "from gpt2.lesson.notebook import forward_page\n\nforward_page()"),
        ("code", _setup(language, model, prompt)),
    ]
    for number, step in enumerate(STEPS, 1):
        said = {name: texts[language] for name, texts in STEP_WORDS[step.id].items()}
        cells.append(("markdown", f"## {number}. {said['title']}\n\n{said['text']}"))
        if step.functions:
            cells.append(("code", f'lesson.sources("{step.id}")'))
        if step.tensors:
            layer = ", layer=0" if any("{layer}" in name for name in step.tensors) else ""
            cells.append(("code", f'lesson.show("{step.id}"{layer})'))
        summary = f"<summary>{words['question']}: {said['question']}</summary>"
        cells.append(("markdown", f"<details>{summary}\n\n{said['answer']}\n</details>"))
    return {
        "cells": [_cell(f"{number:03}", *cell) for number, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _setup(language: str, model: str, prompt: str) -> str:
    name, text, chosen = (json.dumps(word, ensure_ascii=False) for word in (model, prompt, language))
    return (
        "import gpt2\n"
        "from gpt2.lesson.notebook import Lesson\n\n"
        f'model = gpt2.load({name}, backend="mindspore", mode="pynative")\n'
        f"ids = model.encode({text})\n"
        f"lesson = Lesson(model, ids, {chosen})\n"
        "{name: x.shape for name, x in lesson.stages.items()}"
    )


def _cell(name: str, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": text}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
