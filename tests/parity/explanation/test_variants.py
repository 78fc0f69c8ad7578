"""The variants are mistakes indeed: the judge finds each, and agrees with the function beside it that has none.

It is tried with every fourth of them, and with all by --hypothesis-profile=deep.
"""

import importlib.util
import json
import subprocess
from typing import Any

import pytest
from hypothesis import settings

from benchmarks.peers.client import peer_python
from parity.mutants.all import MUTANTS
from tests.gpt2.small import ROOT
from tests.parity.explanation import found
from tests.parity.explanation.variants import FAMILIES, OF_MINDSPORE, OF_NUMPY, OF_TORCH, UNLISTED, VARIANTS, Variant
from tests.peers.conftest import absent

STEP = 1 if settings().max_examples > 100 else 4
PLANTED = {mutant.name for mutant in MUTANTS}


def expect_it_is_found(said: dict[str, Any]) -> None:
    assert not said["wrong"]["agrees"], said["wrong"]["said"]
    assert not said["wrong"]["error"], "it raises, which says nothing about its numbers"
    assert said["right"]["agrees"], said["right"]["said"]
    assert said["right"]["cases"], "nothing was judged"


def test_every_answer_is_one_that_can_be_given() -> None:
    for variant in VARIANTS:
        assert variant.family in {*FAMILIES, *PLANTED, UNLISTED}, variant
        assert variant.nearest in {*PLANTED, ""}, variant


def test_every_family_has_a_variant() -> None:
    assert {variant.family for variant in VARIANTS} >= {*FAMILIES, UNLISTED}


def test_no_place_stands_twice() -> None:
    assert len({variant.place for variant in VARIANTS}) == len(VARIANTS)


@pytest.mark.parametrize("variant", OF_NUMPY[::STEP], ids=lambda variant: variant.name)
def test_a_variant_in_numpy_is_found(variant: Variant) -> None:
    expect_it_is_found(found.said(variant))


@pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="MindSpore is not installed")
@pytest.mark.parametrize("variant", OF_MINDSPORE[::STEP], ids=lambda variant: variant.name)
def test_a_variant_in_mindspore_is_found(variant: Variant) -> None:
    expect_it_is_found(found.said(variant))


@pytest.fixture(scope="module")
def torch_says() -> dict[str, dict[str, Any]]:
    """What is said of each variant on PyTorch."""
    if not peer_python().is_file():
        absent(f"no {peer_python()}: run `make peers` to judge ports on PyTorch")
    command = [str(peer_python()), "-m", "tests.parity.explanation.found", "torch", str(STEP)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return {said["name"]: said for said in map(json.loads, ran.stdout.splitlines())}


@pytest.mark.peer
@pytest.mark.parametrize("variant", OF_TORCH[::STEP], ids=lambda variant: variant.name)
def test_a_variant_in_torch_is_found(variant: Variant, torch_says: dict[str, dict[str, Any]]) -> None:
    expect_it_is_found(torch_says[variant.name])
