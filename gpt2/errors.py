"""The error of this package, with a message for the user who has to fix the problem."""


class GPT2Error(ValueError):
    """Bad input, or something missing. The message is one line: what was expected, what was given, what to do."""
