"""Are the recorded parameters those of the model? If not, what are they: transposed, another layer's, zero?"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gpt2.backends import numpy_dtype
from parity.recorded.recording import Array, Call, RecordedRun, RecordedTensor, is_float, tensors
from parity.recorded.runs.names import common_parameter, common_path
from reference.config import GPT2Config

# What a parameter is. The first three are right: OTHER_WAY is stored (out, in), as nn.Linear and nn.Dense use it; of
# ALIKE the recording has statistics alone.
SAME, OTHER_WAY, ALIKE = "same", "stored (out, in)", "of the same maximum and minimum"
TRANSPOSED, ZERO, OF_ANOTHER, REORDERED, ROUNDED, DIFFERS = (
    "transposed",
    "zero",
    "of another",
    "queries, keys and values in another order",
    "rounded",
    "differs",
)
SHAPE, STATISTICS = "of another shape", "of other statistics"
RIGHT = (SAME, OTHER_WAY, ALIKE)
# Which classes multiply by the weight as it is stored (in, out), and which by its transpose.
AS_STORED, BY_TRANSPOSE = ("conv1d",), ("linear", "dense")
ROWS = 4  # of an input, by which a class that is not known is tried
QKV = 3


@dataclasses.dataclass(frozen=True)
class ParameterFinding:
    """What a recorded parameter is, beside the model's of that name.

    name: Hugging Face's, "h.0.attn.c_attn.weight". recorded: the recording's own name of it. what: one of the words
    above. other: the parameter that it holds instead, or the dtype that it was rounded to. most: the largest
    difference.
    """

    name: str
    recorded: str
    call: str
    what: str
    other: str = ""
    most: float | None = None

    @property
    def is_right(self) -> bool:
        """Whether it is the model's."""
        return self.what in RIGHT


def recorded_parameters(run: RecordedRun) -> Iterator[tuple[str, str, RecordedTensor, Call]]:
    """Every parameter once: its name in Hugging Face's words, its own, the tensor, and the first call that has it."""
    found = set()
    for call in run.calls:
        for name, tensor in call.parameters.items():
            whole = f"{call.path}.{name}"
            if whole not in found:
                found.add(whole)
                yield common_parameter(call.path, name), whole, tensor, call


def judge_parameters(
    run: RecordedRun, config: GPT2Config, parameters: Mapping[str, Array]
) -> Iterator[ParameterFinding]:
    """What each recorded parameter is that has a name the model knows."""
    for name, recorded, tensor, call in recorded_parameters(run):
        expected = model_parameter(name, config, parameters)
        if expected is not None and is_float(tensor):
            yield identify(name, recorded, tensor, call, expected, parameters)


def is_updated(first: Sequence[ParameterFinding], later: Sequence[ParameterFinding]) -> bool:
    """Whether an optimizer's update explains what was found in a later step: in the first, all were the model's."""
    wrong = {each.what for each in later if not each.is_right}
    return bool(first) and all(each.is_right for each in first) and wrong != set() and wrong <= {DIFFERS, STATISTICS}


def parameters_of_step(
    run: RecordedRun, first: Sequence[ParameterFinding], parameters: Mapping[str, Array]
) -> dict[str, Array] | None:
    """The model's parameters as a later step recorded them; None if it did not record them all with their numbers.

    first: what was found of them in the first step, which tells how they are stored.
    """
    turned = {each.recorded for each in first if each.what == OTHER_WAY}
    found: dict[str, Array] = {}
    for name, recorded, tensor, _ in recorded_parameters(run):
        if name in parameters and tensor.has_numbers:
            found[name] = tensor.numbers().T if recorded in turned else tensor.numbers()
    shapes = {name: x.shape for name, x in parameters.items()}
    return found if shapes == {name: x.shape for name, x in found.items()} else None


def model_parameter(name: str, config: GPT2Config, parameters: Mapping[str, Array]) -> Array | None:
    """The model's parameter of that name; a tied head's, or the third of c_attn that makes queries, keys or values."""
    if name == "lm_head.weight" and name not in parameters:
        return parameters.get("wte.weight")
    before, _, leaf = name.rpartition(".")
    at, _, third = before.rpartition(".")
    if third in ("q", "k", "v") and f"{at}.c_attn.{leaf}" in parameters:
        return np.split(parameters[f"{at}.c_attn.{leaf}"], QKV, axis=-1)["qkv".index(third)]
    return parameters.get(name)


def identify(
    name: str,
    recorded: str,
    tensor: RecordedTensor,
    call: Call,
    expected: Array,
    others: Mapping[str, Array],
) -> ParameterFinding:
    """What a recorded parameter is, beside the one that is expected; others: what else it may hold, by name."""

    def found(what: str, other: str = "", most: float | None = None) -> ParameterFinding:
        return ParameterFinding(name, recorded, call.name, what, other, most)

    if not tensor.has_numbers:
        return found(ALIKE if _same_statistics(tensor, expected) else STATISTICS)
    if tensor.shape not in (expected.shape, expected.shape[::-1]):
        return found(SHAPE, f"{tensor.shape}, expected {expected.shape}")
    x = tensor.numbers()
    stored = np.asarray(expected).astype(x.dtype)
    is_matrix = x.ndim == 2 and common_path(call.path) not in ("wte", "wpe")
    is_head = common_path(call.path) in ("lm_head", "score")  # whose weight is (out, in) in the model, too
    turned = is_matrix and not is_head and multiplies_by_transpose(call, x)
    if _equal(x, stored):
        return found(TRANSPOSED if turned and not _equal(stored, stored.T) else SAME)
    if is_matrix and _equal(x, stored.T):
        return found(OTHER_WAY if turned or x.shape[0] != x.shape[1] else TRANSPOSED)
    if not np.any(x):
        return found(ZERO)
    if stored.shape[-1] % QKV == 0 and name.endswith(("c_attn.weight", "c_attn.bias")):
        thirds = dict(zip("qkv", np.split(stored, QKV, axis=-1), strict=True))
        for order in ("qvk", "kqv", "kvq", "vqk", "vkq"):
            other = np.concatenate([thirds[letter] for letter in order], axis=-1)
            if _equal(x, other) or (is_matrix and _equal(x, other.T)):
                return found(REORDERED, ", ".join(order))
    alike = _holder(x, {other: y for other, y in others.items() if other != name})
    if alike:
        return found(OF_ANOTHER, alike)
    for narrow in ("float16", "bfloat16"):
        rounded = _rounded(stored, narrow)
        if any(_equal(x, form) for form in (rounded, *([rounded.T] if is_matrix else []))):
            return found(ROUNDED, narrow)
    forms = [y for y in (stored, stored.T) if y.shape == x.shape]
    with np.errstate(invalid="ignore", over="ignore"):
        sizes = [float(np.abs(x.astype(np.float64) - y.astype(np.float64)).max(initial=0.0)) for y in forms]
    return found(DIFFERS, most=min(sizes))


def multiplies_by_transpose(call: Call, weight: Array) -> bool:
    """Whether a module's result is that of its input and the weight's transpose: by its class, else by the numbers."""
    word = call.operator.lower()
    if weight.shape[0] != weight.shape[1] or word in AS_STORED + BY_TRANSPOSE:
        return word in BY_TRANSPOSE
    x, y = next(filter(is_float, tensors(call.arguments)), None), next(filter(is_float, tensors(call.results)), None)
    if x is None or y is None or not x.has_numbers or not y.has_numbers:
        return False
    rows = [z.numbers().reshape(-1, z.shape[-1])[:ROWS].astype(np.float64) for z in (x, y)]
    if rows[0].shape[-1] != weight.shape[0] or rows[1].shape[-1] != weight.shape[0]:
        return False
    bias = call.parameters.get("bias")
    rest = rows[1] - (bias.numbers().astype(np.float64) if bias is not None and bias.has_numbers else 0.0)
    wide = weight.astype(np.float64)
    return bool(np.abs(rows[0] @ wide.T - rest).max() < np.abs(rows[0] @ wide - rest).max())


def _equal(x: Array, y: Array) -> bool:
    return x.shape == y.shape and bool(np.array_equal(x, y, equal_nan=True))


def _rounded(x: Array, dtype: str) -> Array:
    import ml_dtypes

    with np.errstate(over="ignore"):
        return x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).astype(x.dtype)


def _holder(x: Array, others: Mapping[str, Array]) -> str:
    """The name of the parameter whose numbers these are; "" if there is none."""
    for name, y in others.items():
        if x.shape in (y.shape, y.shape[::-1]) and x.flat[0] == y.flat[0].astype(x.dtype):
            stored = y.astype(x.dtype)
            if _equal(x, stored) or (x.ndim == 2 and _equal(x, stored.T)):
                return name
    return ""


def _same_statistics(tensor: RecordedTensor, expected: Array) -> bool:
    """Whether the extremes are the parameter's: the only statistics that do not depend on the order of a sum."""
    extremes = ((tensor.statistics.max, np.max), (tensor.statistics.min, np.min))
    stored = expected.astype(numpy_dtype(tensor.dtype)).astype(np.float64)
    return all(said is None or not stored.size or said == float(find(stored)) for said, find in extremes)
