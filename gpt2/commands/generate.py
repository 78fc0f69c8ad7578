"""`gpt2 generate`: continue prompts."""

import itertools
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import click
import msgspec
import numpy as np

from gpt2.backends import Array
from gpt2.commands.options import (
    LOADING,
    echo_json,
    encoding_option,
    engine_facts,
    json_option,
    load_model,
    loading_options,
    read_prompt,
    require_one,
    standard_input,
    token_ids,
)
from gpt2.data.formats import read_source, whole
from gpt2.errors import EndOfContextWarning, GPT2Error
from gpt2.generation.config import GenerationConfig
from gpt2.generation.loop import Generation
from gpt2.generation.notes import end_of_context
from gpt2.json_input import parse_json
from gpt2.model.model import left_padded
from gpt2.tokenizer import encode, without_opening

SEPARATOR = "---"  # between one continuation and the next
Filled = Annotated[str, msgspec.Meta(min_length=1)]  # a line break ends texts too
EARLY_STOPPING: dict[str, bool | str] = {"no": False, "yes": True, "never": "never"}


@click.command()
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--ids", help="The prompt as token ids, like '15496 995'.")
@click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    help='A file of prompts (or ids), one per line; in FILE.jsonl each is {"prompt": ..., "stop": ...}.',
)
@encoding_option
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Prompts per batch.")
@click.option("--max-new-tokens", type=int, default=20, show_default=True)
@click.option("--min-new-tokens", type=int, default=0, show_default=True, help="No end before that many.")
@click.option("--n", "num_return_sequences", type=int, default=1, show_default=True, help="Continuations per prompt.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0: greedy.")
@click.option("--top-k", type=int, default=0, show_default=True, help="Sample from the k likeliest; 0: all.")
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Sample from the likeliest that sum to p.")
@click.option("--min-p", type=float, default=0.0, show_default=True, help="Skip ids below p times the likeliest.")
@click.option("--typical-p", type=float, default=1.0, show_default=True, help="Sample from ids of usual surprise.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same text on every backend.")
@click.option("--repetition-penalty", type=float, default=1.0, show_default=True, help="Above 1: repeat less.")
@click.option("--no-repeat-ngram-size", type=int, default=0, show_default=True, help="Repeat no such n-gram; 0: off.")
@click.option("--bad-word", multiple=True, help="Never write this; ' word' with a space is another. Repeatable.")
@click.option("--bad-ids", multiple=True, help="The same, as token ids. Repeatable.")
@click.option("--stop", "stop_strings", multiple=True, help="End after this text. Repeatable.")
@click.option("--stop-id", "stop_ids", type=int, multiple=True, help="End after this id  [the model's]. Repeatable.")
@click.option("--num-beams", type=int, default=1, show_default=True, help="Above 1: beam search.")
@click.option("--length-penalty", type=float, default=1.0, show_default=True, help="Above 0: favour long beams.")
@click.option(
    "--early-stopping",
    type=click.Choice(list(EARLY_STOPPING)),
    default="no",
    show_default=True,
    help="yes: end the search when enough beams are finished; never: only when no beam can improve.",
)
@click.option("--sliding-window", is_flag=True, help="Go on beyond the context, from the last tokens.")
@click.option("--ties", is_flag=True, help="Say where rounding noise decided the choice of a token.")
@loading_options
@json_option
def generate(
    model: str,
    prompt: str | None,
    ids: str | None,
    prompts: Path | None,
    encoding: str | None,
    batch_size: int,
    bad_word: tuple[str, ...],
    bad_ids: tuple[str, ...],
    stop_ids: tuple[int, ...],
    early_stopping: str,
    ties: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Continue PROMPT ("-": standard input) with MODEL, a folder or a name on the Hugging Face hub.

    An empty PROMPT begins a text of its own, at the model's bos_token_id.

    Options that are not given are those of the model's generation_config.json, if it has one: a note says which.
    A single continuation is printed token by token. Several are printed when complete, with a line --- between them.
    Ctrl-C stops generation: the text so far is printed, and the exit code is 130.
    """
    require_one({"PROMPT": prompt, "--ids": ids, "--prompts": prompts}, "MODEL")
    loaded = load_model(model, **{name: options.pop(name) for name in LOADING})
    starts = read_prompts(loaded, prompt, ids, prompts, encoding)
    options |= {
        "bad_words": _bad_words(loaded, bad_word, bad_ids),
        "early_stopping": EARLY_STOPPING[early_stopping],
        "stop_ids": stop_ids or None,
    }
    lengths = _complete(loaded, options)
    if ties and options["sliding_window"]:
        raise GPT2Error("ties are found in texts that fit the context: leave out --sliding-window or --ties")
    copies = options["num_return_sequences"]
    stream, on_token = None, None
    if len(starts) == copies == options["num_beams"] == 1 and not as_json:
        stream = on_token = Stream(loaded, starts[0].ids)
    facts: list[dict[str, Any]] = []
    stops = options["stop_strings"]
    for own_stops, batch in _batches(starts, batch_size):
        padded, mask = left_padded(batch)
        options |= {"first_row": len(facts), "stop_strings": (*stops, *own_stops)} | loaded.saved.after(
            padded.shape[1], lengths
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EndOfContextWarning)  # it is said once, after the last text
                generation = loaded.generate_all(
                    padded, attention_mask=mask, on_token=on_token, scored=as_json, **options
                )
        except GPT2Error:
            if stream is not None:
                stream.break_off()
            raise
        places = _places_of_ties(loaded, generation, mask, options) if ties else None
        for row in _facts(loaded, batch, generation, places):
            if stream is None and not as_json:
                _print(loaded, row, is_first=not facts)
            facts.append(row)
        interrupted = "interrupted" in generation.finish_reasons
        if interrupted:
            break
    if as_json:
        only = facts[0] if len(facts) == 1 else {}  # a single continuation also has its fields at the top level
        echo_json(only | {"continuations": facts} | engine_facts(loaded))
    elif stream is not None:
        stream.end()
    if ties and not as_json:
        _print_ties(facts)
    for note in _notes(loaded, facts, model, prompt or ""):
        click.echo(f"gpt2: note: {note}", err=True)
    if interrupted:
        click.echo("gpt2: interrupted: this is the text generated so far", err=True)
        sys.exit(130)


def _complete(loaded: Any, options: dict[str, Any]) -> dict[str, int]:
    """Complete the options by those of the model's folder, with a note; return its lengths that count the prompt."""
    context = click.get_current_context()
    usual = {"bad_words": ("bad_word", "bad_ids")}  # options of other names on the command line
    given = {
        name: value
        for name, value in options.items()
        if any(_is_given(context, option) for option in usual.get(name, (name,)))
    }
    taken, lengths = loaded.saved.options(given), loaded.saved.lengths(given)
    options |= taken
    other_ends = "stop_ids" not in given and loaded.end_ids != loaded.config.end_ids
    note = loaded.saved.note(taken | lengths, loaded.end_ids if other_ends else None)
    if note:
        click.echo(f"gpt2: note: {note}", err=True)
    return lengths


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) not in (None, click.core.ParameterSource.DEFAULT)


def _places_of_ties(loaded: Any, generation: Generation, mask: Array, options: dict[str, Any]) -> list[list[int]]:
    from parity.verdict.ties import find_ties

    return find_ties(loaded, generation, mask, GenerationConfig(**options))


class Start(NamedTuple):
    """The ids (T,) of a prompt, and the texts that end its continuation beside those that end all."""

    ids: Array
    stops: tuple[str, ...] = ()


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    stop: Filled | list[Filled] | None = None


def _batches(starts: list[Start], size: int) -> Iterator[tuple[tuple[str, ...], list[Array]]]:
    """The prompts in their order, at most so many at a time; those of a batch have the same stops, which come first."""
    for stops, group in itertools.groupby(starts, lambda start: start.stops):
        alike = [start.ids for start in group]
        yield from ((stops, alike[first : first + size]) for first in range(0, len(alike), size))


def read_prompts(
    loaded: Any, text: str | None, ids: str | None, path: Path | None, encoding: str | None = None
) -> list[Start]:
    """Every prompt, from one of the three; an empty one is what begins every text.

    Raises GPT2Error, naming the line of the file.
    """
    if path is None:
        text = standard_input() if text == "-" else text
        empty = not text if ids is None else not token_ids("--ids", ids)
        return [Start((loaded.beginning() if empty else read_prompt(loaded, text, ids))[0])]
    source = read_source(path, "text", encoding)
    lines = whole(source, source.text).split("\n")
    read = _start_of_object if path.suffix == ".jsonl" else _start_of_line
    return [read(loaded, line, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]


def _start_of_object(loaded: Any, line: str, place: str) -> Start:
    found = parse_json(line, _Line, place, "; expected one object per line")
    stops = (found.stop,) if isinstance(found.stop, str) else tuple(found.stop or ())
    start = _start_of_line(loaded, found.prompt, place) if found.prompt else Start(loaded.beginning()[0])
    return start._replace(stops=stops)


def _start_of_line(loaded: Any, line: str, place: str) -> Start:
    if loaded.tokenizer is None:
        return Start(np.array(token_ids(place, line), np.int64))
    try:
        return Start(loaded.encode(line)[0])
    except GPT2Error as error:
        raise GPT2Error(f"{place}: {error}") from error


def _bad_words(loaded: Any, texts: tuple[str, ...], ids: tuple[str, ...]) -> list[list[int]]:
    if texts and loaded.tokenizer is None:
        raise GPT2Error("--bad-word needs a tokenizer, and this model has none: give --bad-ids")
    words = [encode(loaded.tokenizer, text, add_special_tokens=False) for text in texts]
    return words + [token_ids("--bad-ids", text) for text in ids]


def _facts(
    loaded: Any, batch: list[Array], generation: Generation, ties: list[list[int]] | None
) -> Iterator[dict[str, Any]]:
    copies = len(generation.new_ids) // len(batch)
    for i, new_ids in enumerate(generation.new_ids):
        prompt_ids = batch[i // copies].tolist()
        text = None if loaded.tokenizer is None else _written(loaded, prompt_ids, new_ids)
        facts = {
            "prompt_ids": prompt_ids,
            "new_ids": new_ids,
            "text": text,
            "finish_reason": generation.finish_reasons[i],
            "score": generation.scores[i],
            "log_probabilities": generation.log_probabilities[i],
        }
        yield facts if ties is None else facts | {"ties": ties[i]}


def _print(loaded: Any, row: dict[str, Any], is_first: bool) -> None:
    if not is_first:
        click.echo(SEPARATOR)
    click.echo(_written(loaded, row["prompt_ids"], row["new_ids"]))


def _notes(loaded: Any, facts: list[dict[str, Any]], name: str, prompt: str) -> Iterator[str]:
    """What a person would not expect of the texts: that some stopped early, or ended before they began."""
    new, reasons = ([row[field] for row in facts] for field in ("new_ids", "finish_reason"))
    stopped = end_of_context(new, reasons, loaded.config.n_positions)
    if stopped:
        yield f"{stopped}: --sliding-window goes on"
    ends = loaded.end_ids
    empty = [ids[0] for ids in new if len(ids) == 1 and ids[0] in ends]
    if not empty:
        return
    what = "the text at once: its" if len(new) == 1 else f"{len(empty)} of {len(new)} texts at once: their"
    hint = ""
    if prompt not in ("", "-") and not prompt.endswith("\n"):
        hint = (
            ". If its prompts in training end with a line end, this one needs one, too: "
            f"printf '...\\n' | gpt2 generate {name} -"
        )
    yield f"the model ended {what} first new token is the end of text, id {empty[0]}{hint}"


def _print_ties(facts: list[dict[str, Any]]) -> None:
    for number, row in enumerate(facts, start=1):
        places = ", ".join(str(place + 1) for place in row["ties"])
        of = f" of continuation {number}" if len(facts) > 1 else ""
        note = f"the choice of new token {places}{of} is noise" if places else f"no choice{of} is noise"
        click.echo(f"gpt2: note: {note}", err=True)


def _written(model: Any, prompt_ids: list[int], new_ids: list[int]) -> str:
    """The whole text without a final special token and those before every text; ids, if there is no tokenizer."""
    if model.tokenizer is None:
        return " ".join(map(str, prompt_ids + new_ids))
    known = model.tokenizer.get_added_tokens_decoder()
    ends = bool(new_ids) and new_ids[-1] in known and known[new_ids[-1]].special
    if len(prompt_ids) == 1 and prompt_ids[0] in known and known[prompt_ids[0]].special:  # the beginning of a text
        prompt_ids = []
    return model.decode(without_opening(model.tokenizer, prompt_ids + (new_ids[:-1] if ends else new_ids)))


class Stream:
    """Prints prompt and new tokens as they are generated: as text if there is a tokenizer, else as ids."""

    def __init__(self, model: Any, prompt: Array) -> None:
        self._model, self._prompt_ids, self._printed = model, prompt.tolist(), ""
        self._new_ids: list[int] = []

    def __call__(self, chosen: Array) -> None:
        self._new_ids.append(int(chosen[0]))
        text = _written(self._model, self._prompt_ids, self._new_ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # else wait for the other tokens of this character
            self._show(text)

    def end(self) -> None:
        """Print any text held back, and end the line."""
        self._show(_written(self._model, self._prompt_ids, self._new_ids))
        click.echo()

    def break_off(self) -> None:
        """End the line, if there is one, for an error message."""
        if self._printed:
            click.echo()

    def _show(self, text: str) -> None:
        click.echo(text[len(self._printed) :], nl=False)
        sys.stdout.flush()
        self._printed = text
