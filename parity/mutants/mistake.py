"""What explains a failure, as plain facts: the names of known mistakes that give the very results that were found."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Change:
    """The lines of the reference that one would have to change to get there: in `function`, `old` becomes `new`."""

    function: str
    old: str
    new: str


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A known mistake that gives the results of a failure.

    cases: on how many of the cases that were compared its results are those found: on all of them. differs: on how many
    of these it differs from the reference. equally: the names of other mistakes of which the same is true. stage: the
    stage that it explains, if not the whole result; number: what was estimated from the results ("the scores are
    divided by 64.0"). switch: if it is no mistake but a way to compute, what brings exact float32 back.
    """

    name: str
    story: str
    cases: int
    differs: int
    changes: tuple[Change, ...]
    equally: tuple[str, ...] = ()
    stage: str = ""
    number: str = ""
    switch: str = ""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """The mistakes that explain a failure, one for each stage that is wrong by itself; () if none is known.

    tried: how many mistakes were put to the inputs; not_tried: how many more could have been, had there been time.
    """

    mistakes: tuple[Mistake, ...]
    tried: int
    not_tried: int = 0
