"""The recipe of a training run: every setting that affects the resulting weights, and reading it from a file."""

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gpt2.data.formats import read_source
from gpt2.data.records import has_fields
from gpt2.data.settings import DataConfig
from gpt2.errors import GPT2Error, counted
from gpt2.json_input import as_type, read_json
from reference.config import ConfigError, GPT2Config, TrainingConfig

SECTIONS = ("model", "training", "data")
OPTIONS = ("steps", "batch_size", "seed")
NAMED = {"tiny": Path(__file__).parents[1] / "tiny" / "recipe.json"}  # recipes inside the package
# The defaults: a model and a schedule that learn to write on a laptop in minutes.
SMALL = {
    "n_positions": 64,
    "n_embd": 128,
    "n_layer": 4,
    "n_head": 4,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
QUICK = {
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "final_learning_rate": 1e-4,
    "beta2": 0.99,
    "weight_decay": 0.1,
}
DROPOUT = ("embd_pdrop", "attn_pdrop", "resid_pdrop")

Sections = dict[str, dict[str, Any]]
Settings = TypeVar("Settings")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every setting that affects the weights that a run produces, with defaults filled in."""

    model: GPT2Config
    training: TrainingConfig
    data: DataConfig
    steps: int
    batch_size: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The recipe as a dictionary for JSON."""
        return dataclasses.asdict(self)


def read_sections(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> Sections:
    """Read settings from a JSON file, the name of a recipe, or a mapping, by section: model, training, data.

    A file has these three objects, each optional. Or it is a Hugging Face config.json, which may also have fields of
    training and data. Raises GPT2Error, naming the field, for an unknown setting.
    """
    if source is None:
        return {name: {} for name in SECTIONS}
    where = "config" if isinstance(source, Mapping) else str(source)
    if isinstance(source, Mapping):
        fields = _as_json(source)
    else:
        path = NAMED.get(str(source), Path(source))
        fields = read_json(path, dict[str, Any], "; expected an object with model, training and data")
    sections = {name: as_type(fields.get(name, {}), dict[str, Any], f"{where}: {name!r}") for name in SECTIONS}
    for name in ("training", "data"):
        _refuse_unknown(where, sections[name], _names(name))
    for field in sections["model"]:
        if _section_of(where, field) != "model":
            raise GPT2Error(f"{where}: {field!r} is under 'model', but belongs under {_section_of(where, field)!r}")
    for field, value in fields.items():
        if field not in SECTIONS:
            sections[_section_of(where, field)][field] = value
    return sections


def sections_for(
    config: str | os.PathLike[str] | Mapping[str, Any] | None, data: Path, form: str | None, encoding: str | None
) -> Sections:
    """The sections of `config` for this data file: a recipe of the package applies to any file.

    Its data settings are those of its own data, by a template; a file without the template's fields has the defaults.
    form, encoding: as in `read_source`. Raises GPT2Error as `read_sections` and `read_source` do.
    """
    sections = read_sections(config)
    template = data_settings(sections, None).layout_template() if _is_named(config) else None
    if template is not None and not has_fields(read_source(data, form, encoding), template.fields):
        sections["data"] = {}
    return sections


def _is_named(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> bool:
    return not isinstance(config, Mapping) and str(config) in NAMED


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping as JSON stores it, since checkpoints hold it."""
    try:
        return json.loads(json.dumps(settings))
    except (TypeError, ValueError, RecursionError) as error:
        raise GPT2Error(f"config must hold what JSON can hold: {error}") from error


def _names(section: str) -> set[str]:
    kinds = {"model": GPT2Config, "training": TrainingConfig, "data": DataConfig}
    return {field.name for field in dataclasses.fields(kinds[section])}


def _refuse_unknown(where: str, section: Mapping[str, Any], known: set[str]) -> None:
    for field in section:
        if field not in known:
            raise GPT2Error(f"{where}: no setting {field!r}: expected one of {', '.join(sorted(known))}")


def _section_of(where: str, field: str) -> str:
    """The section of a field. Raises GPT2Error for a command-line option, and for a likely typo.

    Other unknown fields belong to the model: a Hugging Face config.json has many.
    """
    if field in OPTIONS:
        raise GPT2Error(f"{where}: {field!r} is not a setting but an option: --{field.replace('_', '-')}")
    for name in ("training", "data"):
        if field in _names(name):
            return name
    near = difflib.get_close_matches(field, set().union(*map(_names, SECTIONS)) - {field}, n=1, cutoff=0.85)
    if near and field not in _names("model"):
        raise GPT2Error(f"{where}: no setting {field!r}: is {near[0]!r} meant?")
    return "model"


def data_settings(sections: Sections, pipeline: str | None) -> DataConfig:
    """The data settings; pipeline, if given, overrides the file's. Raises GPT2Error for a bad value."""
    fields = sections["data"] | ({} if pipeline is None else {"pipeline": pipeline})
    return _checked(lambda: DataConfig(**fields))


def model_fields(sections: Sections) -> dict[str, Any]:
    """The fields of the model to train: those of the file, or of a small model if it has none."""
    return dict(sections["model"] or SMALL)


def model_settings(fields: Mapping[str, Any]) -> GPT2Config:
    """The configuration with these fields. Raises GPT2Error, naming the field, for a bad value."""
    return _checked(lambda: GPT2Config.from_dict(fields))


def with_dropout(config: GPT2Config, sections: Sections) -> GPT2Config:
    """An existing model's config with the file's dropout rates. Raises GPT2Error if the file sets anything else."""
    for field in sections["model"]:
        if field not in DROPOUT:
            raise GPT2Error(
                f"config field {field!r} is for new models, but training starts from an existing one: "
                f"only {', '.join(DROPOUT)} can change"
            )
    return _checked(lambda: dataclasses.replace(config, **sections["model"]))


def training_settings(sections: Sections, steps: int) -> TrainingConfig:
    """The training settings of a run of `steps` updates; by default the schedule ends with the run.

    A warm-up that is as long as the run becomes a tenth of it; `shortened_warm_up` says so.
    """
    settings = sections["training"] or QUICK | {"warmup_steps": min(100, steps // 10)}
    if settings.get("schedule", "constant") != "constant":
        warmup = settings.get("warmup_steps", 0)
        if "total_steps" not in settings and type(warmup) is int and warmup >= steps:
            settings = settings | {"warmup_steps": steps // 10}
        settings = {"total_steps": steps} | settings
    return _checked(lambda: TrainingConfig(**settings))


def shortened_warm_up(
    sections: Sections, made: Recipe, config: str | os.PathLike[str] | Mapping[str, Any] | None
) -> str:
    """A note that the warm-up became shorter than `config` has it, by the name of config; empty if it did not."""
    asked, taken = sections["training"].get("warmup_steps", made.training.warmup_steps), made.training.warmup_steps
    if asked == taken:
        return ""
    where = "the recipe of the run" if config is None else "config" if isinstance(config, Mapping) else str(config)
    where = f"the recipe {config}" if _is_named(config) else where
    return f"warmup_steps of {where} is {asked}, but the run has {counted(made.steps, 'step')}: taken as {taken}"


def _checked(make: Callable[[], Settings]) -> Settings:
    try:
        return make()
    except ConfigError as error:
        raise GPT2Error(str(error)) from error
