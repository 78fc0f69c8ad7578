"""Where in a model a call or a stage belongs, and whether that is where a bug was planted.

The rule: a blamed call is right if it is a call of the module that was changed, or of an operator that this module
calls itself. Where only the order of modules was changed, or what they are given, every call is right by itself:
then the first stage that holds a wrong value is right, as the bug lists it, or the module that computes it.
"""

import re
from collections.abc import Mapping

from benchmarks.recorded.bugs import Bug
from parity.recorded.recording import Call

# Stages that are not the result of a module of their name.
ATTENTION = ("q", "k", "v", "scores", "masked_scores", "attn_weights", "attn_output", "merged")


def place_of_call(call: Call, calls: Mapping[str, Call]) -> str:
    """The path of the module that is called or that calls this operator, "h.0.attn"; "" outside of the blocks."""
    while not call.path and call.parent in calls:
        call = calls[call.parent]
    return _short(call.path)


def places_of_stage(stage: str) -> tuple[str, ...]:
    """The modules that compute a stage, "h.0.attn.scores"; an activation is computed by its MLP, too."""
    owner, _, last = stage.rpartition(".")
    if owner.endswith(".attn"):
        return (owner if last in ATTENTION else f"{owner}.{last.replace('qkv', 'c_attn')}",)
    if owner.endswith(".mlp"):
        return (stage,) if last in ("c_fc", "c_proj") else (f"{owner}.act", owner)
    if last.endswith("_residual"):
        return (owner,)
    return {"embeddings": ("",), "logits": ("lm_head",), "loss": ("",)}.get(stage, (stage,))


def is_right(bug: Bug, place: str, stage: str = "") -> bool:
    """Whether a place, or a stage, is to be blamed for the bug; of a listed stage, also the module that computes it."""
    places = (*bug.where, *(each for listed in bug.stages for each in places_of_stage(listed)))
    return any(_matches(place, pattern) for pattern in places) or any(_matches(stage, each) for each in bug.stages)


def contains(bug: Bug, place: str) -> bool:
    """Whether the bug is inside of the module at this place, which then computes something else, too."""
    inside = [pattern for pattern in bug.where if place == "" or _matches(place, pattern[: _length(place, pattern)])]
    return bool(inside) or is_right(bug, place)


def _length(place: str, pattern: str) -> int:
    return len(".".join(pattern.split(".")[: len(place.split("."))]))


def _matches(name: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[0-9]+"), name) is not None


def _short(path: str) -> str:
    return re.sub(r"^(module\.)?transformer(\.|$)", "", path)
