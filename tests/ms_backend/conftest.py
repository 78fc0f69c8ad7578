"""Everything here needs MindSpore."""

import pytest

pytest.importorskip("mindspore", reason="MindSpore is not installed: pip install 'gpt2-parity[mindspore]'")
