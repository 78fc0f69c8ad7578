"""Why the judge's rules do not execute some lines: the reasons that `gpt2 reach` prints."""

# By file, and function ("Class.method") or text of a line or of the line that leads there.
REASONS: dict[tuple[str, str], str] = {}


def reason(file: str, function: str, text: str) -> str:
    """Why no rule executes a line of that function; "" if nobody has said."""
    return REASONS.get((file, function)) or REASONS.get((file, text), "")
