"""What runs in 16 bits. Twin of reference/precision.py, without the rounding, which MindSpore's kernels do."""

from typing import Any

import mindspore as ms

from reference.config import map_tree, runs_in_float16


def cast_parameters(params: dict, level: str) -> dict:
    """The parameters for the forward pass at that level: float32 becomes float16 where runs_in_float16 says so.

    An op runs in the dtype of its weights; sums inside softmax, LayerNorm and GELU run in float32 at every level, and
    so does the loss.
    """
    return cast_chosen(params, chosen_parameters(params, level))


def chosen_parameters(params: dict, level: str) -> dict:
    """Which parameters a level takes in float16: a tree of booleans. A compiled graph cannot read names."""
    return map_tree(lambda name, x: runs_in_float16(name, level), params)


def cast_chosen(params: Any, chosen: Any) -> Any:
    """The parameters with the chosen float32 ones in float16."""
    if isinstance(params, dict):
        cast = {}
        for name in params.keys():  # noqa: SIM118 (a graph has neither another loop over a dict, nor comprehensions)
            cast[name] = cast_chosen(params[name], chosen[name])
        return cast
    if isinstance(params, list):
        return [cast_chosen(params[i], chosen[i]) for i in range(len(params))]
    return params.astype(ms.float16) if chosen and params.dtype == ms.float32 else params
