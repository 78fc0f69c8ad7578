"""Judge a recording, and collect what is found for a report: with progress on standard error, and Ctrl-C heard."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from gpt2.errors import GPT2Error
from gpt2.interrupt import one_interrupt
from gpt2.model import hf_folder
from gpt2.progress import ProgressBar
from parity.recorded.accuracy import accuracy_of
from parity.recorded.calls import Setting, judge_calls
from parity.recorded.judgement import CallJudgement
from parity.recorded.operators import Operators, load_operators
from parity.recorded.recording import RecordedRun, Recording
from parity.recorded.runs.headroom import first_not_finite, headroom
from parity.recorded.runs.missing_gradients import missing_gradients
from parity.recorded.runs.parameters import ParameterFinding, is_updated, judge_parameters, parameters_of_step
from parity.recorded.runs.precision import lower_precision
from parity.recorded.runs.series import first_parting, gradient_norms
from parity.recorded.runs.stage_map import ACT
from parity.recorded.runs.two_runs import compare_runs
from parity.recorded.runs.whole_run import WholeRun, judge_whole_run, require_model
from parity.report.record import machine
from parity.report.recorded.facts import JudgedRun, RecordedReport
from reference.config import GPT2Config

OF_FIRST_STEP = "the model's parameters are those of an earlier step"
Judge = Callable[[RecordedRun, Setting], Iterator[CallJudgement]]


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """The model of --model: its folder's name, configuration and parameters."""

    name: str
    config: GPT2Config
    parameters: hf_folder.Parameters

    @classmethod
    def of(cls, name: str) -> "LoadedModel":
        """Load a folder, or a model of the hub. Raises GPT2Error, one line, for anything missing or damaged."""
        folder = hf_folder.find_folder(name)
        config = hf_folder.read_config(folder)
        return cls(name, config, hf_folder.read_parameters(folder, config))


def judge_recording(
    recording: Recording,
    model: LoadedModel | None = None,
    against: Recording | None = None,
    operators: Operators | None = None,
    judge: Judge = judge_calls,
) -> RecordedReport:
    """Judge every run of a recording; and of another, to compare with. operators: the table (default: our own).

    Ctrl-C (or SIGTERM) ends the judging, not the report, which then has what was judged so far.
    Raises GPT2Error if the model cannot have made the recording.
    """
    table = load_operators() if operators is None else operators
    report = RecordedReport(recording, machine(), "" if model is None else model.name)
    other = None if against is None else RecordedReport(against, report.environment, report.model)
    if model is not None:
        for run in (*recording.runs, *(against.runs if against is not None else ())):
            require_model(run, model.config)
    total = sum(len(run.calls) for each in filter(None, (recording, against)) for run in each.runs)
    with ProgressBar() as bar, one_interrupt() as interrupt:
        try:
            done = 0
            for each in filter(None, (report, other)):
                for run in each.recording.runs:
                    judged = JudgedRun(run)
                    earlier = (x.parameters for x in each.runs if x.run.rank == run.rank and x.run.step < run.step)
                    first = next(filter(None, earlier), [])
                    each.runs.append(judged)
                    for _ in _judge_run(judged, judge, table, model, first):
                        done += 1
                        bar.show(run.place, done, max(total, done))
                        if interrupt.asked:  # and something swallowed it
                            raise KeyboardInterrupt
                with _damage_noted(each.runs[0]):
                    report.parting = report.parting or first_parting(each.recording.runs, _floors_by_place(each))
            if other is not None:
                with _damage_noted(other.runs[0]):
                    _compare(report, other)
        except KeyboardInterrupt:
            report.interrupted = True
    report.against = other
    return report


def _judge_run(
    judged: JudgedRun,
    judge: Judge,
    table: Operators,
    model: LoadedModel | None,
    first: Sequence[ParameterFinding],
) -> Iterator[None]:
    """Judge one run; yields after each call. first: the parameters of the first step, if this is a later one."""
    run = judged.run
    accuracy = accuracy_of(run)
    with _damage_noted(judged):
        judged.gradients = gradient_norms(run)
    judged.missing_gradients, judged.lower_precision = missing_gradients(run), lower_precision(run)
    if model is not None:
        with _damage_noted(judged):
            judged.parameters = list(judge_parameters(run, model.config, model.parameters))
        with _damage_noted(judged):
            judged.whole = _judge_whole(judged, first, model, accuracy)
    for judgement in judge(run, Setting(accuracy, table, None if model is None else model.config)):
        judged.calls.append(judgement)
        with _damage_noted(judged):
            room = headroom(judgement.call)
            if room is not None:
                judged.headroom[judgement.call.name] = room
        yield
    with _damage_noted(judged):
        judged.not_finite = first_not_finite(run)


def _judge_whole(
    judged: JudgedRun, first: Sequence[ParameterFinding], model: LoadedModel, accuracy: Mapping[str, float]
) -> list[WholeRun]:
    """Judge the passes of a run by the model; after an optimizer's update by the parameters that the step recorded."""
    run, parameters = judged.run, model.parameters
    if not is_updated(first, judged.parameters):
        return judge_whole_run(run, model.config, parameters, accuracy)
    judged.parameters = []
    own = parameters_of_step(run, first, parameters)
    if own is None:
        return [WholeRun(reason=f"{OF_FIRST_STEP}, and this step recorded not all of its own")]
    note = f"{OF_FIRST_STEP}: this one is judged by those that it recorded"
    passes = judge_whole_run(run, model.config, own, accuracy)
    return [dataclasses.replace(each, notes=(*each.notes, note)) for each in passes]


@contextlib.contextmanager
def _damage_noted(judged: JudgedRun) -> Iterator[None]:
    """Go on after a file of the recording that cannot be read, and remember what was said of it."""
    try:
        yield
    except GPT2Error as error:
        if str(error) not in judged.damage:
            judged.damage.append(str(error))


def _floors_by_place(report: RecordedReport) -> dict[tuple[int, int, str], float]:
    return {(run.run.step, run.run.rank, name): floor for run in report.runs for name, floor in _floors(run).items()}


def _floors(judged: JudgedRun) -> dict[str, float]:
    """The noise floors of calls by their names, and of stages by theirs, as far as they are known."""
    found = {
        judgement.call.name: max(verdict.noise for verdict in judgement.verdicts)
        for judgement in judged.calls
        if judgement.verdicts and not judgement.by_statistics
    }
    for stage in judged.stages[::-1]:  # of several forward passes, the first counts
        role = stage.name.rpartition(".")[0]
        is_act = role.endswith(".mlp") and stage.name.rpartition(".")[2] not in ("c_fc", "c_proj")
        found[f"{role}.{ACT}" if is_act else stage.name] = stage.inherited.noise
    return found


def _compare(report: RecordedReport, other: RecordedReport) -> None:
    """Compare the runs of the same step and rank; if there are none, the first of each."""
    twins = {(run.run.step, run.run.rank): run for run in other.runs}
    pairs = [(run, twins[run.run.step, run.run.rank]) for run in report.runs if (run.run.step, run.run.rank) in twins]
    for one, two in pairs or list(zip(report.runs[:1], other.runs[:1], strict=True)):
        report.pairs.append(compare_runs(one.run, two.run, _floors(one), _floors(two)))


def require_calls(recording: Recording) -> None:
    """Raise GPT2Error for a recording that holds nothing to judge."""
    if not any(run.calls or run.stages for run in recording.runs):
        raise GPT2Error(
            f"{recording.source}: no call and no stage in it: was anything recorded between start and stop?"
        )
