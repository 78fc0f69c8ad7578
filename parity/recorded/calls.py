"""Judge every recorded call on its own recorded inputs, one at a time, so that little is in memory."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from gpt2.errors import GPT2Error
from parity.recorded import by_statistics
from parity.recorded.call_index import CallIndex
from parity.recorded.judgement import CallJudgement
from parity.recorded.operators import Bound, Operators, functions, load_operators, tensors
from parity.recorded.operators.expectation import Expectation, References, exactly
from parity.recorded.parameter_gradients import parameter_gradients
from parity.recorded.recording import Call, RecordedRun, RecordedTensor, is_float, numbers_of
from parity.recorded.recording import tensors as tensors_in
from parity.recorded.submodules import CannotTellError, Submodules, function_of, is_norm, norm_parameters
from parity.verdict.verdict import Verdict, refused
from reference.config import GPT2Config

Array = NDArray[Any]
WHOLE = ("wte", "transformer", "h.0")  # a submodule that only a whole model has
NOTHING = "the numbers of its results were not recorded"
OTHER_EPSILONS = (1e-6, 1e-7, 1e-12, 1e-3, 1e-4)  # defaults of frameworks and of other models
# Of calls whose plain arguments were not kept, those can be judged whose functions have none that matter.
PLAIN = ("add", "subtract", "multiply", "negative", "square", "sqrt", "rsqrt", "exp", "log")
WITHOUT_OPTIONS = {"ops.matmul", *(f"tensor.{name}" for name in PLAIN)}
UNFIT = "the recorded arguments do not fit together"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known besides the recording.

    accuracy: the relative errors of the framework's elementary functions (recorded/accuracy.py). operators: the table.
    config: the model's configuration, if there is one: number of heads, activation, epsilon where not recorded.
    """

    accuracy: Mapping[str, float]
    operators: Operators = dataclasses.field(default_factory=load_operators)
    config: GPT2Config | None = None


def judge_calls(
    run: RecordedRun, setting: Setting, watch: Callable[[int, int], None] | None = None
) -> Iterator[CallJudgement]:
    """The judgement on each call of a run, in its order. watch(done, count) is called after each.

    A call that the table does not know, or whose arguments were not recorded, is not judged, and the reason says why.
    """
    judge = _Judge(run, setting)
    for done, call in enumerate(run.calls, 1):
        yield judge.judge(call)
        if watch is not None:
            watch(done, len(run.calls))


class _NotJudgedError(Exception):
    """Why a call is not judged."""


class _Judge:
    def __init__(self, run: RecordedRun, setting: Setting) -> None:
        self._run, self._setting = run, setting
        self._index, self._known = CallIndex(run), References(setting.accuracy, run.framework)
        self._submodules = Submodules(self._index, setting.operators, setting.config, self._known)

    def judge(self, call: Call) -> CallJudgement:
        function = ""
        try:
            forward = self._index.forward_of(call) if call.is_backward else call
            if forward is None:
                raise _NotJudgedError("its forward call is not recorded")
            found = self._bound(forward)
            function = found if isinstance(found, str) else found.function
            if not (call.is_complete and forward.is_complete) and function not in WITHOUT_OPTIONS:
                raise _NotJudgedError("the dump kept its tensors alone: an axis or another option may be missing")
            recorded = list(tensors_in((call.results, call.arguments)))
            if recorded and not any(x.has_numbers for x in recorded):
                return by_statistics.judge(call, found, function, self._setting.accuracy)
            judged = self._backward(call, forward, found) if call.is_backward else self._forward(call, found)
            verdicts = tuple(judged)
            if not all(verdict.agrees for verdict in verdicts):
                self._require_known_epsilon(forward, found)
            if not verdicts:
                raise _NotJudgedError("no gradient is recorded that is its alone" if call.is_backward else NOTHING)
            return CallJudgement(call, function, verdicts)
        except (_NotJudgedError, CannotTellError, GPT2Error) as error:
            return CallJudgement(call, function, reason=str(error))
        except KeyError as error:
            return CallJudgement(call, function, reason=f"{UNFIT}: {error.args[0] if error.args else error}")
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            return CallJudgement(call, function, reason=f"{UNFIT}: {error}")

    def _require_known_epsilon(self, call: Call, found: Bound | str) -> None:
        """Raise _NotJudgedError for a norm that agrees with another epsilon than GPT-2's, if its own is not known."""
        if self._setting.config is not None or isinstance(found, str) or found.function != "ops.layer_norm":
            return
        inside = [self._setting.operators.find(each, self._run.framework) for each in (call, *self._index.within(call))]
        if any(isinstance(each, Bound) and each.arguments.get("eps") is not None for each in inside):
            return
        for epsilon in OTHER_EPSILONS:
            other = dataclasses.replace(found, arguments=found.arguments | {"eps": epsilon})
            if all(verdict.agrees for verdict in self._forward(call, other)):
                self._submodules.epsilons[call.name if call.is_module else call.parent] = epsilon
                said = f"with GPT-2's epsilon, {functions.EPSILON}, it differs, with {epsilon} it agrees"
                raise _NotJudgedError(f"{said}: is it so in config.json?")

    def _bound(self, call: Call) -> Bound | str:
        """The call as the table knows it, with options that a call within it has; or the function of a submodule."""
        part = function_of(call, self._index)
        if part and part != "ops.layer_norm":
            return part
        bound = self._setting.operators.find(call, self._run.framework)
        if isinstance(bound, str):
            if part:
                parameters = norm_parameters(call)
                given = {"x": call.arguments[0], "eps": self._submodules.epsilon(call)}
                return Bound(part, given | {name: call.parameters[x] for name, x in parameters.items()}, parameters)
            same = self._same_within(call)
            if same is None and any(self._index.submodule(call, name) for name in WHOLE):
                raise _NotJudgedError("a whole model is judged from its ids, with --model")
            if same is None:
                raise _NotJudgedError(bound)
            return same
        missing = dict(bound.arguments)
        for inner_call in self._index.within(call) if call.is_module else ():
            inner = self._setting.operators.find(inner_call, self._run.framework)
            if isinstance(inner, Bound) and inner.function == bound.function:
                options = {name: x for name, x in inner.arguments.items() if not any(True for _ in tensors_in(x))}
                missing = options | missing
        by_config = self._setting.config is not None and is_norm(call)
        if bound.function == "ops.layer_norm" and (by_config or missing.get("eps") is None):
            missing["eps"] = self._submodules.epsilon(call)
        return dataclasses.replace(bound, arguments=missing)

    def _same_within(self, call: Call) -> Bound | None:
        """A module that is not in the table, and that is nothing but one call with its own arguments, is that call."""
        within = self._index.within(call)
        if not call.is_module or call.parameters or len(within) != 1:
            return None
        inner = self._setting.operators.find(within[0], self._run.framework)
        recorded = [list(tensors_in((each.arguments, each.keywords, each.results))) for each in (call, within[0])]
        alike = [[(x.shape, x.dtype, x.statistics) for x in each] for each in recorded]
        if isinstance(inner, str) or alike[0] != alike[1]:
            return None
        (argument,) = call.arguments if len(call.arguments) == 1 else (None,)
        return None if argument is None else dataclasses.replace(inner, arguments=inner.arguments | {"x": argument})

    def _forward(self, call: Call, found: Bound | str) -> Iterator[Verdict]:
        results = list(tensors_in(call.results))
        if not results:
            raise _NotJudgedError("it returned no tensor")
        if isinstance(found, str):
            expected = self._submodules.forward(call, found)
        else:
            given, dtypes = _numbers(found), [_dtype(x) for x in results]
            if found.function.startswith("tensor."):
                shapes = [x.shape for x in results]
                expected = tensors.forward(found.function, given, shapes, dtypes, self._known)
                if len(expected) != len(results) and len(expected) > 1:
                    yield refused(f"returned {len(results)} tensors, expected {len(expected)}")
                    return
            else:
                expected = functions.forward(found.function, given, dtypes[0], self._known)
        for expectation, result in zip(expected, results, strict=False):
            if result.has_numbers:
                yield expectation.verdict(result)

    def _backward(self, call: Call, forward: Call, found: Bound | str) -> Iterator[Verdict]:
        grads = list(call.arguments)
        if not any(isinstance(grad, RecordedTensor) for grad in grads):
            raise _NotJudgedError("the gradient of its result is not recorded")
        results = [x for x in call.results if isinstance(x, RecordedTensor)]
        if isinstance(found, str):
            if not results:
                raise _NotJudgedError("no gradient of its arguments is recorded")
            yield self._submodules.backward(forward, found, grads[0]).verdict(results[0])
            return
        given = _numbers(found)
        expected = self._gradients(found, given, [_numbers_of_grad(grad) for grad in grads], forward, results)
        order = found.gradients or [name for name in (*found.arguments, *expected) if name in expected]
        names = list(dict.fromkeys(name for name in order if name in expected))
        if call.is_module:
            names = [name for name in names if name not in found.parameters]
        for name, result in _paired(call.results, names, expected):
            if name is None:
                grad = numbers_of(grads[0])
                if not _is_last_reshaping(found.function, grad, result):
                    raise _NotJudgedError(f"a gradient of shape {result.shape} is that of no argument")
                yield _reshaped(grad, result)
            elif result.has_numbers:
                yield expected[name].verdict(result)
        if call.is_module:
            yield from parameter_gradients(forward, found, expected, self._run, self._index, self._known, self._given)

    def _given(self, call: Call) -> tuple[Bound, dict[str, Any]] | None:
        """The arguments of another call of the run, if the table knows it."""
        bound = self._bound(call)
        return None if isinstance(bound, str) else (bound, _numbers(bound))

    def _gradients(
        self, found: Bound, given: dict[str, Any], grads: list[Any], forward: Call, results: list[RecordedTensor]
    ) -> dict[str, Expectation]:
        shapes = [x.shape for x in tensors_in(forward.results)]
        if found.function.startswith("tensor."):
            return tensors.backward(found.function, given, grads, shapes, self._known)
        if grads[0] is None:
            raise _NotJudgedError("the gradient of its result is not recorded")
        outputs = [x for x in tensors_in(forward.results) if is_float(x)]
        dtype = _dtype(outputs[0]) if outputs else grads[0].dtype
        expected = functions.backward(found.function, given, grads[0], dtype, self._known)
        turned = {name: _turned(expected[name]) for name in found.transposed if name in expected}
        return expected | turned


def _numbers(bound: Bound) -> dict[str, Any]:
    """The arguments of a call as arrays. Raises _NotJudgedError if the dump does not hold one's numbers."""
    for name, value in bound.arguments.items():
        if any(not x.has_numbers for x in tensors_in(value)):
            raise _NotJudgedError(f"the numbers of its argument {name} were not recorded")
    given = {name: numbers_of(value) for name, value in bound.arguments.items()}
    return given | {name: given[name].T for name in bound.transposed if given.get(name) is not None}


def _numbers_of_grad(grad: Any) -> Array | None:
    if not isinstance(grad, RecordedTensor):
        return None
    if not grad.has_numbers:
        raise _NotJudgedError("the numbers of the gradient of its result were not recorded")
    return grad.numbers()


def _dtype(tensor: RecordedTensor) -> np.dtype:
    return numpy_dtype(tensor.dtype) if is_float(tensor) and tensor.dtype != "float64" else np.dtype(tensor.dtype)


def _turned(expected: Expectation) -> Expectation:
    """The expectation of a matrix that is stored the other way round."""

    def judge(value: Array) -> Verdict:
        verdict = expected.judge(value.T)
        return dataclasses.replace(verdict, index=verdict.index[::-1])

    return Expectation(expected.shape[::-1], judge, expected.name)


def _paired(
    results: tuple[Any, ...], names: list[str], expected: dict[str, Expectation]
) -> Iterator[tuple[str | None, RecordedTensor]]:
    """Each recorded gradient with the argument that it is of: by position if all shapes fit, else by its shape.

    None: it has the shape of no argument. Raises _NotJudgedError if the shape fits several.
    """
    flat = [x for entry in results for x in (entry if isinstance(entry, list | tuple) else [entry])]
    there = [(i, x) for i, x in enumerate(flat) if isinstance(x, RecordedTensor)]
    by_position = len(flat) == len(names) or [i for i, _ in there] == list(range(len(names)))
    if by_position and all(i < len(names) and expected[names[i]].shape == x.shape for i, x in there):
        yield from ((names[i], x) for i, x in there)
        return
    for i, x in there:
        fit = [name for name in names if expected[name].shape == x.shape]
        if len(fit) > 1 and i < len(names) and names[i] in fit:
            fit = [names[i]]
        if len(fit) > 1:
            raise _NotJudgedError(f"a gradient of shape {x.shape} may be that of {' or '.join(fit)}")
        yield (fit[0] if fit else None), x


def _is_last_reshaping(function: str, grad: Array, result: RecordedTensor) -> bool:
    """Whether what was recorded is the gradient before the last step of a product, which only joins leading axes.

    PyTorch computes a product of arrays of three and more axes as one of two or three, and hooks the last step alone.
    """
    last = 1 if function == "ops.conv1d" else 2
    shapes = [(int(np.prod(grad.shape[:-kept])), *grad.shape[-kept:]) for kept in (1, last) if grad.ndim > kept]
    return function in ("ops.conv1d", "ops.matmul") and result.shape in shapes


def _reshaped(grad: Array, result: RecordedTensor) -> Verdict:

    return exactly(grad.reshape(result.shape)).verdict(result)
