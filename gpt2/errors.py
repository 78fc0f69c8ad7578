"""What went wrong, in words for the person who has to mend it."""


class GPT2Error(ValueError):
    """Bad input or a missing piece. The message is one line: what was expected, what came, what to do."""
