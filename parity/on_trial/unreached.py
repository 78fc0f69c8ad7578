"""Why the rules of the judge do not execute some lines: the reasons that `gpt2 reach` prints."""

_IMPORT = "it runs when its file is imported"
_DATA = "it computes nothing that could be rounded: tests/ms_backend/test_data.py asks for the same arrays, bit for bit"

# By file and the name of a function, or the text of a line or of the line that leads to it; "": the whole file.
REASONS: dict[tuple[str, str], str] = {
    ("gpt2/backends/numpy_backend.py", "NumPyDecoder.cache_bytes"): (
        "a figure for people, no part of the protocol: tests/gpt2/backends/test_decoder.py"
    ),
    ("gpt2/generation/beams.py", "for length in range(1, config.max_new_tokens + 1):"): (
        "the last token ends every beam, and so the search"
    ),
    ("gpt2/generation/loop.py", "for step in range(config.max_new_tokens):"): "the last token ends every text",
    ("reference/data.py", ""): _DATA,
    ("reference/elementary.py", "if np.iscomplexobj(x):"): (
        "only the complex step has complex numbers: tests/reference/test_complex_step.py"
    ),
    ("reference/forward.py", ""): "it stands alone, for readers: tests/reference/test_forward.py",
    ("reference/optim.py", "_in_float32"): _IMPORT,
    ("reference/optim.py", "if not self.in_place:"): "NumPy does not train in place: tests/reference/test_optim.py",
    ("reference/optim.py", "StaticLossScaler.scale"): "a step scales the loss: tests/reference/test_optim.py",
    ("reference/optim.py", 'came = f"has shape {state[name].shape}" if name in state else "is missing"'): (
        "the words of an error: tests/reference/test_optim.py"
    ),
    ("reference/precision.py", "rounded_once"): _IMPORT,
    ("reference/precision.py", "gradients_rounded_once"): _IMPORT,
}


def reason(file: str, function: str, text: str) -> str:
    """Why no rule executes a line of that function; "" if nobody has said."""
    return next((why for place in (function, text, "") if (why := REASONS.get((file, place)))), "")
