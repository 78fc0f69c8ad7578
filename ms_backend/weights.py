"""How arrays reach MindSpore: copied, checked, and always where compiled graphs see them."""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore import ops as P

DTYPES = {"float32": ms.float32, "float16": ms.float16, "bfloat16": ms.bfloat16, "bool": ms.bool_, "int32": ms.int32}


def to_tensor(x: np.ndarray, dtype: Any = None) -> Tensor:
    """A copy of x on the device; integers become int32, floats get `dtype` if one is given."""
    if x.dtype.kind in "iu":
        x = x.astype(np.int32)
    tensor = Tensor(np.ascontiguousarray(x).reshape(x.shape))
    is_float = x.dtype.kind not in "iub"
    return tensor.astype(dtype) if is_float and dtype is not None and tensor.dtype != dtype else tensor


def assign(parameter: Parameter, value: Tensor) -> None:
    """Write value into parameter, where compiled graphs see it (they do not see `set_data`).

    Raises ValueError if shape or dtype differ.
    """
    if tuple(parameter.shape) != tuple(value.shape) or parameter.dtype != value.dtype:
        raise ValueError(
            f"parameter {parameter.name!r} is {tuple(parameter.shape)} {parameter.dtype}, "
            f"but the new value is {tuple(value.shape)} {value.dtype}"
        )
    P.assign(parameter, value)
