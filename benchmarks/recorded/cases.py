"""Draw random small GPT-2s for both frameworks, and write each to its folder (see benchmarks/recorded/plain.py)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from benchmarks.recorded.plain import FILE, CaseOfRun
from parity.cases.cases import NO_MASK, Case, build
from parity.cases.contracts import contracts
from reference.config import GPT2Config, flatten

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def write_case(folder: Path, case: CaseOfRun, config: GPT2Config, batch: int, tokens: int) -> None:
    """Draw the parameters and inputs of a case from its seed, and write its folder."""
    absent = {"position_ids", "keep"} | ({"attention_mask"} if case.padding == NO_MASK else set())
    sizes = {"B": batch, "T": tokens, "P": 0, "S": tokens, "H": config.n_head, "D": config.head_size, "K": 2, "N": 1}
    sizes |= {"C": config.n_embd, "I": config.n_inner or 4 * config.n_embd}
    sizes |= {"V": config.vocab_size, "L": config.n_positions}
    drawn = Case(
        contract=contracts()["model.language_model_loss"],
        sizes=sizes,
        scalars={"config": config, "ignore_index": -100},
        absent=frozenset(absent),
        padding="none" if case.padding == NO_MASK else case.padding,
        regime=case.regime,
        seed=case.seed,
    )
    arguments, _ = build(drawn, np.dtype(np.float32))
    rounded = {
        name: x.astype(DTYPES[case.dtype]).astype(np.float32) for name, x in flatten(arguments["params"]).items()
    }
    mask = arguments.get("attention_mask")
    is_scored = (arguments["labels"] != -100) & (True if mask is None else mask != 0)
    labels = np.where(is_scored, arguments["ids"], -100)
    scored = labels[:, 1:] if tokens > 1 else labels
    if (scored == -100).all():  # PyTorch's loss of nothing is NaN
        scored[0, -1] = arguments["ids"][0, -1]
    (folder / "model").mkdir(parents=True, exist_ok=True)
    save_file(rounded, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    (folder / "model" / "config.json").write_text(json.dumps(config.to_dict(), indent=1), encoding="utf-8")
    arrays: dict[str, Any] = {"ids": arguments["ids"], "labels": labels}
    np.savez(folder / "inputs.npz", **arrays, **({} if mask is None else {"attention_mask": mask}))
    (folder / FILE).write_text(json.dumps(dataclasses.asdict(case)), encoding="utf-8")
