"""Judge every requested function, and report the results."""

import functools
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from gpt2.backends import Backend, get_backend
from gpt2.errors import GPT2Error, described
from gpt2.files import require_writable, write_text
from gpt2.interrupt import one_interrupt
from gpt2.processes import Work, cores
from gpt2.progress import ProgressBar
from parity.check import Rule, SearchResult, check_at_its_cost, select
from parity.diagnosis.diagnose import diagnose
from parity.explanation.explain import name_the_bug
from parity.report import junit as junit_file
from parity.report.expected import apply, load
from parity.report.finding import Finding
from parity.report.record import Report
from parity.report.resume import SavedFindings
from parity.report.shard import Shard, longest_first
from parity.report.table import print_report
from parity.time_limits import Failures

Engine = tuple[str | None, str | None, str | None, str | None]  # name, device, dtype and mode
Check = Callable[[Rule, Backend, int, int], SearchResult]
# How many rules are worth another process, which takes seconds to start.
RULES_PER_PROCESS = 16


def judge(
    rule: Rule, backend: Backend, examples: int, seed: int, seconds: float = 0.0, failures: Failures | None = None
) -> SearchResult:
    """Check one rule; after a failure, find where it starts, what explains it, and a script that shows it.

    failures: those of this backend; if they have taken long together, less time is spent on this one.
    """
    begun, failures = time.monotonic(), failures or Failures()
    with failures.limited():
        result = check_at_its_cost(rule, backend, examples, seed, seconds)
        try:
            diagnose(rule, result, backend, examples, seed)
        except Exception as error:  # a wrong backend may raise anything when it runs again: the failure itself is known
            result.blame = result.blame or f"could not be traced: {described(error, getattr(backend, 'file', None))}"
        name_the_bug(rule, result, backend, examples, seed)
    if not result.agrees:
        failures.spent += time.monotonic() - begun
    return result


def print_results(
    rules: Mapping[str, Rule],
    backend: Backend,
    examples: int,
    seed: int,
    console: Console | None,
    *,
    html: Path | None = None,
    junit: Path | None = None,
    expected: Path | None = None,
    resume: Path | None = None,
    check: Check | None = None,
    engine: Engine | None = None,
    processes: int = 1,
    seconds: float = 0.0,
    with_absent: bool = True,
    with_scripts: bool = False,
    shard: Shard | None = None,
) -> Report:
    """Judge a backend by every rule, then print the table on console (None: print nothing).

    Progress shows on standard error. html, junit: files to write the report to as well. expected: the file of expected
    failures. resume: a file that saves the findings; a run with the same settings continues from there. check: the
    function that judges one rule (default: `judge`). engine: the arguments of `get_backend` for this backend; rules may
    then be judged in several processes, which make it anew. seconds: how long a rule goes on with random cases, at
    least. with_absent, with_scripts: as for `print_report`. shard: judge only this part of the rules.
    Ctrl-C (or SIGTERM) ends the search, not the report, which then covers what was judged so far.
    Raises GPT2Error, before the search, for a file that cannot be read or written.
    """
    rules = rules if shard is None else shard.part(rules)
    report = Report.about(backend, examples, seed, list(rules), shard)
    entries = [] if expected is None else load(expected)
    require_outputs(html, junit, resume)
    kept = SavedFindings(resume, report)
    search(report, rules, backend, kept, check=check, engine=engine, processes=processes, seconds=seconds)
    report.outcomes = apply(entries, report.findings, report.run)
    if console is not None:
        print_report(report, console, with_absent, with_scripts)
    write_files(report, html, junit)
    return report


def require_outputs(html: Path | None, *others: Path | None) -> None:
    """Raise GPT2Error, before the work, if one of these files cannot be written."""
    for path in (html, *others):
        if path is not None:
            require_writable(path)
    if html is not None and importlib.util.find_spec("matplotlib") is None:
        raise GPT2Error("--html draws with matplotlib, which is not installed: pip install matplotlib")


def write_files(report: Report, html: Path | None, junit: Path | None) -> None:
    """Write the report as a page and as JUnit XML, as far as files are named for them."""
    if html is not None:
        from parity.report.html import page  # here, because the plotting library is slow to import

        write_text(html, page(report))
    if junit is not None:
        write_text(junit, junit_file.document(report))


def search(
    report: Report,
    rules: Mapping[str, Rule],
    backend: Backend,
    kept: SavedFindings,
    *,
    check: Check | None = None,
    engine: Engine | None = None,
    processes: int = 1,
    seconds: float = 0.0,
) -> None:
    """Judge by the rules that are not in kept, and add all findings to the report; the options of `print_results`."""
    if engine is not None and processes > 1:
        _search_at_once(report, rules, kept, engine, processes, seconds)
    else:
        judging = functools.partial(judge, seconds=seconds, failures=Failures())
        _search(report, rules, backend, kept, check or judging)


def _search(report: Report, rules: Mapping[str, Rule], backend: Backend, kept: SavedFindings, check: Check) -> None:
    with ProgressBar() as bar, one_interrupt() as interrupt:
        try:
            for done, (name, rule) in enumerate(rules.items()):
                bar.show(name, done, len(rules))
                if name not in kept.findings:
                    finding = _judge(rule, backend, report, check)
                    if interrupt.asked:  # and the backend swallowed it, or it passed for an error of the backend
                        raise KeyboardInterrupt
                    kept.add(finding)
                report.findings.append(kept.findings[name])
        except KeyboardInterrupt:
            report.interrupted = True


def processes_for(rules: Mapping[str, Rule], backend: Backend) -> int:
    """How many processes judge these rules in the shortest time: one on an accelerator, else at most one per core."""
    return 1 if backend.device != "CPU" else max(1, min(len(cores()), len(rules) // RULES_PER_PROCESS))


def _search_at_once(
    report: Report, rules: Mapping[str, Rule], kept: SavedFindings, engine: Engine, processes: int, seconds: float
) -> None:
    missing = {name: rule for name, rule in rules.items() if name not in kept.findings}
    with ProgressBar() as bar:
        work = Work(processes, functools.partial(bar.show, "rules"))
        tasks = [(rule.name, engine, report.examples, report.seed, seconds) for rule in longest_first(missing)]
        work.do(_judge_by_name, tasks, kept.add)
    report.findings += [kept.findings[name] for name in rules if name in kept.findings]
    report.interrupted = work.interrupted


def _judge_by_name(name: str, engine: Engine, examples: int, seed: int, seconds: float) -> Finding:
    """What a process of its own does: judge one rule, named as `select` names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first process has made this backend, and said what there is to say
        backend, failures = _backend(engine)
    start = time.monotonic()
    result = judge(select((name,), backend)[name], backend, examples, seed, seconds, failures)
    return Finding.of(result, time.monotonic() - start)


@functools.cache
def _backend(engine: Engine) -> tuple[Backend, Failures]:
    return get_backend(*engine), Failures()


def _judge(rule: Rule, backend: Backend, report: Report, check: Check) -> Finding:
    start = time.monotonic()
    result = check(rule, backend, report.examples, report.seed)
    return Finding.of(result, time.monotonic() - start)
