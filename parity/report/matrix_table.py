"""A matrix as tables for people, on a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parity.report.matrix import OF_THE_VERSION, STOPPED, Cell, Column, Matrix
from parity.report.record import AGREES, DIFFERS, IDENTICAL

STYLES = {DIFFERS: "bold red", STOPPED: "bold red"}


def print_matrix(matrix: Matrix, console: Console, with_scripts: bool = False) -> None:
    """Print a row for every column, the files in all columns, every disagreement with its blame, and a summary."""
    console.print(_columns(matrix))
    console.print(_files(matrix))
    for column in matrix.columns:
        if column.error:
            _say(console, f"{column.name}: {column.error}")
        for finding in column.failing:
            _say(console, f"{column.name}: {finding.function}: {finding.explanation}")
            _say(console, f"  smallest case: {finding.case}")
            for line in filter(None, (*finding.blame.splitlines(), matrix.whose(column, finding)[1])):
                _say(console, f"  {line}")
            if finding.script:
                _say(console, finding.script if with_scripts else "  --script prints a script that reproduces it")
    style = "bold red" if matrix.exit_code else "bold green"
    console.print(f"[{style}]{escape(matrix.headline)}[/{style}].", soft_wrap=True)


def words(cell: Cell) -> str:
    """A cell in words: "agrees", "differs in 2 of 9", "not offered"."""
    if cell.verdict != DIFFERS:
        return cell.verdict
    return f"differs in {cell.differing} of {cell.judged}"


def noise(cell: Cell) -> str:
    """The worst error of a cell as a multiple of its noise."""
    return "-" if cell.worst is None else "0" if cell.worst == 0 else f"{cell.worst:.2f}"


def whole(matrix: Matrix, column: Column) -> str:
    """The verdict on a column in words, and how much of what differs is of this version alone."""
    said = words(column.cell(column.functions)) if not column.error else STOPPED
    alone = sum(matrix.whose(column, finding)[0] == OF_THE_VERSION for finding in column.failing)
    if column.error and column.failing:
        said = f"{words(column.cell(column.functions))}, {STOPPED}"
    return f"{said} ({alone} of this version alone)" if alone else said


def _columns(matrix: Matrix) -> Table:
    shown = Table(title=f"Against the reference: {matrix.examples} examples, seed {matrix.seed}", title_justify="left")
    shown.add_column("column", overflow="fold")
    shown.add_column("version", overflow="fold")
    shown.add_column("rules", justify="right")
    shown.add_column("x noise", justify="right", no_wrap=True)
    shown.add_column("verdict")
    for column in matrix.columns:
        cell = column.cell(column.functions)
        said = whole(matrix, column)
        style = "bold red" if column.failing or column.error else ""
        name, version = escape(column.name), escape(column.version)
        shown.add_row(name, version, str(cell.judged), noise(cell), f"[{style}]{said}[/{style}]" if style else said)
    return shown


def _files(matrix: Matrix) -> Table:
    shown = Table("rules")
    for column in matrix.columns:
        shown.add_column(escape(column.name), overflow="fold")
    for file, functions in matrix.files.items():
        shown.add_row(escape(file), *(_cell(column.cell(functions)) for column in matrix.columns))
    return shown


def _cell(cell: Cell) -> str:
    said = words(cell) if cell.verdict not in (AGREES, DIFFERS) else f"{words(cell)}, {noise(cell)}"
    style = STYLES.get(cell.verdict, "" if cell.verdict in (AGREES, IDENTICAL) else "dim")
    return f"[{style}]{said}[/{style}]" if style else said


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
