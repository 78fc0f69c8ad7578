"""The forward pass on one page: short, of NumPy alone, and the bits of the files that it introduces."""

import ast
from pathlib import Path

import numpy as np
import pytest

from gpt2.model.hf_folder import find_folder, read_config, read_parameters
from reference import forward
from reference.config import nest
from reference.forward import gpt2
from reference.model import language_model

PAGE = Path(forward.__file__).read_text(encoding="utf-8")
FOLDER = find_folder("tiny")
CONFIG = read_config(FOLDER)
PARAMETERS = read_parameters(FOLDER, CONFIG)


def test_it_fits_on_one_page() -> None:
    assert len(PAGE.splitlines()) <= 60


def test_it_imports_numpy_and_nothing_else() -> None:
    imports = [ast.unparse(node) for node in ast.walk(ast.parse(PAGE)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports == ["import numpy as np"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 2, 7, 33, CONFIG.n_positions])
def test_its_scores_are_the_bits_of_the_language_model(dtype: str, length: int) -> None:
    params = nest({name: x.astype(dtype) for name, x in PARAMETERS.items()})
    ids = np.random.default_rng(length).integers(0, CONFIG.vocab_size, length)
    scores = gpt2(ids, params, CONFIG.n_head, CONFIG.layer_norm_epsilon)
    expected, _ = language_model(params, ids[None], CONFIG)
    assert scores.dtype == dtype
    assert scores.shape == (length, CONFIG.vocab_size)
    assert scores.tobytes() == expected[0].tobytes()
