"""Reading of a configuration from YAML, overrides by `--set`, and the sentences of errors."""

import difflib
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from feature_store.core.errors import UserError
from pipelines.urls import is_url
from recsys.config.config import Config
from recsys.config.keys import DISCRIMINATORS, models_of, tag_of
from recsys.config.renamed import old_keys
from recsys.config.yaml_reader import MAX_CHARACTERS, YamlError, parse_yaml

# Values of these keys are paths: relative ones are taken from the file that names them.
_PATH_KEYS = (
    *(("output",), ("data", "events"), ("data", "items"), ("data", "queries")),
    ("job", "notify", "textfile"),
)
# So is the file of a SQLite store.
_URI_KEY, _SQLITE = ("tracking", "uri"), "sqlite:///"

# Keys of a path in an override.
_MOST_KEYS = 50


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML configuration.

    Its paths are absolute, so that it means the same wherever a command or a worker runs.

    Args:
        path: The file. Relative paths inside it are relative to its directory.
        overrides: `key.path=value` with the value in YAML, as given to `--set`; relative paths
            here are relative to the working directory.

    Raises:
        UserError: The file is missing or not YAML, a key is unknown, or a value does not fit.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", opener=_open_at_once) as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # A path may be none.
        raise UserError(
            f"cannot read the configuration {path}: {error}; write one with `recsys init`."
        ) from error
    try:
        document = parse_yaml(text)
    except YamlError as error:
        raise UserError(f"{path} is not YAML that can be read: {error}; fix it.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} holds no configuration: expected keys such as data and features.")
    _refuse_old_keys(document, source=str(path))  # Overrides may go through sections they lack.
    _resolve_paths(document, path.parent)
    for override in overrides:
        _apply_override(document, override)
    _resolve_paths(document, Path())
    return parse_config(document, source=str(path))


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe that nobody writes to is empty, and not waited for."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def parse_config(document: dict[str, Any], *, source: str = "the configuration") -> Config:
    """Validates a nested dictionary; `source` names it in errors.

    Raises:
        UserError: As in `load_config`.
    """
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(_problem(dict(detail)) for detail in error.errors()[:5])
        raise UserError(f"{source}: {problems}.") from error


def _refuse_old_keys(document: Mapping[str, Any], *, source: str) -> None:
    faults = list(old_keys(document))
    if faults:
        raise UserError(f"{source}: {'; '.join(faults)}.")


def _resolve_paths(document: dict[str, Any], base: Path) -> None:
    """Makes relative paths absolute."""
    real = base.resolve()
    for *parents, key in (*_PATH_KEYS, _URI_KEY):
        section: Any = document
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = _resolved(section[key], real)


def _resolved(path: str, base: Path) -> str:
    file = path.removeprefix(_SQLITE)
    if path.startswith(_SQLITE) and not file.startswith(":memory:"):
        return f"{_SQLITE}{base / file}"
    return path if is_url(path) else _without_dots(str(base / path))


def _without_dots(path: str) -> str:
    """Drops `a/..` from a path, unless `..` leads out of what a link points to."""
    if os.pardir not in path.split(os.sep):
        return path
    short = os.path.normpath(path)
    return short if os.path.realpath(short) == os.path.realpath(path) else path


def parse_assignment(option: str, text: str, form: str) -> tuple[str, Any]:
    """Splits an option such as `--set training.epochs=3` into its name and its value.

    Args:
        option: Name of the option, for errors.
        text: Text of the option; the value is YAML.
        form: Expected form, for errors.

    Raises:
        UserError: It is not of the form, or the value is not YAML.
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise UserError(f"{option} {short_repr(text)} is not of the form {form}.")
    try:
        return name.strip(), parse_yaml(value)
    except YamlError as error:
        shown = short_repr(text)
        raise UserError(f"{option} {shown}: the value is not YAML ({error}); quote it.") from error


def with_values(config: Config, values: Mapping[str, Any], *, source: str) -> Config:
    """Returns the configuration with other values at some paths, such as `training.epochs`.

    As with `--set`, another kind of a section drops the keys that only the old kind has.

    Raises:
        UserError: A key is unknown, or a value does not fit; it begins with `source`.
    """
    document = config.model_dump(mode="json")
    for path, value in values.items():
        _set_value(document, path.split("."), value, source)
    return parse_config(document, source=source)


def _apply_override(document: dict[str, Any], override: str) -> None:
    name, value = parse_assignment("--set", override, "key.path=value")
    keys = name.split(".")
    if not all(keys) or len(keys) > _MOST_KEYS:
        raise UserError(f"--set {short_repr(override)} is not of the form key.path=value.")
    _set_value(document, keys, value, f"--set {short_repr(override)}")


def changed_document(config: Config, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a file sets, with other values, and with file paths that are valid anywhere.

    Args:
        config: Configuration, as read from a file.
        values: Values by path; they must fit.
    """
    whole = config.model_dump(mode="json")
    document = config.model_dump(mode="json", exclude_unset=True)
    for path, value in values.items():
        keys = path.split(".")
        document.setdefault(keys[0], whole[keys[0]])  # A section must say of which kind it is.
        _set_value(document, keys, value, path)
    _resolve_paths(document, Path())
    return document


def _set_value(document: dict[str, Any], keys: list[str], value: Any, source: str) -> None:
    section: Any = document
    for depth, key in enumerate(keys[:-1]):
        if isinstance(section, list):
            section = section[_list_position(section, key, source)]
            continue
        if section.get(key) is None:
            section[key] = _kind_of_default(keys[: depth + 1])
        section = section[key]
        if not isinstance(section, dict | list):
            raise UserError(f"{source}: {'.'.join(keys[: depth + 1])} has no keys.")
    if isinstance(section, list):
        section[_list_position(section, keys[-1], source)] = value
        return
    if is_discriminator(keys[-1]) and section.get(keys[-1]) != value:
        _forget_other_kind(section, keys[:-1], value)
    section[keys[-1]] = value


def _kind_of_default(location: Sequence[str]) -> dict[str, Any] | list[Any]:
    """Returns a new section; of those with several kinds, one of the default kind.

    A list of sections begins with its default entries.
    """
    field = Config.model_fields.get(location[0])
    default = None if field is None else field.default
    for key in location[1:]:
        default = getattr(default, key, None)
    if isinstance(default, tuple):
        return [entry.model_dump(mode="json") for entry in default if isinstance(entry, BaseModel)]
    return {key: getattr(default, key) for key in DISCRIMINATORS if hasattr(default, key)}


def is_discriminator(key: str) -> bool:
    """Returns whether a key's value selects one of several kinds of a section."""
    return key in DISCRIMINATORS


def _forget_other_kind(section: dict[str, Any], location: list[str], tag: Any) -> None:
    """Drops the keys that only the replaced kind has, so that `--set ssl.method=none` is enough."""
    models: list[type[BaseModel]] = [Config]
    for step in location:
        models = _step_into(models, step)
    chosen = [model for model in models if tag_of(model) == tag]
    if chosen:
        for key in set(section) - set(chosen[0].model_fields):
            del section[key]


def _list_position(section: list[Any], key: str, source: str) -> int:
    """Finds an entry of a list by its position, or by its `name`, else its `kind`."""
    names = [
        str(entry.get("name", entry.get("kind", position)))
        for position, entry in enumerate(section)
        if isinstance(entry, dict)
    ]
    for position, name in enumerate(names):
        if key in (str(position), name):
            return position
    raise UserError(f"{source}: no entry {key!r}; the list has {', '.join(names)}.")


def _problem(detail: dict[str, Any]) -> str:
    """Puts a validation error into words; an unknown key names the nearest valid one."""
    # Pydantic puts a union's discriminator value into the location; it is not a key of the file.
    location = [part for part in detail["loc"] if not _is_union_tag(part, detail["loc"])]
    name = ".".join(str(part) for part in location) or "the configuration"
    if detail["type"] == "extra_forbidden":
        valid = _valid_keys(detail["loc"][:-1])
        close = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.0)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"unknown key {name} ({hint}valid: {', '.join(sorted(valid))})"
    if detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
        key = detail["ctx"]["discriminator"].strip("'")
        kinds = ", ".join(tag_of(model) for model in _models_at(detail["loc"]))
        given = detail["ctx"].get("tag")
        fault = "is missing" if given is None else f"is {given!r}"
        return f"{name}.{key} {fault}; expected one of: {kinds}"
    if detail["type"] == "missing":
        return f"{name} is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return message if name == "the configuration" else f"{name}: {message}"
    return f"{name}: {message}, got {short_repr(detail['input'])}"


def short_repr(value: Any) -> str:
    """Formats a value of any size and depth in at most 80 characters."""
    try:
        shown = reprlib.repr(value) if isinstance(value, dict | list | tuple) else repr(value)
    except ValueError:  # Python refuses to write integers of thousands of digits.
        shown = "a very large number"
    return shown if len(shown) < 80 else shown[:77] + "..."


def _is_union_tag(part: Any, location: Sequence[Any]) -> bool:
    models: list[type[BaseModel]] = [Config]
    for step in location:
        tagged = _tagged(models, step)
        if tagged:
            if step is part:
                return True
            models = tagged
            continue
        models = _step_into(models, step)
    return False


def _tagged(models: list[type[BaseModel]], step: Any) -> list[type[BaseModel]]:
    """Returns the models of a union that a step of a location selects; a field selects none."""
    if any(step in model.model_fields for model in models):
        return []
    return [model for model in models if tag_of(model) == step]


def _step_into(models: list[type[BaseModel]], step: Any) -> list[type[BaseModel]]:
    if isinstance(step, int):
        return models
    fields = [model.model_fields[step] for model in models if step in model.model_fields]
    if not fields:  # The key of a dictionary of models.
        return models
    return [model for field in fields for model in models_of(field.annotation)]


def _valid_keys(location: Sequence[Any]) -> list[str]:
    return sorted({key for model in _models_at(location) for key in model.model_fields})


def _models_at(location: Sequence[Any]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [Config]
    for step in location:
        models = _tagged(models, step) or _step_into(models, step)
    return models
