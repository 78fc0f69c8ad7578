"""What a backend supports of GPT-2, as it declares it: cases beyond that are not drawn, and count as not offered."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gpt2.errors import GPT2Error
from parity.cases.contracts import Contract
from reference.config import ACTIVATION_ALIASES, ACTIVATIONS, GPT2Config

# Arguments that a call may leave out, and how the judge names them.
ARGUMENTS = {"past": "past", "attention_mask": "attention_mask", "position_ids": "position_ids", "keep": "dropout"}
_SWITCHES = (
    "activation_function",
    "layer_norm_epsilon",
    "n_inner",
    "pad_token_id",
    "reorder_and_upcast_attn",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "tie_word_embeddings",
)
# The options of GPT-2, with the value that each has where nothing else is supported.
OPTIONS: dict[str, Any] = {name: getattr(GPT2Config(), name) for name in _SWITCHES}
# Arguments of single functions that a port may have fixed.
FIXED: dict[str, Any] = {
    "eps": 1e-5,
    "layer": 0,
    "upcast": False,
    "last_only": False,
    "recompute": False,
    "min_p": 0.0,
    "typical_p": 1.0,
    "ignore_index": -100,
}
# Numbers so large that a hidden score of -10000 can be higher than a visible one.
LARGE_VALUES = "large_values"
# Scores in the hundreds: exp of them overflows, and -10000 still hides a key beside them.
MODERATE = "moderate scores"
# A loss over labels of which none is scored: 0 here, NaN in PyTorch. Either is a convention.
NOTHING_SCORED = "nothing_scored"
# Where a 16-bit function rounds: its result "once", or after "every step".
ROUNDS = "rounds"
ROUNDINGS = ("once", "every step")
SIDES = ("left", "right", "both", "whole")
_USUAL = dict.fromkeys([*ARGUMENTS.values(), *OPTIONS, *FIXED, LARGE_VALUES], False)
# Ports that are often met, by name.
PRESETS: dict[str, dict[str, Any]] = {
    "course": _USUAL,
    "inference": {"dropout": False},
    "training": {"past": False, "position_ids": False},
}
# What is taken for granted of code that nobody knows: in 16 bits it may be a formula that is written out.
UNKNOWN: dict[str, Any] = {ROUNDS: "every step"}


@dataclasses.dataclass(frozen=True)
class Supports:
    """What may be drawn: for the name of an argument or option, the values that it may have. All, if it is not named.

    refused: the optional arguments that are never given. sides: where pads may be. large: whether numbers may be so
    large that scores are beyond 10000. unscored: whether there may be no label that is scored. every_step: whether it
    rounds after every step in 16 bits, not once.
    """

    allowed: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    refused: frozenset[str] = frozenset()
    sides: tuple[str, ...] = SIDES
    large: bool = True
    unscored: bool = True
    every_step: bool = False

    @classmethod
    def of(cls, backend: Any) -> "Supports":
        """What a backend declares in its attribute `supports`; everything without one."""
        declared = getattr(backend, "supports", None)
        if declared is None:
            return EVERYTHING
        return declared if isinstance(declared, cls) else cls.read(declared)

    @classmethod
    def read(cls, declared: Mapping[str, Any]) -> "Supports":
        """Read a declaration: True for all values of a name, False for GPT-2's usual one alone, or a list of values.

        Names are "past", "attention_mask", "position_ids", "dropout", fields of config.json that change the result, and
        arguments of functions that may be fixed ("eps"). attention_mask may be a side ("left"), or a list of sides;
        "large_values": False is for a mask that hides a score by -10000, "nothing_scored": False for a loss that is
        NaN, not 0, where no label is scored; "rounds": "every step" for a 16-bit function that does not compute in
        float32 and round "once".
        Raises GPT2Error for an unknown name or value.
        """
        allowed: dict[str, tuple[Any, ...]] = {}
        refused: set[str] = set()
        sides: tuple[str, ...] = SIDES
        for name, value in declared.items():
            if name in (LARGE_VALUES, NOTHING_SCORED):
                if not isinstance(value, bool):
                    raise GPT2Error(f"supports[{name!r}] must be True or False, but is {value!r}")
                continue
            if name == ROUNDS:
                if value not in ROUNDINGS:
                    raise GPT2Error(f"supports[{name!r}] must be one of {', '.join(ROUNDINGS)}, but is {value!r}")
                continue
            values = [value] if isinstance(value, str) else value
            if name in ARGUMENTS.values():
                argument = next(key for key, shown in ARGUMENTS.items() if shown == name)
                if value is False:
                    refused.add(argument)
                elif name != "attention_mask" and value is not True:
                    raise GPT2Error(f"supports[{name!r}] must be True or False, but is {value!r}")
                elif value is not True:
                    sides = _sides(name, value, values)
            elif name in OPTIONS or name in FIXED:
                if value is not True:
                    allowed[name] = _values(name, (OPTIONS | FIXED)[name], values)
            else:
                known = [*ARGUMENTS.values(), *OPTIONS, *FIXED, LARGE_VALUES, NOTHING_SCORED, ROUNDS]
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
                raise GPT2Error(f"supports names {name!r}, which the judge does not draw: {hint}")
        large, unscored = (bool(declared.get(name, True)) for name in (LARGE_VALUES, NOTHING_SCORED))
        each_step = declared.get(ROUNDS) == ROUNDINGS[1]
        return cls(tuple(sorted(allowed.items())), frozenset(refused), sides, large, unscored, each_step)

    def also(self, other: "Supports") -> "Supports":
        """What both support."""
        mine, others = dict(self.allowed), dict(other.allowed)
        both = {
            name: tuple(value for value in mine.get(name, others.get(name, ())) if value in others.get(name, (value,)))
            for name in mine | others
        }
        return Supports(
            tuple(sorted(both.items())),
            self.refused | other.refused,
            tuple(side for side in self.sides if side in other.sides),
            self.large and other.large,
            self.unscored and other.unscored,
            self.every_step or other.every_step,
        )

    def values(self, name: str, drawn: Sequence[Any]) -> Sequence[Any]:
        """Of the values that are drawn for a name, those that are supported; if none is, the supported ones."""
        allowed = dict(self.allowed).get(name)
        if allowed is None:
            return drawn
        return [value for value in drawn if value in allowed] or allowed

    def regimes(self, drawn: Iterable[str]) -> list[str]:
        """The regimes of those whose numbers are supported; MODERATE for large scores that are not."""
        if self.large:
            return list(drawn)
        smaller = (MODERATE if regime == "large scores" else regime for regime in drawn)
        return [regime for regime in smaller if not regime.startswith("large")]

    def paddings(self, drawn: Iterable[str]) -> list[str]:
        """The paddings of those, which may be "none" or no mask at all, that are supported."""
        return [padding for padding in drawn if padding not in SIDES or padding in self.sides]

    def words(self, contracts: Iterable[Contract]) -> list[str]:
        """What no case of these functions has, one phrase each."""
        names = {name for contract in contracts for name in (*contract.scalars, *contract.optional)}
        names |= {item.name for contract in contracts for item in contract.inputs}
        if "config" in names:
            names |= OPTIONS.keys()
        found = [f"no {shown}" for name, shown in ARGUMENTS.items() if name in self.refused & names]
        if set(self.sides) != set(SIDES) and "attention_mask" in names - self.refused:
            found.append(f"pads: {', '.join(self.sides) or 'none'}")
        found += ["no large values"] * (not self.large)
        found += ["no batch without a scored label"] * ("labels" in names and not self.unscored)
        for name, values in self.allowed:
            if name not in names:
                continue
            shown = "4 * n_embd" if name == "n_inner" else ", ".join(map(str, values))
            found.append(f"{name}: {shown}")
        return found

    @property
    def has_usual_mlp(self) -> bool:
        """Whether the MLP always has 4 * n_embd units."""
        return "n_inner" in dict(self.allowed)

    def config(self, config: GPT2Config) -> GPT2Config:
        """The configuration with every option that is not supported at a value that is."""
        changed: dict[str, Any] = {
            name: values[0]
            for name, values in self.allowed
            if name in OPTIONS and name != "n_inner" and getattr(config, name) not in values
        }
        if self.has_usual_mlp:
            changed["n_inner"] = 4 * config.n_embd
        return dataclasses.replace(config, **changed) if changed else config

    def refusal(self, arguments: Mapping[str, Any]) -> str:
        """What the arguments of a call have that is not supported, in a few words; "" if nothing."""
        for name in self.refused:
            if arguments.get(name) is not None:
                return ARGUMENTS[name]
        if not self.unscored and "labels" in arguments and not _is_scored(arguments):
            return "no label is scored"
        config, mask = arguments.get("config"), arguments.get("attention_mask")
        for name, values in self.allowed:
            value = getattr(config, name, None) if name in OPTIONS else arguments.get(name, values[0])
            if name == "n_inner" and config is not None and config.inner_size != 4 * config.n_embd:
                return f"n_inner {config.inner_size} with n_embd {config.n_embd}"
            if name != "n_inner" and (config is not None or name in FIXED) and value not in values:
                return f"{name} {value!r}"
        if mask is not None and set(self.sides) != set(SIDES):
            wrong = [side for side in _padded(np.asarray(mask)) if side not in self.sides]
            if wrong:
                return f"pads on the {wrong[0]}" if wrong[0] in ("left", "right") else "pads alone"
        return ""


EVERYTHING = Supports()


def _sides(name: str, value: Any, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not set(values) <= set(SIDES):
        raise GPT2Error(f"supports[{name!r}] must be True, False or of {', '.join(SIDES)}, but is {value!r}")
    return tuple(values)


def _values(name: str, usual: Any, values: Any) -> tuple[Any, ...]:
    if values is False:
        return (usual,)
    if not isinstance(values, list | tuple) or not values:
        raise GPT2Error(f"supports[{name!r}] must be True, False or a list of values, but is {values!r}")
    if name == "activation_function":
        values = [ACTIVATION_ALIASES.get(value, value) for value in values]
        unknown = [value for value in values if value not in ACTIVATIONS]
        if unknown:
            raise GPT2Error(f"supports[{name!r}] holds {unknown[0]!r}: choose from {', '.join(ACTIVATIONS)}")
    return tuple(values)


def _is_scored(arguments: Mapping[str, Any]) -> bool:
    """Whether a label counts: none of the first token in a language model, none of a pad."""
    labels, mask = np.asarray(arguments["labels"]), arguments.get("attention_mask")
    scored = labels != arguments.get("ignore_index", -100)
    if "ids" in arguments and labels.ndim == 2:  # a language model's: each label is predicted at the token before it
        scored = scored[:, 1:] & (True if mask is None else np.asarray(mask)[:, :-1] != 0)
    return bool(scored.any())


def _padded(mask: Any) -> list[str]:
    """The sides on which the rows of a mask (B, S) have pads; "whole" for a row of pads alone, "both" inside of one."""
    found = []
    for row in mask != 0:
        if not row.any():
            found.append("whole")
            continue
        first, last = int(row.argmax()), len(row) - int(row[::-1].argmax())
        found += ["left"] * (first > 0) + ["right"] * (last < len(row))
        if (first > 0 and last < len(row)) or not row[first:last].all():
            found.append("both")
    return found
