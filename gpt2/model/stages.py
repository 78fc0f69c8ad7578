"""The stages of a forward pass by name, and what is said of a name that is not among them."""

import difflib

from gpt2.backends import Array
from gpt2.errors import GPT2Error


class UnknownStageError(GPT2Error, KeyError):
    """No stage has this name."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotation marks


class Stages(dict[str, Array]):
    """Every stage of a forward pass, in order."""

    def __missing__(self, name: object) -> Array:
        """Raise UnknownStageError with the nearest name."""
        near = difflib.get_close_matches(str(name), self, n=1)
        meant = f"is {near[0]!r} meant? " if near else ""
        raise UnknownStageError(f"there is no stage {name!r}: {meant}list(model.stages(ids)) names all {len(self)}")
