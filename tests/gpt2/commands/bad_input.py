"""What tests of bad input ask with."""

import json
import struct
from typing import Any

from tests.gpt2.small import SMALL

ONE = ("--ids", "1")
V, C, L, INNER = SMALL.vocab_size, SMALL.n_embd, SMALL.n_positions, SMALL.inner_size
FULL = " ".join(["1"] * L)


def safetensors(header: bytes | dict[str, Any], length: int | None = None, data: bytes = bytes(64)) -> bytes:
    """The bytes of a file with that header, which says it is `length` long."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data
