"""Where bugs are planted: the files of the engines, and the stages on which a family of bugs may be blamed."""

import functools

from parity.mutants.base import Edit

OPS = functools.partial(Edit, "reference/ops.py")
ATTENTION = functools.partial(Edit, "reference/attention.py")
MODEL = functools.partial(Edit, "reference/model.py")
FAST = functools.partial(Edit, "reference/fast.py")
GENERATE = functools.partial(Edit, "reference/generate.py")
ENGINE = functools.partial(Edit, "gpt2/backends.py")
MS_OPS = functools.partial(Edit, "ms_backend/ops.py")
MS_FAST = functools.partial(Edit, "ms_backend/fast.py")
MS_WEIGHTS = functools.partial(Edit, "ms_backend/weights.py")
MS_ENGINE = functools.partial(Edit, "ms_backend/backend.py")
NORMS = ("ln_1", "ln_2", "ln_f")
AFFINE = ("attn.qkv", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
PRODUCTS = (*AFFINE, "attn.scores", "attn.attn_output", "logits", "score")
