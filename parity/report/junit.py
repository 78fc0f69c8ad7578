"""The report as JUnit XML, which build servers show: one test case per function."""

import re
from xml.etree import ElementTree as ET

from parity.explanation.words import explained
from parity.report.expected import EXPECTED
from parity.report.finding import Finding
from parity.report.record import ABSENT, Report

# Characters that XML 1.0 cannot hold, not even escaped.
UNFIT = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(report: Report) -> str:
    """The XML file."""
    cases = [_case(finding, report) for finding in report.findings]
    counts = {
        "tests": str(len(cases)),
        "failures": str(len(report.failing)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": f"{sum(finding.seconds for finding in report.findings):.3f}",
    }
    suites = ET.Element("testsuites", counts)
    about = {
        "name": " ".join(("gpt2 check", report.backend, report.device, report.dtype, report.mode)),
        "timestamp": (report.environment["time"] or "")[:19],
    }
    suite = ET.SubElement(suites, "testsuite", about | counts)
    properties = ET.SubElement(suite, "properties")
    for key, value in _properties(report).items():
        ET.SubElement(properties, "property", name=key, value=_fit(value))
    suite.extend(cases)
    notes = [f"{outcome.entry.function}: {outcome.message}" for outcome in report.outcomes if not outcome.applies]
    if notes:
        ET.SubElement(suite, "system-out").text = _fit("\n".join(notes))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _properties(report: Report) -> dict[str, str]:
    settings = {name: str(getattr(report, name)) for name in ("backend", "device", "dtype", "mode", "seed", "examples")}
    versions = {name: value or "none" for name, value in report.environment.items()}
    return settings | versions | {"interrupted": str(report.interrupted).lower(), "not_run": " ".join(report.not_run)}


def _case(finding: Finding, report: Report) -> ET.Element:
    file, _, name = finding.function.rpartition(".")
    case = ET.Element("testcase", classname=_fit(file), name=_fit(name), time=f"{finding.seconds:.3f}")
    verdict, outcome = report.verdict(finding), report.outcome(finding)
    named = "\n".join(explained(finding.explained))
    lines = [finding.explanation, f"case: {finding.case}" if finding.case else "", finding.blame, named]
    if report.fails(finding):
        message = finding.explanation if outcome is None else outcome.message
        failure = ET.SubElement(case, "failure", type=verdict, message=_fit(message))
        failure.text = _fit("\n".join(line for line in [outcome.message if outcome else "", *lines] if line))
        if finding.script:
            ET.SubElement(case, "system-out").text = _fit(finding.script)
    elif verdict == EXPECTED and outcome is not None:
        ET.SubElement(case, "skipped", type=verdict, message=_fit(outcome.message))
    elif verdict in ABSENT:
        ET.SubElement(case, "skipped", type=verdict, message=ABSENT[verdict])
    return case


def _fit(text: str) -> str:
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)
