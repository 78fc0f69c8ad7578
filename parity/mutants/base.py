"""Other implementations to test the judge: the NumPy or the MindSpore engine with a few lines changed.

The lines are changed in a copy of the sources, which is imported under another name; the original does not change.
"""

import ast
import atexit
import dataclasses
import functools
import importlib
import itertools
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar

from gpt2.backends import Backend

ROOT = Path(__file__).parents[2]
# The files that are copied. The configuration is shared: it computes nothing.
COPIED = (
    "reference/**/*.py",
    "ms_backend/**/*.py",
    "ms_backend/**/*.json",
    "gpt2/backends/numpy_backend.py",
    "gpt2/data/*.py",
    "gpt2/evaluation/*.py",
    "gpt2/generation/*.py",
    "gpt2/model/*.py",
    "gpt2/tokenizer/*.py",
)
ITS_NAME = "name_of_the_copy"  # stands in a renamed text
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Edit:
    """Replace `old`, which occurs once in a function, by `new`.

    function: "reference.ops.layer_norm", or "gpt2.backends.numpy_backend.NumPyDecoder.read", with its decorators; the
    name of a module or a class means all of it.
    """

    function: str
    old: str
    new: str

    @property
    def file(self) -> str:
        """The file that is edited, "reference/ops.py"."""
        return _module(self.function).replace(".", "/") + ".py"

    @property
    def name(self) -> str:
        """The name of the function in its file, "NumPyDecoder.read"; "" for the whole file."""
        return self.function.removeprefix(_module(self.function)).removeprefix(".")

    def apply(self, text: str) -> str:
        """The text of the file with the edit made. Raises ValueError if it does not fit."""
        start, end = _span(text, self.name, self.function)
        count = text[start:end].count(self.old)
        if count != 1:
            raise ValueError(f"{self.function}: expected {self.old!r} once, found it {count} times")
        return text[:start] + text[start:end].replace(self.old, self.new) + text[end:]


@functools.cache
def _module(function: str) -> str:
    """The longest prefix of a dotted name that is a file of the sources."""
    steps = function.split(".")
    for count in range(len(steps), 0, -1):
        if ROOT.joinpath(*steps[:count]).with_suffix(".py").is_file():
            return ".".join(steps[:count])
    raise ValueError(f"no source file contains {function}")


def short_name(function: str) -> str:
    """The name of a function as the judge gives it: "ops.softmax", "optim.AdamW.state", "engine.cache.Cache.clear".

    function: its full name, "reference.ops.softmax".
    """
    name = re.sub(r"^(reference|ms_backend)\.", "", function)
    return re.sub(r"^gradients\.(\w+\.\w+_vjp)$", r"\1", name)


def _span(text: str, name: str, where: str) -> tuple[int, int]:
    """Start and end of a function or class in the text of a file; those of the whole text without a name."""
    body: list[ast.stmt] = ast.parse(text).body
    first, last = 1, text.count("\n") + 1
    for step in name.split(".") if name else ():
        named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == step]
        if not named:
            raise ValueError(f"{where}: there is no {step}")
        first = min([named[0].lineno, *(decorator.lineno for decorator in named[0].decorator_list)])
        last, body = named[0].end_lineno or first, named[0].body
    lines = text.splitlines(keepends=True)
    start = sum(map(len, lines[: first - 1]))
    return start, start + sum(map(len, lines[first - 1 : last]))


@dataclasses.dataclass(frozen=True)
class Twin:
    """The sources of an engine ("numpy" or "mindspore") with some edits."""

    name: str
    edits: tuple[Edit, ...]
    engine: str = "numpy"

    def backend(self, device: str = "CPU", dtype: str = "float32", mode: str | None = None) -> Backend:
        """The engine made from these sources. Its `sources` is their folder, `continue_batch` their generation loop.

        `pipeline_name` is that of its engine, and `shared_module` finds the copy of a module that all backends share.
        Raises ValueError if an edit does not fit the sources.
        """
        usual = "eager" if self.engine == "numpy" else "pynative"
        return engine_of(edited_package(self.edits), self.engine, f"twin:{self.name}", device, dtype, mode or usual)


def engine_of(package: ModuleType, engine: str, name: str, device: str, dtype: str, mode: str) -> Backend:
    """The engine ("numpy" or "mindspore") of a copy of the sources, as Twin.backend describes it."""
    file, kind = {
        "numpy": ("gpt2.backends.numpy_backend", "NumPyBackend"),
        "mindspore": ("ms_backend.engine.backend", "MindSporeBackend"),
    }[engine]
    made: Backend = getattr(importlib.import_module(f"{package.__name__}.{file}"), kind)(device, dtype, mode)
    loop = importlib.import_module(f"{package.__name__}.gpt2.generation.loop")
    vars(made).update(
        name=name,
        continue_batch=loop.continue_batch,
        shared_module=lambda module: importlib.import_module(f"{package.__name__}.{module}"),
        pipeline_name=engine,
    )
    return made


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A backend with one bug. `edits` are the changed lines, `story` explains the mistake and who made it.

    where: the correct places to blame: the first wrong stages ("attn.scores"), and the functions that contain the bug
    ("attention.attention_scores"), or the law that detects it if no comparison does. dtype, engine ("numpy",
    "mindspore") and mode: where the bug shows.
    equivalent: the proof, if it is the same function in exact arithmetic and rounds as well: no rule may object.
    beyond_laws: why no law detects it, only the comparison with a reference.
    """

    name: str
    story: str
    edits: tuple[Edit, ...]
    where: tuple[str, ...]
    dtype: str = "float32"
    engine: str = "numpy"
    mode: str = ""
    equivalent: str = ""
    beyond_laws: str = ""

    def backend(self) -> Backend:
        """The engine with the bug.

        Raises ValueError if an edit does not fit the sources.
        """
        return Twin(self.name, self.edits, self.engine).backend("CPU", self.dtype, self.mode or None)


@functools.cache
def edited_package(edits: tuple[Edit, ...]) -> ModuleType:
    """A copy of the sources with these edits. Raises ValueError if one does not fit."""
    changed: dict[str, str] = {}
    for edit in edits:
        known = changed.get(edit.file) or (ROOT / edit.file).read_text(encoding="utf-8")
        changed[edit.file] = edit.apply(known)
    return load(changed)


@functools.cache
def original_sources() -> dict[str, str]:
    """The text of every file that is copied, by its path."""
    files = itertools.chain.from_iterable(map(ROOT.glob, COPIED))
    return {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}


def copied_sources(folder: Path) -> dict[str, str]:
    """The texts in a copy of the sources, with imports as in the original; {} if the folder is not such a copy."""
    files = original_sources()
    if folder == ROOT or not all((folder / file).is_file() for file in files):
        return {}
    texts = {file: (folder / file).read_text(encoding="utf-8") for file in files}
    return {file: text.replace(f"{folder.name}.", "") for file, text in texts.items()}


def load(changed: Mapping[str, str]) -> ModuleType:
    """Import a copy of the sources in which some files have another text.

    Raises ValueError if one of them is not copied.
    """
    sources = original_sources()
    unknown = set(changed) - set(sources)
    if unknown:
        raise ValueError(f"{min(unknown)} is not one of the copied sources")
    name = f"gpt2_twin_{next(_numbers)}"
    made = Path(tempfile.mkdtemp(prefix=f"{name}_"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    folder = made / "site-packages"  # elsewhere, Hypothesis would read every copy in search of constants to draw
    texts = {**sources, **changed}
    for package in {parent for file in texts for parent in Path(name, file).parents[:-1]}:
        (folder / package).mkdir(parents=True, exist_ok=True)
        (folder / package / "__init__.py").touch()
    for file, text in texts.items():
        copy = _rename(text).replace(ITS_NAME, name) if file.endswith(".py") else text
        (folder / name / file).write_text(copy, encoding="utf-8")
    _Finder.folders[name] = folder
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    return importlib.import_module(name)


def remove_copies(names: Iterable[str]) -> None:
    """Remove the files of copies that nothing uses any more; names: those of their packages."""
    for name in names:
        shutil.rmtree(_Finder.folders.pop(name).parent, ignore_errors=True)


class _Finder:
    """Finds the modules of every copy."""

    folders: ClassVar[dict[str, Path]] = {}

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Where a module of a copy is; None for any other."""
        folder = cls.folders.get(name.partition(".")[0])
        if folder is None:
            return None
        return FileFinder(path[0] if path else str(folder), (_Loader, [".py"])).find_spec(name)


class _Loader(SourceFileLoader):
    """Compiles the files that copies have in common once: to compile each copy's takes longer than all else."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of a module of a copy."""
        name = fullname.partition(".")[0]
        text = Path(self.path).read_text(encoding="utf-8")
        return _renamed(_compiled(text.replace(name, ITS_NAME)), name, self.path)


@functools.lru_cache(maxsize=256)  # most files of a copy are not edited
def _compiled(text: str) -> CodeType:
    return compile(text, "", "exec", dont_inherit=True)


def _renamed(code: CodeType, name: str, path: str) -> CodeType:
    """The code of a file for the copy of that name, in which its path is this one."""

    def of_the_copy(constant: Any) -> Any:
        if isinstance(constant, CodeType):
            return _renamed(constant, name, path)
        if isinstance(constant, tuple | frozenset):
            return type(constant)(map(of_the_copy, constant))
        return constant.replace(ITS_NAME, name) if isinstance(constant, str) else constant

    names, constants = of_the_copy(code.co_names), of_the_copy(code.co_consts)
    return code.replace(co_filename=path, co_names=names, co_consts=constants)


@functools.lru_cache(maxsize=256)  # most files of a copy are not edited
def _rename(text: str) -> str:
    """Let imports of copied files find the copy, also those by name; the configuration and the protocol are shared."""
    copied = r"(reference(?!\.config\b)|ms_backend|gpt2\.(?:data|evaluation|generation|model|tokenizer))\b"
    text = re.sub(rf"^(\s*from ){copied}", rf"\1{ITS_NAME}.\2", text, flags=re.MULTILINE)
    return re.sub(rf'(?<=")({copied}\.\w)', rf"{ITS_NAME}.\1", text)


# A correct implementation that rounds in other places: sums run backwards, biases are fused into products, scales and
# divisions come at other steps. The judge must not object to it.
REORDERED = Twin(
    "reordered",
    (
        Edit("reference.ops.matmul", "return np.matmul(a, b)", "return np.matmul(a[..., ::-1], b[..., ::-1, :])"),
        Edit(
            "reference.ops.conv1d",
            "(matmul(rows, weight) + bias)",
            "matmul(np.c_[rows, np.ones(len(rows), rows.dtype)], np.r_[weight, bias[None]])",
        ),
        Edit("reference.ops.layer_norm", "centred = x - mean(x)", "centred = x - mean(x[..., ::-1])"),
        Edit("reference.ops.layer_norm", "/ np.sqrt(variance + eps) * weight", "* (weight / np.sqrt(variance + eps))"),
        Edit("reference.ops.gelu_new", "0.5 * x * (1 + tanh(inner))", "(x + x * np.tanh(inner)) / 2"),
        Edit(
            "reference.ops.softmax",
            "weights / weights.sum(axis=-1, keepdims=True)",
            "weights * (1 / weights[..., ::-1].sum(axis=-1, keepdims=True))",
        ),
        Edit(
            "reference.attention.attention_scores",
            "matmul(q, k.swapaxes(-1, -2))",
            "matmul(q / np.array(scale, q.dtype), k.swapaxes(-1, -2))",
        ),
        Edit("reference.attention.attention_scores", "scores / np.array(scale, scores.dtype)", "scores"),
        Edit("reference.gradients.ops._sum_rows", "return x.sum(axis=0)", "return x[::-1].sum(axis=0)"),
        Edit(
            "reference.gradients.ops.layer_norm_vjp",
            "(g - shift - n * scale) / deviation",
            "(g - (shift + n * scale)) * (1 / deviation)",
        ),
        Edit(
            "reference.gradients.ops.gelu_new_vjp",
            "grad * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)",
            "0.5 * grad * ((1 + t) + x * (1 - t) * (1 + t) * slope)",
        ),
        Edit("reference.gradients.ops.silu_vjp", "grad * s * (1 + x * (1 - s))", "grad * (s + x * s * (1 - s))"),
        Edit(
            "reference.gradients.ops.softmax_vjp", "np.sum(grad * y, axis=-1", "np.sum((grad * y)[..., ::-1], axis=-1"
        ),
        Edit(
            "reference.gradients.ops.embedding_vjp",
            "np.add.at(d_weight, ids, grad)",
            "np.add.at(d_weight, ids[::-1, ::-1], grad[::-1, ::-1])",
        ),
        Edit("reference.fast.linear", "rows += bias", "rows = bias + rows"),
        Edit("reference.model.embed", "tokens + positions", "positions + tokens"),
        Edit("reference.model.block", "x + mlp(normed", "0 + x + mlp(normed"),
    ),
)
