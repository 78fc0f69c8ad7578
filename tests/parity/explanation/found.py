"""What the judge says of the variants of one framework: `python -m tests.parity.explanation.found torch 4`.

Of every fourth here. It prints a line of JSON for each function, for an environment that has the framework.
"""

import functools
import json
import sys
from typing import Any
from unittest import mock

from parity import check, time_limits
from parity.ports.port import get_port
from tests.parity.explanation.variants import VARIANTS, Variant

WRONG, RIGHT = 5, 25  # examples


@functools.cache
def said_of(place: str, function: str, examples: int) -> dict[str, Any]:
    """Whether it agrees, on how many cases, and what is said of it."""
    backend = get_port(place if function.startswith("engine.") else f"{function}={place}")
    with mock.patch.object(time_limits, "STEP", 0.0):  # any failure will do
        result = check.check_rule(check.rules()[function], backend, examples, closest=0)
    return {"agrees": result.agrees, "cases": result.cases, "error": result.error, "said": str(result.to_dict())}


def said(variant: Variant) -> dict[str, Any]:
    """What is said of a variant, and of the right function in its file."""
    return {
        "name": variant.name,
        "wrong": said_of(variant.place, variant.function, WRONG),
        "right": said_of(variant.right, variant.function, RIGHT),
    }


if __name__ == "__main__":
    framework, step = sys.argv[1:]
    for each in [variant for variant in VARIANTS if variant.framework == framework][:: int(step)]:
        print(json.dumps(said(each)))
