"""Read the table of operators, find a recorded call in it, and give its arguments the names of the reference."""

import dataclasses
import functools
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from gpt2.errors import GPT2Error
from gpt2.json_input import as_type
from parity.recorded.operators import tensors
from parity.recorded.operators.functions import FUNCTIONS
from parity.recorded.recording import Call, RecordedTensor

OURS = "operators.yaml"
ANYTHING = "-"  # an argument that does not matter
FORM = "; see parity/recorded/operators/operators.yaml for the form"


class Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the table; operators.yaml says what each field means."""

    names: list[str]
    function: str
    arguments: list[str] = []
    framework: str = ""
    given: dict[str, Any] = {}
    usual: dict[str, Any] = {}
    transposed: list[str] = []
    gradients: list[str] = []


@dataclasses.dataclass(frozen=True)
class Bound:
    """A call that the table knows: the function, and the recorded arguments by the function's names for them.

    parameters: the names that a module has for arguments which are its parameters. transposed: arguments stored as
    (out, in). gradients: the order of the backward call's results, if said.
    """

    function: str
    arguments: dict[str, Any]
    parameters: dict[str, str] = dataclasses.field(default_factory=dict)
    transposed: tuple[str, ...] = ()
    gradients: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Operators:
    """The entries of the table, by operator name."""

    entries: dict[str, tuple[Operator, ...]]

    def find(self, call: Call, framework: str) -> Bound | str:
        """The call as the table knows it, or in words why it does not."""
        named = self.entries.get(call.operator, ())
        fit = [entry for entry in named if framework in ("", entry.framework) or not entry.framework]
        if not fit:
            return f"no operator of the table is named {call.operator}"
        refusal = ""
        for entry in fit:
            bound = _bind(entry, call)
            if isinstance(bound, Bound):
                return bound
            refusal = refusal or bound
        return refusal


@functools.cache
def load_operators(path: Path | None = None) -> Operators:
    """The table, with a user's entries before it. Raises GPT2Error, in one line, for a file that is no such table."""
    ours = resources.files(__package__).joinpath(OURS).read_text(encoding="utf-8")
    entries = _read(ours, OURS)
    if path is not None:
        try:
            entries = _read(path.read_text(encoding="utf-8"), str(path)) + entries
        except OSError as error:
            raise GPT2Error(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise GPT2Error(f"{path} is not a text in UTF-8") from error
    by_name: dict[str, tuple[Operator, ...]] = {}
    for entry in entries:
        for name in entry.names:
            by_name[name] = (*by_name.get(name, ()), entry)
    return Operators(by_name)


def _read(text: str, where: str) -> list[Operator]:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f" in line {mark.line + 1}" if mark is not None else ""
        raise GPT2Error(f"{where} is not valid YAML{at}: {getattr(error, 'problem', None) or 'too deep'}") from error
    entries = as_type(value, list[Operator], where, FORM)
    known = FUNCTIONS | tensors.OPERATIONS
    for entry in entries:
        if entry.function not in known:
            functions = ", ".join(sorted(known))
            raise GPT2Error(f"{where}: {entry.names} is said to be {entry.function!r}; choose one of {functions}{FORM}")
    return entries


def _bind(entry: Operator, call: Call) -> Bound | str:
    """The recorded arguments by our names, or in words what the entry does not provide for."""
    spelled = [[name.removeprefix("*") for name in text.split("=")] for text in entry.arguments]
    rest = next((i for i, text in enumerate(entry.arguments) if text.startswith("*")), None)
    bound: dict[str, Any] = {}
    for i, value in enumerate(call.arguments):
        if rest is not None and i >= rest:
            bound[spelled[rest][0]] = (*bound.get(spelled[rest][0], ()), value)
        elif i < len(spelled):
            bound[spelled[i][0]] = value
        elif value is not None:
            return f"the table does not know argument {i} of {call.operator}"
    by_keyword = {name: names[0] for names in spelled for name in names} | {name: name for name in entry.usual}
    for keyword, value in call.keywords.items():
        if keyword in by_keyword:
            name = by_keyword[keyword]
            bound[name] = (value,) if rest is not None and name == spelled[rest][0] else value
        elif value is not None:
            return f"the table does not know the argument {keyword} of {call.operator}"
    parameters = {by_keyword.get(name, name): name for name in call.parameters}
    bound = {name: call.parameters[parameter] for name, parameter in parameters.items()} | bound
    for name, wanted in entry.given.items():
        if name not in bound or not _same(bound[name], wanted):
            return f"{call.operator} is in the table with {name} = {wanted} alone"
    for name, wanted in entry.usual.items():
        if name in bound and not _same(bound[name], wanted):
            return f"{call.operator} is in the table with {name} = {wanted} alone"
    dropped = {ANYTHING, *entry.usual, *entry.given}
    arguments = {name: value for name, value in bound.items() if name not in dropped}
    return Bound(entry.function, arguments, parameters, tuple(entry.transposed), tuple(entry.gradients))


def _same(value: Any, wanted: Any) -> bool:
    return not isinstance(value, RecordedTensor) and value == wanted
