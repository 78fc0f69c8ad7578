"""The reference needs NumPy and nothing else, whether NumPy 1.26 or 2."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from parity.verdict.stages import stage_references
from tests.reference.small import CONFIG, IDS, parameters

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-numpy2" / "bin" / "python"
FIRST_PARTY = ("reference", "tests")


@pytest.mark.skipif(not PYTHON.is_file(), reason="no environment with NumPy 2 alone: `make test` sets it up")
def test_numpy_alone_is_enough_and_numpy_2_keeps_every_dtype(tmp_path: Path) -> None:
    for name in FIRST_PARTY:
        (tmp_path / name).symlink_to(ROOT / name)
    command = [PYTHON, "-m", "tests.reference.bare", tmp_path / "results.npz"]
    ran = subprocess.run(command, cwd=tmp_path, env={"PATH": os.defpath}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    version, *foreign = ran.stdout.split()
    assert version.startswith("2.")
    assert not foreign
    with np.load(tmp_path / "results.npz") as results:
        for name, logits in results.items():
            dtype = np.dtype(name.split()[0])
            assert logits.dtype == dtype
            verdict = stage_references(CONFIG, parameters(), IDS, None, None, dtype, {})["logits"].judge(logits)
            assert verdict.agrees, f"{name}: {verdict.explain()}"
