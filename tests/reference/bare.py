"""Run by test_bare_environment.py in an environment that holds NumPy alone: a forward pass in every dtype it can do."""

import sys

import numpy as np

from reference.config import nest
from reference.fast import fast_parameters, language_model_fast
from reference.forward import gpt2
from reference.model import language_model
from tests.reference.small import CONFIG, IDS, parameters

results = {}
for dtype in ("float64", "float32", "float16"):
    params = nest({name: x.astype(dtype) for name, x in parameters().items()})
    results[f"{dtype} plain"] = language_model(params, IDS, CONFIG)[0]
    results[f"{dtype} fast"] = language_model_fast(fast_parameters(params), IDS, CONFIG)
    if dtype != "float16":  # which that page does not take care of
        results[f"{dtype} on one page"] = np.stack([gpt2(row, params, CONFIG.n_head) for row in IDS])
np.savez(sys.argv[1], **results)
foreign = {"ml_dtypes", "mindspore", "rich", "click", "hypothesis", "gpt2", "parity", "ms_backend"}
print(np.__version__, *sorted(foreign & set(sys.modules)))
