"""The options of text generation as keywords of a function: its signature, its help, and the error for a wrong one."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gpt2.generation.config import GenerationConfig

Function = TypeVar("Function", bound=Callable[..., Any])

NAMES = tuple(field.name for field in dataclasses.fields(GenerationConfig))
# Keywords of transformers' generate that have another name or no use here.
ELSEWHERE = {
    "do_sample": "a temperature above 0 samples",
    "max_length": "max_new_tokens counts the new tokens alone",
    "min_length": "min_new_tokens counts the new tokens alone",
    "eos_token_id": "stop_ids end a text",
    "bad_words_ids": "it is called bad_words",
}


def config_from(max_new_tokens: int, options: Mapping[str, Any]) -> GenerationConfig:
    """The options that a caller has given. Raises TypeError, naming the nearest, for an unknown one.

    Raises GPT2Error for a bad value.
    """
    for name in options:
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            meant = f"is {near[0]} meant?" if near else f"the options are {', '.join(NAMES)}"
            raise TypeError(f"generation has no option {name!r}: {ELSEWHERE.get(name, meant)}")
    return GenerationConfig(max_new_tokens, **options)


def takes_options(function: Function) -> Function:
    """Show the fields of GenerationConfig in the signature and the help of a function that takes them as **options.

    The signature has no types, so that a person can read it.
    """
    own = inspect.signature(function)
    kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
        for field in dataclasses.fields(GenerationConfig)
        if field.name not in own.parameters
    ]
    shown = [one.replace(annotation=inspect.Parameter.empty) for one in kept + more]
    function.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    listed = inspect.getdoc(GenerationConfig) or ""
    function.__doc__ = f"{inspect.getdoc(function)}\n\nOptions:\n\n{listed[listed.find('* ') :]}"
    return function
