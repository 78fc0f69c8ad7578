"""The documentation: it builds without a warning, its links lead somewhere, both languages match, commands do run."""

import html.parser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CHINESE = DOCS / "zh-CN"
TRANSLATED = sorted(path.name for path in CHINESE.glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    pytest.importorskip("mindspore", reason="MindSpore is not installed: its twin's docstrings cannot be read")
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    # Without what Sphinx makes by itself, in a third of the time: lists of functions beside the pages, pages of code.
    less = ["-D", "toc_object_entries=0", "-D", "extensions=myst_parser,sphinx.ext.autodoc,sphinx_click"]
    command = [*sphinx, *less, str(DOCS), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    return folder


class Page(html.parser.HTMLParser):
    """The targets of a page's links, and the names that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what the tag leads to, and its name."""
        found = dict(attributes)
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        self.names |= {found["id"] or ""} if "id" in found else set()


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 20
    inside = [(path, urlsplit(link)) for path, page in pages.items() for link in page.links]
    inside = [(path, link) for path, link in inside if not link.scheme and not link.netloc]
    assert len(inside) > 1000
    for path, link in inside:
        target = (path.parent / unquote(link.path)).resolve() if link.path else path
        assert target.exists(), (path.name, link.geturl())
        if link.fragment and target in pages and "_modules" not in path.parts:  # these point at undocumented names too
            assert unquote(link.fragment) in pages[target].names, (path.name, link.geturl())


def test_every_public_function_of_the_reference_is_in_the_site(site: Path) -> None:
    text = (site / "api" / "reference.html").read_text(encoding="utf-8")
    for name in ("ops.layer_norm", "attention.attention", "model.gpt2", "generate.best_continuations"):
        assert f'id="reference.{name}"' in text


def test_pages_come_in_both_languages() -> None:
    assert sorted(path.name for path in DOCS.glob("*.md")) == TRANSLATED


@pytest.mark.parametrize("page", TRANSLATED)
def test_both_languages_have_the_same_headings_and_code(page: str) -> None:
    english, chinese = ((folder / page).read_text(encoding="utf-8") for folder in (DOCS, CHINESE))
    assert [len(mark) for mark in re.findall(r"^(#+) ", without_code(english), re.MULTILINE)] == [
        len(mark) for mark in re.findall(r"^(#+) ", without_code(chinese), re.MULTILINE)
    ]
    assert code_blocks(english) == code_blocks(chinese)


def code_blocks(text: str) -> list[str]:
    """What stands in fences, without comments and without directives."""
    blocks = re.findall(r"^```(\S*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r" *# .*", "", body) for name, body in blocks if not name.startswith("{")]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def steps() -> Iterator[tuple[str, str]]:
    """Each command of the first steps with the output shown after it; Python code comes as a command, too."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (DOCS / "first-steps.md").read_text(), re.MULTILINE | re.DOTALL)
    for (kind, body), (_, after) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "python":
            yield f"python - <<'END'\n{body}END", after
        elif kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                yield command, shown


def test_the_first_steps_can_be_gone(tmp_path: Path) -> None:
    """Each command is run, in the order of the page, where a clone's files are; what is shown is what it prints."""
    pytest.importorskip("mindspore", reason="MindSpore is not installed: the first steps ask for both engines")
    (tmp_path / "gpt2").symlink_to(ROOT / "gpt2")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, shown in steps():
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "COLUMNS": "110"},
            capture_output=True,
            text=True,
        )
        assert ran.returncode == ("exercise:" in command), (command, ran.stderr)  # a bug that is found is no success
        if shown:
            assert plain(ran.stdout) == plain(shown), command


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
