"""What was found in a recording, as plain facts: every form of its report is made from a RecordedReport alone."""

import dataclasses
import math
from collections import Counter
from typing import Any

from parity.diagnosis.blame import source_lines
from parity.recorded.judgement import CallJudgement
from parity.recorded.recording import Call, RecordedRun, Recording
from parity.recorded.runs.headroom import Headroom, NotFinite
from parity.recorded.runs.loss import LOSS
from parity.recorded.runs.missing_gradients import MissingGradient
from parity.recorded.runs.names import common_path, layer_of
from parity.recorded.runs.parameters import ParameterFinding
from parity.recorded.runs.places import users_lines
from parity.recorded.runs.precision import LowerPrecision
from parity.recorded.runs.series import Parting
from parity.recorded.runs.two_runs import TwoRuns
from parity.recorded.runs.whole_run import StageJudgement, WholeRun
from parity.report.record import NOTHING_JUDGED
from parity.verdict.verdict import Verdict

BEFORE_LAYERS, AFTER_LAYERS, OPERATORS = "before the layers", "after the layers", "operators"
DAMAGED = 2  # the exit code
PARAMETER, CALL, STAGE, GRADIENT = "parameter", "call", "stage", "gradient"


@dataclasses.dataclass(frozen=True)
class Wrong:
    """What is wrong first. what: one of the words above; name: its name; parameter, gradient or verdict: what is said.

    lines: of the user's code, which made the call. reference: of the reference's sources. Of a stage: call, which shows
    it, as its result or (`is_result` is False) an argument of it; is_right: whether that call is right by itself, so
    that it was given something else than the stages before it make; after: the last recorded stage before it, if there
    are others between them.
    """

    what: str
    name: str
    parameter: ParameterFinding | None = None
    gradient: MissingGradient | None = None
    verdict: Verdict | None = None
    lines: tuple[str, ...] = ()
    reference: tuple[str, ...] = ()
    call: str = ""
    is_result: bool = True
    is_right: bool = False
    after: str = ""


@dataclasses.dataclass
class JudgedRun:
    """What was found in one step of one rank. whole: one for each forward pass; none without a model.

    damage: what was said of files that cannot be read.
    """

    run: RecordedRun
    calls: list[CallJudgement] = dataclasses.field(default_factory=list)
    whole: list[WholeRun] = dataclasses.field(default_factory=list)
    parameters: list[ParameterFinding] = dataclasses.field(default_factory=list)
    headroom: dict[str, Headroom] = dataclasses.field(default_factory=dict)
    not_finite: NotFinite | None = None
    gradients: dict[str, float | None] = dataclasses.field(default_factory=dict)
    missing_gradients: list[MissingGradient] = dataclasses.field(default_factory=list)
    lower_precision: list[LowerPrecision] = dataclasses.field(default_factory=list)
    damage: list[str] = dataclasses.field(default_factory=list)

    @property
    def stages(self) -> list[StageJudgement]:
        """The stages of all forward passes."""
        return [stage for whole in self.whole for stage in whole.stages]

    @property
    def judged(self) -> int:
        """How many calls and stages were judged."""
        return sum(judgement.is_judged for judgement in self.calls) + len(self.stages)

    @property
    def wrong_calls(self) -> list[CallJudgement]:
        """The calls that do not compute what they should of their own inputs, in the order of the run."""
        return [judgement for judgement in self.calls if judgement.is_judged and not judgement.agrees]

    @property
    def wrong_parameters(self) -> list[ParameterFinding]:
        """The parameters that are not the model's."""
        return [parameter for parameter in self.parameters if not parameter.is_right]

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        is_wrong = self.wrong_calls or self.wrong_parameters or self.missing_gradients
        return not is_wrong and all(whole.agrees for whole in self.whole)

    @property
    def not_judged(self) -> dict[str, list[str]]:
        """The names of the calls and stages that were not judged, by the reason, the most frequent first.

        A whole model's is not among them if its stages were judged.
        """
        found: dict[str, list[str]] = {}
        for judgement in self.calls:
            is_whole = judgement.call.is_module and not common_path(judgement.call.path)
            if not judgement.is_judged and not (is_whole and self.stages):
                found.setdefault(judgement.reason, []).append(judgement.call.name)
        for whole in self.whole:
            for name, reason in whole.left_out.items():
                found.setdefault(reason, []).append(name)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @property
    def first_wrong(self) -> Wrong | None:
        """A wrong parameter, if there is one, as the rest follows from it; else the first wrong call or stage."""
        if self.wrong_parameters:
            first = self.wrong_parameters[0]
            call = next((call for call in self.run.calls if call.name == first.call), None)
            return Wrong(PARAMETER, first.name, parameter=first, lines=() if call is None else self._lines(call))
        return self.first_wrong_call

    @property
    def first_wrong_call(self) -> Wrong | None:
        """The first call, stage or gradient, in the order of the run, that is wrong by itself.

        If there is none, the first stage that is not what the model makes of the ids: something that no stage shows,
        such as a hidden score, is wrong before it.
        """
        places = {call.name: float(place) for place, call in enumerate(self.run.calls)}
        found = [(places[judgement.call.name], 0, self._wrong_call(judgement)) for judgement in self.wrong_calls[:1]]
        for place, stage in enumerate(self.stages):
            if not stage.own.agrees:
                at = float(place) if stage.call is None else places[stage.call.name] - 0.5 * (not stage.is_result)
                found.append((at, 1, self._wrong_stage(stage)))
        if self.missing_gradients:
            backward = next((at for at, call in enumerate(self.run.calls) if call.is_backward), len(places))
            found.append((backward - 0.5, 1, self._without_gradient(self.missing_gradients[0])))
        if found:
            return min(found, key=lambda item: item[:2])[2]
        inherits = next((stage for stage in self.stages if not stage.inherited.agrees), None)
        return None if inherits is None else self._wrong_stage(inherits)

    def _wrong_call(self, judgement: CallJudgement) -> Wrong:
        lines, reference = self._lines(judgement.call), _reference_lines(judgement.function)
        return Wrong(CALL, judgement.call.name, verdict=judgement.worst, lines=lines, reference=reference)

    def _without_gradient(self, missing: MissingGradient) -> Wrong:
        lines = self._lines(missing.call)
        return Wrong(GRADIENT, missing.name, gradient=missing, lines=lines, call=missing.blamed.name)

    def _wrong_stage(self, stage: StageJudgement) -> Wrong:
        name = "" if stage.call is None else stage.call.name
        return Wrong(
            STAGE,
            stage.name,
            verdict=stage.own if not stage.own.agrees else stage.inherited,
            lines=() if stage.call is None else self._lines(stage.call),
            reference=_reference_lines(stage.name),
            call=name,
            is_result=stage.is_result,
            is_right=any(x.call.name == name and x.is_judged and x.agrees for x in self.calls),
            after=stage.after,
        )

    def _lines(self, call: Call) -> tuple[str, ...]:
        """The user's lines of a call; of a backward call those of its forward call, if it has none."""
        if call.stack or not call.is_backward:
            return users_lines(call)
        forward = call.name.replace("backward", "forward")
        return next((users_lines(other) for other in self.run.calls if other.name == forward), ())

    def rows(self) -> list["Row"]:
        """The rows of a table, in the order of the model."""
        return _rows(self)


@dataclasses.dataclass
class Row:
    """What a table shows of one module, or of the operators in it. layer: what stands down the side."""

    layer: str
    name: str
    forward: list[Verdict] = dataclasses.field(default_factory=list)
    backward: list[Verdict] = dataclasses.field(default_factory=list)
    inherited: list[Verdict] = dataclasses.field(default_factory=list)
    not_judged: int = 0
    bits: float | None = None

    @property
    def short(self) -> str:
        """The name without that of the layer."""
        return self.name.removeprefix(f"{self.layer}.") if self.name != self.layer else self.name

    @property
    def agrees(self) -> bool:
        """Whether nothing in it differs."""
        return all(verdict.agrees for verdict in (*self.forward, *self.backward, *self.inherited))

    @property
    def verdicts(self) -> list[Verdict]:
        """All verdicts on its own work."""
        return [*self.forward, *self.backward]


def worst(verdicts: list[Verdict]) -> Verdict | None:
    """The verdict that is farthest beyond its limit; if all agree, the one with the most times its noise."""
    wrong = [verdict for verdict in verdicts if not verdict.agrees]
    if wrong:
        return max(wrong, key=lambda verdict: verdict.severity)
    measured = [verdict for verdict in verdicts if verdict.noise] or verdicts
    return max(measured, key=lambda verdict: verdict.noise_ratio, default=None)


def merged(layer: str, rows: list[Row]) -> Row:
    """All rows of a layer as one."""
    found = Row(layer, layer)
    for row in rows:
        found.forward += row.forward
        found.backward += row.backward
        found.inherited += row.inherited
        found.not_judged += row.not_judged
    found.bits = min((row.bits for row in rows if row.bits is not None), default=None)
    return found


def by_layer(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of each layer."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.layer, []).append(row)
    return found


def _rows(judged: JudgedRun) -> list[Row]:
    calls = {call.name: call for call in judged.run.calls}
    places = _Places(judged.run)
    found: dict[str, Row] = {}
    kept: dict[str, int] = {}

    def row_of(name: str, layer: str, place: int) -> Row:
        kept.setdefault(name, place)
        return found.setdefault(name, Row(layer, name))

    for place, judgement in enumerate(judged.calls):
        layer, name = places.of(judgement.call)
        row = row_of(name, layer, place)
        (row.backward if judgement.call.is_backward else row.forward).extend(judgement.verdicts)
        row.not_judged += not judgement.is_judged
        room = judged.headroom.get(judgement.call.name)
        if room is not None and room.bits is not None:
            row.bits = room.bits if row.bits is None else min(row.bits, room.bits)
    for place, stage in enumerate(judged.stages):
        known = calls.get(stage.call.name) if stage.call is not None else None
        layer, name = (layer_of(stage.name), stage.name) if known is None else places.of(known)
        row = row_of(name, layer, place)
        row.inherited.append(stage.inherited)
        if known is None or not stage.own.agrees:
            row.forward.append(stage.own)
    return [row for layer in places.layers(found.values()) for row in found.values() if row.layer == layer]


class _Places:
    """Where calls stand in a table: in which layer, and in the row of which module."""

    def __init__(self, run: RecordedRun) -> None:
        self._calls = {call.name: call for call in run.calls}
        self._places = {call.name: place for place, call in enumerate(run.calls)}
        inside = [
            place
            for place, call in enumerate(run.calls)
            if call.is_module and not call.is_backward and layer_of(common_path(call.path)).startswith("h.")
        ]
        self._first = min(inside, default=0)
        parents = {call.parent for call in run.calls if call.is_module}
        self._composed = {call.path for call in run.calls if call.name in parents}  # of other modules

    def of(self, call: Call) -> tuple[str, str]:
        """The layer and the row's name of a call."""
        if call.is_module:
            path = common_path(call.path) or call.path
            return layer_of(path), path
        parent = self._calls.get(call.parent)
        if parent is not None and common_path(parent.path):
            path = common_path(parent.path)
            return layer_of(path), f"{path}: {OPERATORS}" if parent.path in self._composed else path
        before = (self._places[call.name] < self._first) != call.is_backward
        layer = BEFORE_LAYERS if before and self._first else AFTER_LAYERS if self._first else OPERATORS
        return layer, layer if layer != OPERATORS else call.operator

    def layers(self, rows: Any) -> list[str]:
        """The layers that have rows, in the order of the model."""
        first = ("wte", "wpe", BEFORE_LAYERS, "embeddings", "drop")
        names = dict.fromkeys(row.layer for row in rows)

        def place(name: str) -> tuple[int, int]:
            if name in first:
                return 0, first.index(name)
            return (1, int(name[2:])) if name.startswith("h.") else (2, 0)

        return sorted(names, key=place)


def _reference_lines(name: str) -> tuple[str, ...]:
    try:
        function = "model.language_model_loss" if name == LOSS else name
        return source_lines(None, function) if name and not name.startswith("tensor.") else ()
    except (KeyError, ValueError, OSError):
        return ()


@dataclasses.dataclass
class RecordedReport:
    """The findings of a recording. model: the folder of --model, or "". against: of a second recording, with it."""

    recording: Recording
    environment: dict[str, str | None]
    model: str = ""
    runs: list[JudgedRun] = dataclasses.field(default_factory=list)
    parting: Parting | None = None
    interrupted: bool = False
    against: "RecordedReport | None" = None
    pairs: list[TwoRuns] = dataclasses.field(default_factory=list)

    @property
    def judged(self) -> int:
        """How many calls and stages were judged."""
        return sum(run.judged for run in self.runs)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs, in either recording or between them."""
        return (
            all(run.agrees for run in self.runs)
            and self.parting is None
            and all(pair.agrees for pair in self.pairs)
            and (self.against is None or self.against.agrees)
        )

    @property
    def exit_code(self) -> int:
        """0: all agrees; 1: something differs; 2: a file cannot be read, the rest agrees; 3: nothing was judged."""
        if not self.agrees:
            return 1
        if any(run.damage for each in filter(None, (self, self.against)) for run in each.runs):
            return DAMAGED
        return 0 if self.judged else NOTHING_JUDGED

    @property
    def counts(self) -> Counter[str]:
        """How many calls agree, differ, were not judged, or by statistics alone."""
        found: Counter[str] = Counter()
        for run in self.runs:
            for judgement in run.calls:
                found["by_statistics"] += judgement.by_statistics and judgement.is_judged
                found["not_judged" if not judgement.is_judged else "agree" if judgement.agrees else "differ"] += 1
            found["stages"] += len(run.stages)
            found["wrong_stages"] += sum(not stage.own.agrees for stage in run.stages)
        return found

    @property
    def first_wrong(self) -> tuple[JudgedRun, Wrong] | None:
        """The first run that is wrong, and what is wrong first in it."""
        return next(((run, first) for run in self.runs if (first := run.first_wrong) is not None), None)


def finite(x: float | None) -> float | None:
    """The number, or None if it is NaN or infinite, which JSON does not know."""
    return x if x is not None and math.isfinite(x) else None
