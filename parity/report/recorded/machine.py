"""What was found in a recording, for machines: JSON, as parity/judge.schema.json describes it, and JUnit XML."""

import json
from typing import Any
from xml.etree import ElementTree as ET

from parity.recorded.judgement import CallJudgement
from parity.recorded.runs.headroom import Headroom
from parity.recorded.runs.names import common_path
from parity.recorded.runs.two_runs import TwoRuns
from parity.report.junit import UNFIT
from parity.report.record import RULE
from parity.report.recorded.facts import JudgedRun, RecordedReport, Wrong, finite
from parity.report.recorded.words import Words, of_gradient, of_parameter, of_wrong
from parity.verdict.verdict import Verdict

SCHEMA = "gpt2-judge/1"
ENGLISH = Words("en")
BY_STATISTICS = "judged by statistics alone"


def to_json(report: RecordedReport) -> str:
    """The whole report as strict JSON, in one line."""
    return json.dumps(to_dict(report), ensure_ascii=True, allow_nan=False)


def to_dict(report: RecordedReport) -> dict[str, Any]:
    """The whole report, as parity/judge.schema.json describes it."""
    other = report.against
    return {
        "schema": SCHEMA,
        "rule": RULE,
        "environment": report.environment,
        "model": report.model or None,
        "interrupted": report.interrupted,
        "agrees": report.agrees,
        "judged": report.judged,
        **_recording(report),
        "parting": None if report.parting is None else report.parting.explain(),
        "against": None if other is None else _recording(other) | {"pairs": [_pairs(pair) for pair in report.pairs]},
    }


def _recording(report: RecordedReport) -> dict[str, Any]:
    return {
        "source": str(report.recording.source),
        "kind": report.recording.kind,
        "notes": list(report.recording.notes),
        "runs": [_run(judged) for judged in report.runs],
    }


def _run(judged: JudgedRun) -> dict[str, Any]:
    run, lost = judged.run, judged.not_finite
    return {
        "place": run.place,
        "framework": run.framework,
        "level": run.level,
        "task": run.task,
        "step": run.step,
        "rank": run.rank,
        "agrees": judged.agrees,
        "first_wrong": _wrong(judged.first_wrong),
        "first_wrong_call": _wrong(judged.first_wrong_call),
        "not_judged": {reason: len(names) for reason, names in judged.not_judged.items()},
        "not_finite": lost and {"call": lost.call.name, "what": lost.what, "made_here": lost.made_here},
        "calls": [_call(judgement, judged.headroom.get(judgement.call.name)) for judgement in judged.calls],
        "passes": [
            {
                "reason": whole.reason,
                "notes": list(whole.notes),
                "stages": [
                    {
                        "name": stage.name,
                        "call": None if stage.call is None else stage.call.name,
                        "is_result": stage.is_result,
                        "after": stage.after,
                        "own": _verdict(stage.own),
                        "inherited": _verdict(stage.inherited),
                    }
                    for stage in whole.stages
                ],
            }
            for whole in judged.whole
        ],
        "parameters": [
            {
                "name": parameter.name,
                "recorded": parameter.recorded,
                "is_right": parameter.is_right,
                "what": parameter.what,
                "other": parameter.other,
                "largest_difference": finite(parameter.most),
            }
            for parameter in judged.parameters
        ],
        "damage": judged.damage,
        "missing_gradients": [
            {"name": x.name, "call": x.blamed.name, "explanation": of_gradient(x, ENGLISH)}
            for x in judged.missing_gradients
        ],
        "lower_precision": [
            {"dtype": x.dtype, "calls": [call.name for call in x.calls]} for x in judged.lower_precision
        ],
        "gradients": {layer: finite(norm) for layer, norm in judged.gradients.items()},
    }


def _wrong(wrong: Wrong | None) -> dict[str, Any] | None:
    if wrong is None:
        return None
    facts = {"what": wrong.what, "name": wrong.name, "explanation": of_wrong(wrong, ENGLISH)}
    return facts | {"lines": list(wrong.lines), "reference": [line.strip() for line in wrong.reference]}


def _call(judgement: CallJudgement, room: Headroom | None) -> dict[str, Any]:
    call, worst = judgement.call, judgement.worst
    return {
        "name": call.name,
        "operator": call.operator,
        "path": call.path,
        "backward": call.is_backward,
        "function": judgement.function,
        "judged": judgement.is_judged,
        "by_statistics": judgement.by_statistics,
        "reason": judgement.reason,
        "verdict": None if worst is None else _verdict(worst),
        "bits_left": None if room is None else finite(room.bits),
        "largest": None if room is None else finite(room.largest),
        "share_below_normal": None if room is None else finite(room.below),
        "share_lost": None if room is None else finite(room.lost),
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "agrees": verdict.agrees,
        "noise_ratio": None if verdict.reason else finite(verdict.noise_ratio),
        "ulps": None if verdict.reason else finite(verdict.ulps),
        "explanation": verdict.explain(),
    }


def _pairs(pair: TwoRuns) -> dict[str, Any]:
    return {
        "agrees": pair.agrees,
        "inputs": pair.inputs,
        "missing": list(pair.missing),
        "alone": [call.name for call in pair.alone],
        "other_alone": [call.name for call in pair.other_alone],
        "parameters": [
            {"name": x.name, "is_right": x.is_right, "explanation": of_parameter(x, ENGLISH)} for x in pair.parameters
        ],
        "calls": [
            {
                "one": each.one.name,
                "other": each.other.name,
                "by": each.by,
                "stage": each.stage,
                "difference": finite(each.difference),
                "ulps": finite(each.ulps),
                "verdict": None if each.verdict is None else _verdict(each.verdict),
                "reason": each.reason,
            }
            for each in pair.pairs
        ],
    }


def junit(report: RecordedReport) -> str:
    """The report as JUnit XML: one test case for each call and stage, one suite for each step and rank."""
    suites = ET.Element("testsuites")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for judged in report.runs:
        cases = list(_cases(judged))
        counts = {
            "tests": len(cases),
            "failures": sum(case.find("failure") is not None for case in cases),
            "errors": 0,
            "skipped": sum(case.find("skipped") is not None for case in cases),
        }
        totals = {name: totals[name] + count for name, count in counts.items()}
        about = {"name": _fit(f"gpt2 judge {report.recording.source} {judged.run.place}".strip())}
        about["timestamp"] = (report.environment["time"] or "")[:19]
        suite = ET.SubElement(suites, "testsuite", about | {name: str(count) for name, count in counts.items()})
        properties = ET.SubElement(suite, "properties")
        said = {"framework": judged.run.framework, "level": judged.run.level, "task": judged.run.task}
        said |= {name: value or "none" for name, value in report.environment.items()}
        for key, value in (said | {"model": report.model, "interrupted": str(report.interrupted).lower()}).items():
            ET.SubElement(properties, "property", name=key, value=_fit(value))
        suite.extend(cases)
    for name, count in totals.items():
        suites.set(name, str(count))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _cases(judged: JudgedRun) -> list[ET.Element]:
    found = []
    for parameter in judged.parameters:
        case = _case("parameters", parameter.name)
        if not parameter.is_right:
            ET.SubElement(case, "failure", type="parameter", message=_fit(of_parameter(parameter, ENGLISH)))
        found.append(case)
    for missing in judged.missing_gradients:
        case = _case("gradients", missing.name)
        ET.SubElement(case, "failure", type="gradient", message=_fit(of_gradient(missing, ENGLISH)))
        found.append(case)
    for judgement in judged.calls:
        call = judgement.call
        case = _case(common_path(call.path) or call.operator, call.name)
        if not judgement.is_judged:
            ET.SubElement(case, "skipped", type="not judged", message=_fit(judgement.reason))
        elif not judgement.agrees and judgement.worst is not None:
            said = judgement.worst.explain() + (f" ({BY_STATISTICS})" if judgement.by_statistics else "")
            ET.SubElement(case, "failure", type="differs", message=_fit(said))
        found.append(case)
    for stage in judged.stages:
        case = _case("stages", stage.name)
        if not stage.own.agrees:
            ET.SubElement(case, "failure", type="differs", message=_fit(stage.own.explain()))
        elif not stage.inherited.agrees:
            said = f"inherited: {stage.inherited.explain()}"
            ET.SubElement(case, "failure", type="inherited", message=_fit(said))
        found.append(case)
    return found


def _case(file: str, name: str) -> ET.Element:
    return ET.Element("testcase", classname=_fit(file), name=_fit(name))


def _fit(text: str) -> str:
    return UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)
