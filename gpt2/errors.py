"""The error of this package, with a message for the user who has to fix the problem; other people's errors in words."""

import traceback
from pathlib import Path


class GPT2Error(ValueError):
    """Bad input, or something missing. The message is one line: what was expected, what was given, what to do."""


def described(error: BaseException, file: Path | None = None) -> str:
    """An exception in one line, with its place: the last one in that file, if it came by there."""
    first = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if file is not None and Path(frame.filename) == file] or frames
    place = f" ({Path(inside[-1].filename).name}:{inside[-1].lineno})" if inside else ""
    return f"{type(error).__name__}: {first}{place}"
