"""Write a failure as a standalone script: exact numbers, the call, and the expected result."""

import pprint
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.check import Rule
from parity.verdict.trial import Trial
from parity.verdict.verdict import NOISE_FACTOR, ULP_TERM, Reference, oracle_in_range, ulp
from reference.config import GPT2Config, flatten

Array = NDArray[Any]

HEAD = '''"""{title}

{explanation}
Run it with another backend's name to try that one: python {file} numpy
"""

import sys

import numpy as np

from gpt2.backends import get_backend, numpy_dtype
{imports}

def array(shape, dtype, numbers):
    """An array that is zero but for the numbers given by index; hexadecimal ones are exact."""
    x = np.zeros(shape, np.float64 if dtype.startswith(("float", "bfloat")) else dtype)
    for where, number in numbers.items():
        x[where] = float.fromhex(number) if isinstance(number, str) else number
    return x.astype(numpy_dtype(dtype) if x.dtype == np.float64 else dtype)


name = sys.argv[1] if len(sys.argv) > 1 else {backend!r}
backend = get_backend(name, {device!r}, {dtype!r}, {mode!r} if name == {backend!r} else None)
'''

COMPARISON = """expected = array({expected})  # GPT-2 in float64
allowed = array({allowed})  # {factor} x the rounding noise of this input + {ulps} ulp
value = np.asarray(value, {dtype!r} if isinstance(value, float) else None)
if value.shape != expected.shape or value.dtype.name != {dtype!r}:
    sys.exit(f"{{name}}: {{value.dtype}} {{value.shape}}, expected {dtype} {{expected.shape}}")
wide = value.astype(np.float64)
with np.errstate(invalid="ignore"):
    fits = (wide == expected) | (np.abs(wide - expected) <= allowed) | np.isnan(wide) & np.isnan(expected)
if fits.all():
    print(f"{{name}}: agrees")
else:
    where = tuple(int(i) for i in np.argwhere(~fits)[0])
    sys.exit(f"{{name}}: differs at {{where}}: {{wide[where]}}, expected {{expected[where]}} +- {{allowed[where]}}")
"""

LAW = """case = Case(
    contract=rules()[{rule!r}].contract,
    sizes={sizes},
    scalars={{name: arguments[name] for name in {scalars}}},
    absent=frozenset({absent}),
    padding={padding!r},
    regime={regime!r},
    seed={seed},
)
trial = with_only(Trial(case, backend), arguments)
for verdict in rules()[{rule!r}].judge(trial):
    if not verdict.agrees:
        sys.exit(f"{{name}}: {{verdict.explain()}}")
print(f"{{name}}: keeps the law")
"""

CACHED = """ids = arguments["ids"]
mask = arguments.get("attention_mask", np.ones_like(ids))
positions = arguments.get("position_ids", np.broadcast_to(np.arange(ids.shape[1]), ids.shape))
decoder, start, columns = model.decoder(*ids.shape), 0, [value[:, : (ids.shape[1] - 1) // 2]]
for end in range((ids.shape[1] + 1) // 2, ids.shape[1] + 1):  # half of it at once, then token by token
    decoder.read(ids[:, start:end], mask[:, start:end], positions[:, start:end])
    columns.append(decoder.logits()[:, None])
    start = end
value = np.concatenate(columns, axis=1)
"""


# One array out of what a function returns: (x, (k, v)), or (x, [(k, v), ...]), or a tree of gradients.
LEAVES = """

def leaves(tree):
    tree = [tree[name] for name in sorted(tree)] if isinstance(tree, dict) else tree
    return [x for branch in tree for x in leaves(branch)] if isinstance(tree, list | tuple) else [tree]


value = leaves(value)
if len(value) != {count}:
    sys.exit(f"{{name}}: {{len(value)}} arrays, expected {count}")
value = value[{index}]
"""


def write_script(rule: Rule, trial: Trial, file: str = "failure.py") -> str:
    """The script for a trial that breaks a rule: it ends with exit code 1 and one line while the rule is broken.

    It needs NumPy and the backend; for a law, also the judge, which contains the law. It draws nothing at random. ""
    if the trial breaks it no longer, as where something is kept from call to call.
    """
    verdict = next((verdict for verdict in rule.judge(trial) if not verdict.agrees), None)
    if verdict is None:
        return ""
    backend, law = trial.backend, rule.judge is not Trial.compare
    arguments = trial.arguments
    if rule.name.startswith("engine."):
        arguments = arguments | {"params": flatten(arguments["params"])}
    lines = "".join(f"    {name!r}: {_literal(value)},\n" for name, value in arguments.items())
    body = f"arguments = {{\n{lines}}}\n" + (_law(rule, trial) if law else _comparison(trial))
    head = HEAD.format(
        title=f"{backend.name} on {backend.device}, {backend.dtype}, {backend.mode}: {rule.name} fails.",
        explanation=verdict.explain(),
        file=file,
        imports=_imports(body, law),
        backend=backend.name,
        device=backend.device,
        dtype=backend.dtype,
        mode=backend.mode,
    )
    return head + body


def _imports(text: str, law: bool) -> str:
    lines = [
        "from parity.cases.cases import Case",
        "from parity.check import rules",
        "from parity.diagnosis.shrink import with_only",
        "from parity.verdict.trial import Trial",
    ]
    chosen = (lines if law else []) + (["from reference.config import GPT2Config"] if "GPT2Config(" in text else [])
    return "\n".join(chosen) + "\n" if chosen else ""


def _law(rule: Rule, trial: Trial) -> str:
    case = trial.case
    return LAW.format(
        rule=rule.name,
        sizes=case.sizes,
        scalars=sorted(case.scalars),
        absent=sorted(case.absent),
        padding=case.padding,
        regime=case.regime,
        seed=case.seed,
    )


def _comparison(trial: Trial) -> str:
    verdicts = list(trial.compare())
    index = next((i for i, verdict in enumerate(verdicts) if not verdict.agrees), 0)
    known = trial.references()[index] if len(verdicts) == len(trial.references()) else trial.references()[0]
    expected, allowed = bounds(known)
    return _call(trial, index) + COMPARISON.format(
        expected=_array(expected),
        allowed=_array(allowed),
        factor=NOISE_FACTOR,
        ulps=ULP_TERM,
        dtype=known.orbit[0].dtype.name,
    )


def bounds(known: Reference) -> tuple[Array, Array]:
    """The expected array, in float64, and the tolerance of each element; both as in Reference.judge."""
    plain_run = known.orbit[0]
    if plain_run.dtype.kind in "iub":
        return plain_run.astype(np.float64), np.zeros(plain_run.shape)
    special = ~np.isfinite(plain_run.astype(np.float64))
    expected = np.where(special, plain_run.astype(np.float64), oracle_in_range(known.oracle, plain_run.dtype))
    usual = np.where(special, 0.0, expected)
    allowed = np.where(special, 0.0, NOISE_FACTOR * known.noise + ULP_TERM * ulp(usual, plain_run.dtype))
    return expected, allowed if known.rows is None else np.where(known.rows, allowed, np.inf)


def _call(trial: Trial, index: int) -> str:
    file, name = trial.case.contract.function.split(".")
    if file != "engine":
        call = f'value = backend.call("{file}.{name}", arguments)\n'
        return call + _pick(trial, index)
    inputs = ", ".join(f'arguments.get("{key}")' for key in ("ids", "attention_mask", "position_ids"))
    model = 'model = backend.model(arguments["config"], arguments["params"])\n'
    call = f"value = model.{'classify' if name == 'classify' else 'logits'}({inputs})\n"
    return model + call + (CACHED if name == "cached" else "")


def _pick(trial: Trial, index: int) -> str:
    count = len(trial.references())
    return LEAVES.format(index=index, count=count) if count > 1 else ""


def _literal(tree: Any) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {_literal(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_literal, tree)) + "]"
    if isinstance(tree, tuple):
        return "(" + "".join(f"{_literal(value)}, " for value in tree) + ")"
    if isinstance(tree, np.ndarray):
        return f"array({_array(tree)})"
    if isinstance(tree, np.dtype):
        return f"numpy_dtype({tree.name!r})"
    if isinstance(tree, GPT2Config):
        usual = GPT2Config()
        fields = {name: value for name, value in vars(tree).items() if value != getattr(usual, name)}
        return "GPT2Config(" + ", ".join(f"{name}={value!r}" for name, value in fields.items()) + ")"
    return repr(tree)


def _array(x: Array) -> str:
    exact = x.dtype.kind not in "iub"
    numbers = {
        tuple(map(int, where)): float(x[tuple(where)]).hex() if exact else int(x[tuple(where)])
        for where in np.argwhere(x)
    }
    return f"{x.shape}, {x.dtype.name!r}, {pprint.pformat(numbers, width=100, compact=True)}"
