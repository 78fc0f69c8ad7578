"""The judge's verdicts in English and Chinese, for the page."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2.backends import numpy_dtype
from gpt2.model.model import Model

Array = NDArray[Any]
LARGEST = 1e9  # stands for infinity: a wrong shape or a wrong NaN


def judge_stages(model: Model, ids: Array) -> dict[str, Any]:
    """The verdict on every stage of a model's forward pass, by stage name."""
    from parity.verdict.stages import stage_references

    dtype, accuracy = numpy_dtype(model.backend.dtype), model.backend.accuracy
    known = stage_references(model.config, model.parameters, ids, None, None, dtype, accuracy)
    stages = model.stages(ids)
    return {name: described(known[name].judge(stages.get(name, np.zeros(0)))) for name in known}


def described(verdict: Any) -> dict[str, Any]:
    """A verdict as a dictionary for the page; infinite numbers are null."""
    finite = not verdict.reason
    return {
        "agrees": verdict.agrees,
        "identical": finite and verdict.error == 0,
        "ulp": _number(verdict.ulps) if finite else None,
        "noise_ratio": _number(verdict.noise_ratio) if finite else None,
        "words": {"en": _english(verdict), "zh": _chinese(verdict)},
    }


def severity(verdict: Any) -> float:
    """The error as a multiple of the allowed error, rounded to four digits, at most LARGEST."""
    return float(f"{min(verdict.severity, LARGEST):.4g}")


def _number(x: float) -> float | None:
    return float(f"{x:.4g}") if math.isfinite(x) else None


def _english(verdict: Any) -> str:
    if verdict.reason:
        return f"differs: {verdict.reason}"
    if verdict.error == 0:
        return "identical bits"
    return f"{verdict.ulps:.3g} ulp; {verdict.noise_ratio:.2g} × noise: {'agrees' if verdict.agrees else 'differs'}"


def _chinese(verdict: Any) -> str:
    if verdict.reason:
        return f"不一致：{verdict.reason}"
    if verdict.error == 0:
        return "逐位相同"
    return f"{verdict.ulps:.3g} ulp；{verdict.noise_ratio:.2g} × 噪声：{'一致' if verdict.agrees else '不一致'}"
