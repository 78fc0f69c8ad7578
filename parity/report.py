"""The judge's findings as a table that a person understands."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gpt2.backends import Backend
from parity.check import Result, check_function
from parity.contracts import Contract
from parity.verdict import NOISE_FACTOR, ULP_TERM


def print_results(
    contracts: dict[str, Contract], backend: Backend, examples: int, seed: int, console: Console | None
) -> list[Result]:
    """Judge every function, show progress and then the table on console (None: print nothing), return the results."""
    results = []
    columns = (TextColumn("{task.description:35}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=console is None) as progress:
        task = progress.add_task("", total=len(contracts))
        for name, contract in contracts.items():
            progress.update(task, description=name)
            results.append(check_function(contract, backend, examples, seed))
            progress.advance(task)
    if console is not None:
        console.print(table(results, backend))
        for result in results:
            if not result.agrees:
                facts = result.to_dict()
                console.print(f"{result.function}: {facts['explanation']}", markup=False, soft_wrap=True)
                console.print(f"  smallest case: {facts['case']}", markup=False, soft_wrap=True)
        console.print(_summary(results), soft_wrap=True)
    return results


def table(results: list[Result], backend: Backend) -> Table:
    """One row per function: cases, the worst error against its input's noise floor and in ulp, the verdict."""
    title = f"{backend.name} against the reference: {backend.device}, {backend.dtype}, {backend.mode}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("function", no_wrap=True)
    for heading in ("cases", "x noise", "ulp"):
        shown.add_column(heading, justify="right")
    shown.add_column("verdict")
    for result in results:
        verdict = result.failure or result.worst
        if verdict is None or result.error or verdict.reason:
            size = ("-", "-")
        elif verdict.error == 0:
            size = ("0", "0")
        else:
            size = (f"{verdict.noise_ratio:.2f}", f"{verdict.ulps:.3g}")
        identical = verdict is not None and verdict.error == 0
        word = "identical" if identical else "agrees" if result.agrees else "[bold red]DIFFERS[/bold red]"
        shown.add_row(result.function, str(result.cases), *size, word)
    return shown


def _summary(results: list[Result]) -> str:
    wrong = sum(not result.agrees for result in results)
    cases = sum(result.cases for result in results)
    if wrong:
        return f"[bold red]{wrong} of {len(results)} functions differ[/bold red] ({cases} cases)"
    return (
        f"[bold green]All {len(results)} functions agree[/bold green] on {cases} cases: no error above "
        f"{NOISE_FACTOR} x its input's rounding noise + {ULP_TERM} ulp."
    )
