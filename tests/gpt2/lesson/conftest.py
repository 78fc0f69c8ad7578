"""The lesson's page, of the packaged model or of any, opened in a browser without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import gpt2
from gpt2.lesson import build
from gpt2.model.model import Model
from tests.gpt2.lesson.pages import JUDGED, VERDICT, written


@pytest.fixture(scope="session")
def tiny() -> Model:
    """The packaged model on the reference."""
    return gpt2.load("tiny", "numpy")


@pytest.fixture(scope="session")
def lesson(tiny: Model) -> dict[str, Any]:
    """The lesson on the packaged model, with one verdict on a twin that need not be installed here."""
    made = build(tiny)
    return made | {"verdicts": {JUDGED: VERDICT}}


@pytest.fixture(scope="session")
def file(lesson: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    return written(lesson, tmp_path_factory.mktemp("lesson"))


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
    for context in contexts:
        context.close()
    assert said == []
    assert {url.split("#")[0] for url in asked if urlsplit(url).scheme != "data"} <= allowed


@pytest.fixture
def page(opened: Any, file: Path) -> Any:
    """The page of the packaged model, wide, light, in English."""
    return opened(file)
