"""Does a port remember? What it keeps from one call to the next is wrong in a way that no single case shows."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from gpt2.errors import GPT2Error
from parity.check import Rule, agrees
from parity.diagnosis.blame import RANDOM, REPEATS
from parity.ports.base import Port
from parity.ports.function_port import FunctionPort
from parity.ports.port import get_port
from parity.verdict.trial import Trial

Array = NDArray[Any]
DRAWS = 32  # the one number of a small case is kept by dropout 4 times of 4 often enough, and hardly 32 times
KEEPS = (
    "alone, in {file} imported anew, this case agrees: something is kept from an earlier call, as by a cache whose key "
    "leaves something out, a counter, or a default argument that is changed"
)


def remembers(rule: Rule, trial: Trial) -> str:
    """What to say if a failing case of a port agrees when it is the first; "" if it does not, or that cannot be tried.

    Of a function that gives other numbers for the same, it is said that it does; of a model, its stages tell that.
    """
    port: Any = trial.backend
    if not isinstance(port, Port):
        return ""
    try:
        alone = agrees(rule, trial.on(_imported_anew(port)))
        is_function = isinstance(port, FunctionPort)
        repeats = range(DRAWS if is_function else REPEATS)
        if _differ(trial, ((trial.on(_imported_anew(port)) if alone else trial).run() for _ in repeats)):
            return RANDOM if is_function else ""
    except Exception:  # no function is found by that name, or it raises, whatever was before
        return ""
    return KEEPS.format(file=port.file.name) if alone else ""


def _differ(trial: Trial, results: Iterator[list[Array]]) -> bool:
    """Whether the results of one input differ by more than kernels that add up in any order do."""
    first = next(results)
    return any(
        not trial.close(x, same, 2 * known.noise).agrees
        for each in results
        for x, same, known in zip(each, first, trial.references(), strict=False)
    )


def _imported_anew(port: Port) -> Any:
    """The port with nothing kept. Raises GPT2Error if it is not found again."""
    again: Any = get_port(str(port.source), port.device, port.dtype, anew=True)
    if port.source.load()[0] is not port.entry:
        raise GPT2Error(f"{port.source} is something else")
    again.supports, again.may_remember = port.supports, False
    return again
