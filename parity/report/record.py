"""A run of the judge as plain facts. Every form of the report is made from a Report, and only from it."""

import dataclasses
import datetime
import json
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from gpt2.backends import Backend
from parity.cases.contracts import contracts, engine_contracts
from parity.cases.supports import Supports
from parity.report.expected import EXPECTED, MOVED, PASSES, ExpectedOutcome
from parity.report.finding import Finding
from parity.report.shard import Shard
from parity.verdict.steps import EVERY_STEP, accuracy_of
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM

SCHEMA = "gpt2-check/1"
RULE = f"error <= {NOISE_FACTOR} x rounding noise + {ULP_TERM} ulp"
# The verdicts on a function besides those of parity.report.expected.
IDENTICAL, AGREES, DIFFERS, NOT_OFFERED, UNTRIED = "identical", "agrees", "differs", "not offered", "untried"
ABSENT = {NOT_OFFERED: "not offered by the backend", UNTRIED: "untried: no case had anything to judge"}
FAILING = (DIFFERS, PASSES, MOVED)
NOTHING_JUDGED = 3  # the exit code
VERBS = {
    AGREES: ("agrees", "agree"),
    DIFFERS: ("differs", "differ"),
    PASSES: ("passes unexpectedly", "pass unexpectedly"),
    MOVED: ("fails by another figure than expected", "fail by another figure than expected"),
    EXPECTED: ("fails as expected", "fail as expected"),
}


@dataclasses.dataclass
class Report:
    """The settings of a run, its environment, and its findings in order.

    functions: everything that was to be judged; after an interruption, more than there are findings. outcomes: the
    status of the entries in the file of expected failures. supports: what no case has, as the backend declares. shard:
    which part of a run this is, if it is one.
    """

    backend: str
    device: str
    dtype: str
    mode: str
    seed: int
    examples: int
    environment: dict[str, str | None]
    functions: list[str]
    findings: list[Finding] = dataclasses.field(default_factory=list)
    outcomes: list[ExpectedOutcome] = dataclasses.field(default_factory=list)
    interrupted: bool = False
    supports: list[str] = dataclasses.field(default_factory=list)
    shard: Shard | None = None

    @classmethod
    def about(
        cls, backend: Backend, examples: int, seed: int, functions: list[str], shard: Shard | None = None
    ) -> "Report":
        """The report of a run that starts now, of these functions; of a shard, supports is about the whole run."""
        where = environment(backend)
        settings = backend.name, backend.device, backend.dtype, backend.mode, seed, examples, where, functions
        every = contracts() | engine_contracts()
        named = [name.removeprefix("compiled.") for name in (functions if shard is None else shard.functions)]
        about = [every[name] for name in named if name in every]
        rounds = ["rounding after every step"] * (EVERY_STEP in accuracy_of(backend))
        return cls(*settings, supports=Supports.of(backend).words(about) + rounds, shard=shard)

    @property
    def run(self) -> dict[str, str]:
        """What an expected failure must share with this run."""
        return {
            "backend": self.backend,
            "device": self.device,
            "dtype": self.dtype,
            "mode": self.mode,
            "version": self.environment["backend_version"] or "unknown",
        }

    @property
    def title(self) -> str:
        """The backend that was judged, and where it ran."""
        part = "" if self.shard is None else f" ({self.shard.words})"
        return f"{self.backend} against the reference: {self.device}, {self.dtype}, {self.mode}{part}"

    def outcome(self, finding: Finding) -> ExpectedOutcome | None:
        """The status of the entry for this function that applies to this run, if there is one."""
        entries = [outcome for outcome in self.outcomes if outcome.applies]
        return next((outcome for outcome in entries if outcome.entry.function == finding.function), None)

    def verdict(self, finding: Finding) -> str:
        """The verdict in a word or two; those in FAILING count against the backend."""
        outcome = self.outcome(finding)
        if outcome is not None:
            return outcome.status
        if not finding.offered:
            return NOT_OFFERED
        if not finding.judged:
            return UNTRIED
        return IDENTICAL if finding.identical else AGREES if finding.agrees else DIFFERS

    def fails(self, finding: Finding) -> bool:
        """Whether this function counts against the backend."""
        return self.verdict(finding) in FAILING

    @property
    def failing(self) -> list[Finding]:
        """The functions that count against the backend."""
        return [finding for finding in self.findings if self.fails(finding)]

    @property
    def not_run(self) -> list[str]:
        """The functions that were not judged because of an interruption."""
        judged = {finding.function for finding in self.findings}
        return [function for function in self.functions if function not in judged]

    @property
    def exit_code(self) -> int:
        """130 after an interruption, 1 if anything fails, 3 if nothing was judged, else 0."""
        if self.interrupted:
            return 130
        return 1 if self.failing else NOTHING_JUDGED * (not any(finding.judged for finding in self.findings))

    @property
    def headline(self) -> str:
        """The result in a few words: "All 36 functions agree", "1 of 36 functions differs"."""
        judged = [finding for finding in self.findings if finding.judged]
        laws = sum(finding.is_law for finding in judged)
        nouns = {"function": len(judged) - laws, "law": laws}
        verdicts = Counter(self.verdict(finding) for finding in judged)
        if not judged:
            return "Nothing was judged"
        if verdicts.keys() <= {IDENTICAL, AGREES}:
            return _all_agree(nouns) if len(judged) > 1 else f"{judged[0].function} agrees"
        agreeing = verdicts[AGREES] + verdicts[IDENTICAL]
        counted = {DIFFERS: verdicts[DIFFERS]} if self.failing else {AGREES: agreeing}
        counted |= {verdict: verdicts[verdict] for verdict in (PASSES, MOVED, EXPECTED)}
        first, *others = [f"{count} {VERBS[verdict][count > 1]}" for verdict, count in counted.items() if count]
        among = f"of {len(judged)} {' and '.join(f'{noun}s' for noun, count in nouns.items() if count)}"
        return ", ".join([first.replace(" ", f" {among} ", 1), *others])

    @property
    def basis(self) -> str:
        """The rest of the headline's sentence (cases and tolerance), and further remarks."""
        cases = sum(finding.cases for finding in self.findings)
        verdicts = Counter(self.verdict(finding) for finding in self.findings)
        agree = verdicts.keys() <= {IDENTICAL, AGREES, *ABSENT}
        allowed = f": no error above {NOISE_FACTOR} x its input's rounding noise + {ULP_TERM} ulp" if agree else ""
        judged = any(finding.judged for finding in self.findings)
        sentences = [f"on {cases} case{'s' * (cases != 1)}{allowed if judged else ''}."]
        sentences += [f"{verdicts[word]} {words}." for word, words in ABSENT.items() if verdicts[word]]
        if self.interrupted:
            sentences.append(f"Interrupted: {len(self.findings)} of {len(self.functions)} were judged.")
        if self.supports:
            sentences.append(f"As the backend declares: {'; '.join(self.supports)}.")
        return " ".join(sentences)

    def to_dict(self) -> dict[str, Any]:
        """The whole report, as check.schema.json describes it."""
        part = {} if self.shard is None else {"shard": msgspec.to_builtins(self.shard)}
        return {
            "schema": SCHEMA,
            "backend": self.backend,
            "device": self.device,
            "dtype": self.dtype,
            "mode": self.mode,
            "seed": self.seed,
            "examples": self.examples,
            "environment": self.environment,
            "supports": self.supports,
            "interrupted": self.interrupted,
            "not_run": self.not_run,
            "agrees": not self.failing,
            "results": [self._result(finding) for finding in self.findings],
            "seconds": {finding.function: finding.seconds for finding in self.findings},
            "explanations": {x.function: msgspec.to_builtins(x.explained) for x in self.findings if x.explained},
            "expected_failures": [outcome.to_dict() for outcome in self.outcomes],
            **part,
        }

    def _result(self, finding: Finding) -> dict[str, Any]:
        facts = finding.to_dict() | {"verdict": self.verdict(finding)}
        del facts["seconds"], facts["explained"]  # the same seed gives the same results, but not in the same time
        return facts

    def to_json(self) -> str:
        """to_dict as strict JSON, in one line."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def _all_agree(nouns: dict[str, int]) -> str:
    counts = " and ".join(f"{count} {noun}{'s' * (count > 1)}" for noun, count in nouns.items() if count)
    return f"{counts} agree" if 1 in nouns.values() else f"All {counts} agree"


def environment(backend: Backend) -> dict[str, str | None]:
    """The versions, machine and time of a run that starts now, as check.schema.json describes them."""
    return machine() | {
        "mindspore": _version("mindspore"),
        "backend_version": getattr(backend, "version", None) or _version(backend.name),
    }


def machine() -> dict[str, str | None]:
    """The versions, machine and time of a judgement that starts now, without those of a backend."""
    return {
        "project": _version("gpt2-parity"),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "machine": platform.machine(),
        "platform": platform.platform(),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
