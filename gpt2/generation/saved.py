"""What a model's folder says of text generation: generation_config.json, as Hugging Face transformers writes it."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gpt2.arguments import is_integer, require
from gpt2.errors import GPT2Error, counted
from gpt2.generation.config import MOST_BEAMS, GenerationConfig
from gpt2.json_input import read_json

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
FILE, OLDER_FILE = "generation_config.json", "config.json"  # transformers before 4.26 kept these fields in config.json
# Our options, by transformers' names.
NAMES = {name: name for name in ("max_new_tokens", "min_new_tokens", "temperature", "top_k", "top_p", "min_p")}
NAMES |= {name: name for name in ("repetition_penalty", "no_repeat_ngram_size", "num_beams", "length_penalty")}
NAMES |= {name: name for name in ("early_stopping", "num_return_sequences", "stop_strings")}
NAMES |= {"typical_p": "typical_p", "bad_words_ids": "bad_words"}
SAMPLING = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}  # transformers' own defaults, where the file says do_sample
FOR_SAMPLING, FOR_BEAMS = ("top_k", "top_p", "min_p", "typical_p"), ("length_penalty", "early_stopping")
# Fields that would change the text and that we do not offer, with the values that change nothing.
NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "penalty_alpha": (0,),
    "guidance_scale": (1,),
    "diversity_penalty": (0,),
    "num_beam_groups": (1,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "max_time": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({}, []),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "constraints": ([],),
    "dola_layers": (),
    "watermarking_config": (),
}
Options = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SavedOptions:
    """Options of generation that a folder holds, by transformers' names; values null are absent."""

    source: str = ""
    """The name of the file; empty if there is none."""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def end_ids(self, otherwise: tuple[int, ...]) -> tuple[int, ...]:
        """The ids that end a text: the file's; if there is no generation_config.json, those of the model's config.

        As in transformers, a generation_config.json without eos_token_id means that no id ends the text.
        """
        if self.source != FILE:
            return otherwise
        ends = self.fields.get("eos_token_id", ())
        return tuple(ends) if isinstance(ends, list | tuple) else (ends,)

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of the file that have an effect beside those that the user has given, which go before them.

        Lengths that count the prompt are not among them. Raises GPT2Error for a value of a wrong type or out of range,
        and for beams that sample, which we do not offer.
        """
        found = {ours: self.fields[name] for name, ours in NAMES.items() if name in self.fields}
        for name, value in found.items():
            self._require_usable(name, value)
        samples = self.fields.get("do_sample", False)
        require(f"{self.source}: do_sample", samples, isinstance(samples, bool), "true or false")
        if samples:
            found = SAMPLING | found
        else:
            found.pop("temperature", None)
        found = {name: value for name, value in found.items() if name not in given}
        if found.get("temperature") and given.get("num_beams", 1) > 1:
            del found["temperature"]
        if found.get("num_beams", 1) > 1 and given.get("temperature"):
            del found["num_beams"]
        if found.get("temperature") and found.get("num_beams", 1) > 1:  # what is given together is refused later
            raise GPT2Error(
                f"{self.source} asks for {found['num_beams']} beams that sample, and beam search does not sample "
                "here: give --temperature 0 or --num-beams 1"
            )
        chosen = found | dict(given)
        needless: tuple[str, ...] = () if chosen.get("temperature") else FOR_SAMPLING
        needless += () if chosen.get("num_beams", 1) > 1 else FOR_BEAMS
        usual = GenerationConfig()
        return {name: x for name, x in found.items() if name not in needless and x != getattr(usual, name)}

    def _require_usable(self, name: str, value: Any) -> None:
        beside = {"min_new_tokens": {"max_new_tokens": 2**62}, "num_return_sequences": {"num_beams": MOST_BEAMS}}
        try:
            GenerationConfig(**beside.get(name, {}) | {name: value})
        except GPT2Error as error:
            raise GPT2Error(f"{self.source}: {error}") from error

    def lengths(self, given: Collection[str]) -> Options:
        """max_length and min_length, which count the prompt too, unless the number of new tokens is given or saved.

        Raises GPT2Error if one is no length.
        """
        known, found = {*given, *self.fields}, {}
        for name, newer in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            value = self.fields.get(name, 0)
            require(f"{self.source}: {name}", value, is_integer(value, 2**63), "an integer of at least 0")
            if value and newer not in known:
                found[name] = value
        return found

    def after(self, prompt: int, lengths: Mapping[str, int]) -> Options:
        """The options max_new_tokens and min_new_tokens that follow from `lengths` after a prompt of so many tokens.

        Raises GPT2Error if the prompt is as long as max_length.
        """
        found: Options = {}
        if "max_length" in lengths:
            found["max_new_tokens"] = lengths["max_length"] - prompt
            if found["max_new_tokens"] < 1:
                raise GPT2Error(
                    f"the prompt has {counted(prompt, 'token')}, and {self.source} says max_length = "
                    f"{lengths['max_length']}, which counts the prompt too: give --max-new-tokens"
                )
        if "min_length" in lengths:
            found["min_new_tokens"] = max(lengths["min_length"] - prompt, 0)
        return found

    def note(self, taken: Options, ends: tuple[int, ...] | None) -> str:
        """What is taken from the file, in words, and what is not offered; empty if there is nothing to say.

        ends: the ids that end the text, if they are not those of config.json.
        """
        theirs = {ours: name for name, ours in NAMES.items()}
        said = [f"{theirs.get(name, name)} = {value}" for name, value in taken.items()]
        if ends is not None:
            said.append(f"eos_token_id = {list(ends)}" if ends else "no eos_token_id, so that no token ends the text")
        other = [n for n, off in NOT_OFFERED.items() if n in self.fields and self.fields[n] not in off]
        parts = [f"taken from {self.source}: {', '.join(said)}"] if said else []
        parts += [f"not offered here, and left out of {self.source}: {', '.join(other)}"] if other else []
        return "; ".join(parts)


def read_saved(folder: Path) -> SavedOptions:
    """The options in a folder's generation_config.json; without that file, those in config.json, as older ones have.

    Raises GPT2Error if the file is not JSON, or if an id in it is no integer.
    """
    for source in (FILE, OLDER_FILE):
        path = folder / source
        if path.is_file():
            known = {*NAMES, *NOT_OFFERED, "do_sample", "max_length", "min_length", *IDS}
            fields = read_json(path, dict[str, Any])
            saved = {name: fields[name] for name in fields if name in known and fields[name] is not None}
            _require_ids(path, saved)
            return SavedOptions(source, saved)
    return SavedOptions()


def _require_ids(path: Path, fields: Mapping[str, Any]) -> None:
    ends = fields.get("eos_token_id", 0)
    several = isinstance(ends, list) and bool(ends) and all(is_integer(one, 2**31, -(2**31)) for one in ends)
    whole = several or is_integer(ends, 2**31, -(2**31))
    require(f"{path}: eos_token_id", ends, whole, "null, an integer or a list of integers")
    for name in ("bos_token_id", "pad_token_id"):
        one = fields.get(name, 0)
        require(f"{path}: {name}", one, is_integer(one, 2**31, -(2**31)), "null or an integer")
