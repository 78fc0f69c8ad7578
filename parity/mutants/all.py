"""The list of all planted bugs, and the look-up by name."""

import difflib

from gpt2.errors import GPT2Error
from parity.mutants.activations import ACTIVATIONS
from parity.mutants.attention import HEADS, MASKS, SCORES
from parity.mutants.base import Mutant
from parity.mutants.data import DATA
from parity.mutants.decoder import DECODERS
from parity.mutants.engine import CACHES, LOADING
from parity.mutants.equivalent import EQUIVALENT
from parity.mutants.evaluation import EVALUATION
from parity.mutants.generation import GENERATION
from parity.mutants.mindspore import OF_MINDSPORE
from parity.mutants.model import BLOCKS, HEADS_OF_THE_MODEL, WEIGHTS
from parity.mutants.ops import AFFINE_MAPS, EMBEDDINGS, LAYER_NORMS
from parity.mutants.rows import ROWS
from parity.mutants.sampling import SAMPLING
from parity.mutants.sizes import OF_SIZE
from parity.mutants.texts import TEXTS
from parity.mutants.trainer import TRAINERS
from parity.mutants.training import TRAINING

# Bugs of training, which rules of training alone may see.
OF_TRAINING = (*TRAINING, *TRAINERS)


def mutant(name: str) -> Mutant:
    """The mutant of that name.

    Raises GPT2Error with the nearest names if there is none.
    """
    known = {mutant.name: mutant for mutant in MUTANTS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:3]
        raise GPT2Error(f"no mutant is called {name!r}: did you mean {' or '.join(map(repr, near))}?")
    return known[name]


# Bugs of what feeds a model and judges its answers. Laws about these see them, and no comparison runs their code.
FEEDING: tuple[Mutant, ...] = (*DATA, *TEXTS, *ROWS, *EVALUATION)
MUTANTS: tuple[Mutant, ...] = (
    *ACTIVATIONS,
    *LAYER_NORMS,
    *AFFINE_MAPS,
    *EMBEDDINGS,
    *HEADS,
    *SCORES,
    *MASKS,
    *WEIGHTS,
    *BLOCKS,
    *HEADS_OF_THE_MODEL,
    *CACHES,
    *LOADING,
    *SAMPLING,
    *GENERATION,
    *OF_TRAINING,
    *OF_SIZE,
    *DECODERS,
    *OF_MINDSPORE,
    *FEEDING,
    *EQUIVALENT,
)
