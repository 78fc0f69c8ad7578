"""The error of this package, with a message for the user who has to fix the problem; other people's errors in words."""

import traceback
from pathlib import Path

OURS = {Path(__file__).parents[1] / room for room in ("gpt2", "parity")}


def counted(count: int, noun: str) -> str:
    """The count with its noun, for messages: "1 row", "2 rows"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


class GPT2Error(ValueError):
    """Bad input, or something missing. The message is one line: what was expected, what was given, what to do."""


class EndOfContextWarning(UserWarning):
    """A text stopped because the model's context is full, before its end and before the tokens that were asked for."""


class NotFiniteError(GPT2Error):
    """Weights hold NaN or infinity. They can be loaded all the same; whoever offers that says how."""


def described(error: BaseException, file: Path | None = None) -> str:
    """An exception in one line, with its place: the last one in that file, if it came by there.

    What this project raises about such a file has no place of its own.
    """
    first = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if file is not None and Path(frame.filename) == file]
    for last in (inside or frames)[-1:]:
        if inside or file is None or not OURS.intersection(Path(last.filename).parents):
            return f"{type(error).__name__}: {first} ({Path(last.filename).name}:{last.lineno})"
    return f"{type(error).__name__}: {first}"
