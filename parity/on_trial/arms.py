"""Sources in which every arm of a conditional expression has lines of its own.

`coverage` follows lines: it cannot see that "x if c else y" never took y, or that b of "a and b" was never computed.
"""

import ast
import dataclasses
import itertools
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of a conditional expression, or an operand of `and` or `or` that may be left out.

    function: "Class.method"; start, end: its first and its last line in the spread source.
    """

    function: str
    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Spread:
    """A source, and a text that means the same, with every arm on lines of its own.

    lines[i]: which line of the source line i + 1 of the text was.
    """

    source: str
    text: str
    lines: list[int]
    arms: list[Arm]


def spread(source: str) -> Spread:
    """Put the arms of all conditional expressions in functions on lines of their own."""
    encoded = source.encode()
    starts = [0, *itertools.accumulate(map(len, encoded.splitlines(keepends=True)))]
    added: list[tuple[int, bytes]] = []
    found: list[tuple[str, int, int]] = []
    for function, node in _choices(ast.parse(source), ""):
        start, end = _place(node, starts)
        added += [(start, b"("), (end, b"\n)")]
        for arm in _arms(node):
            first, last = _place(arm, starts)
            added.append((first, b"\n"))
            if last < end:
                added.append((last, b"\n"))
            found.append((function, first, last))
    text, lines, done = b"", [1], 0
    before, after = dict[int, int](), dict[int, int]()  # the line at a place in the source, without and with additions
    for place, additions in itertools.groupby(sorted(added, key=lambda one: one[0]), key=lambda one: one[0]):
        kept, new = encoded[done:place], b"".join(addition for _, addition in additions)
        lines += range(lines[-1] + 1, lines[-1] + 1 + kept.count(b"\n"))
        before[place] = len(lines)
        lines += [lines[-1]] * new.count(b"\n")
        after[place] = len(lines)
        text, done = text + kept + new, place
    lines += range(lines[-1] + 1, lines[-1] + 1 + encoded[done:].count(b"\n"))
    arms = [Arm(function, encoded[i:j].decode(), after[i], before.get(j, after[i])) for function, i, j in found]
    return Spread(source, (text + encoded[done:]).decode(), lines, arms)


def _place(node: ast.expr, starts: list[int]) -> tuple[int, int]:
    """Where an expression begins and ends, in bytes."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _arms(node: ast.IfExp | ast.BoolOp) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values[1:]


def _choices(tree: ast.AST, function: str, inside: bool = False) -> Iterator[tuple[str, ast.IfExp | ast.BoolOp]]:
    """The conditional expressions in functions, with the names of these; not those that make the text of an error."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{function}.{node.name}".lstrip(".")
            yield from _choices(node, name, isinstance(node, ast.FunctionDef))
            continue
        if inside and isinstance(node, ast.IfExp | ast.BoolOp):
            yield function, node
        yield from _choices(node, function, inside)
