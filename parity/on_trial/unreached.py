"""Why the rules of the judge do not execute some lines: the reasons that `gpt2 reach` prints."""

_IMPORT = "it runs when its file is imported"
_COMPILED = "a compiled graph cannot be traced"
_FAILED = "a graph that fails to run: tests/ms_backend/test_traps.py"
_DATA = "ids have no rounding: tests/ms_backend/test_data.py asks both engines for the same arrays, bit for bit"
_FIGURE = "a figure for people, no part of the protocol: tests/gpt2/backends/test_decoder.py"
_THREAD = "stages of another thread: tests/test_mirror.py"
_WORDS = "the words of an error: tests/reference/test_optim.py"
_SCALE = "a step scales the loss itself: tests/reference/test_optim.py"
_TUPLE = "gradients in a tuple, as value_and_grad returns them: tests/ms_backend/test_optim.py"
_CAME = 'came = f"has shape {state[name].shape}" if name in state else "is missing"'
_OBSERVER = "_observer = lambda name, x: observer(name, x) if threading.get_ident() == owner else x  # noqa: E731"

# By file and the name of a function, or the text of a line or of the line that leads to it; "": the whole file.
REASONS: dict[tuple[str, str], str] = {
    ("gpt2/backends/numpy_backend.py", "NumPyDecoder.cache_bytes"): _FIGURE,
    ("gpt2/generation/beams.py", "for length in range(1, config.max_new_tokens + 1):"): (
        "the last token ends every beam, and so the search"
    ),
    ("gpt2/generation/loop.py", "for step in range(config.max_new_tokens):"): "the last token ends every text",
    ("gpt2/generation/reader.py", "Reader._origin"): "the words of an error: tests/gpt2/generation/test_not_finite.py",
    ("reference/data.py", ""): _DATA,
    ("reference/elementary.py", "if np.iscomplexobj(x):"): (
        "only the complex step has complex numbers: tests/reference/test_complex_step.py"
    ),
    ("reference/forward.py", ""): "it stands alone, for readers: tests/reference/test_forward.py",
    ("reference/optim.py", "_in_float32"): _IMPORT,
    ("reference/optim.py", "if not self.in_place:"): "NumPy does not train in place: tests/reference/test_optim.py",
    ("reference/optim.py", "StaticLossScaler.scale"): _SCALE,
    ("reference/optim.py", _CAME): _WORDS,
    ("reference/precision.py", "rounded_once"): _IMPORT,
    ("reference/precision.py", "gradients_rounded_once"): _IMPORT,
    ("reference/stages.py", _OBSERVER): _THREAD,
    ("ms_backend/autodiff.py", "_CompiledGradients.construct"): _COMPILED,
    ("ms_backend/data.py", ""): _DATA,
    ("ms_backend/engine/decoder.py", "MindSporeDecoder.slots"): _FIGURE,
    ("ms_backend/engine/decoder.py", "MindSporeDecoder.cache_bytes"): _FIGURE,
    ("ms_backend/engine/device.py", "_use_device"): "a process chooses its device once: tests/ms_backend/test_traps.py",
    ("ms_backend/engine/device.py", "for entry in measured:"): "the versions that are tested have been measured",
    ("ms_backend/engine/device.py", 'if entry["device"] == self.device and entry["mindspore"] == ms.__version__:'): (
        "the versions that are tested have been measured"
    ),
    ("ms_backend/engine/device.py", "if x.dtype == ms.bfloat16:"): "no device here computes in bfloat16",
    ("ms_backend/engine/runner.py", "_Graph.construct"): _COMPILED,
    ("ms_backend/engine/runner.py", "except Exception:"): _FAILED,
    ("ms_backend/engine/runner.py", "Kept.__init__"): _IMPORT,
    ("ms_backend/engine/trainer.py", "_CompiledStep.construct"): _COMPILED,
    ("ms_backend/engine/trainer.py", "_CompiledLoss.construct"): _COMPILED,
    ("ms_backend/engine/trainer.py", "except Exception:"): _FAILED,
    ("ms_backend/fast.py", "_Gelu.bprop"): _COMPILED,
    ("ms_backend/optim.py", "_scaled"): _TUPLE,
    ("ms_backend/optim.py", "AdamW.construct"): _TUPLE,
    ("ms_backend/optim.py", "_writing.write"): _COMPILED,
    ("ms_backend/optim.py", "StaticLossScaler.scale"): _SCALE,
    ("ms_backend/optim.py", _CAME): _WORDS,
    ("ms_backend/stages.py", _OBSERVER): _THREAD,
}


def reason(file: str, function: str, text: str) -> str:
    """Why no rule executes a line of that function; "" if nobody has said."""
    return next((why for place in (function, text, "") if (why := REASONS.get((file, place)))), "")
