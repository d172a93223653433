"""The keys of the configuration, from its models: what each is, may be, and is by default."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recsys.config.config import Config
from recsys.config.yaml_writer import scalar

# Keys by which a section chooses its model among several.
DISCRIMINATORS = ("kind", "method")
# Bounds from here on only keep mistyped numbers out, and nobody needs to know them.
_FAR = 1_000_000
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    datetime.datetime: "a date or a time in UTC, such as 2026-11-08",
    Any: "any value",
}
_BOUNDS = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "lt": "below {}",
    "multiple_of": "a multiple of {}",
}
# Groups of features, whose keys are the same.
_GROUPS = ("features.item.", "features.query.", "features.context.")


@dataclass(frozen=True)
class Variant:
    """A key in one kind of its section.

    Attributes:
        kind: Kind, such as cosine of training.schedule; empty where the section has one kind.
        field: Field of the model.
        model: Model of the section.
    """

    kind: str
    field: FieldInfo
    model: type[BaseModel]

    @property
    def description(self) -> str:
        """Description of the key; of a key that chooses a kind, that of the kind."""
        return self.field.description or summary_of(self.model)

    @property
    def allowed(self) -> str:
        """Values that it may have, in words."""
        return allowed(self.field.annotation, self.field.metadata)

    @property
    def default(self) -> str | None:
        """Default as YAML; None where a value must be given."""
        if self.field.is_required():
            return None
        return scalar(self.field.get_default(call_default_factory=True))


@dataclass(frozen=True)
class Key:
    """A value that can be set.

    Attributes:
        path: Path, with `*` for the names of features, tables and arms.
        variants: The key in each kind of its section that has it.
        default_kind: Kind of the section by default; None where there is no default.
    """

    path: str
    variants: tuple[Variant, ...]
    default_kind: str | None

    @property
    def chooses(self) -> bool:
        """Whether the key chooses the kind of its section."""
        return self.path.rpartition(".")[2] in DISCRIMINATORS and bool(self.variants[0].kind)

    @property
    def section(self) -> str:
        """First part of the path."""
        return self.path.partition(".")[0]


@cache
def all_keys() -> dict[str, Key]:
    """Returns all keys by path, in the order of the configuration."""
    found: dict[str, dict[str, Variant]] = {}
    defaults: dict[str, str | None] = {}
    for path, variant, default_kind in _walk(Config, "", "", None):
        group = next((group for group in _GROUPS if path.startswith(group)), None)
        general = f"features.*.{path.removeprefix(group)}" if group is not None else path
        found.setdefault(general, {}).setdefault(variant.kind, variant)
        defaults.setdefault(general, default_kind)
    return {
        path: Key(path, tuple(variants.values()), defaults[path])
        for path, variants in found.items()
    }


def _walk(
    model: type[BaseModel], path: str, kind: str, default_kind: str | None
) -> Iterator[tuple[str, Variant, str | None]]:
    """Yields the keys below a path; those of `study.arms.*.space` are those of `tuning.space`."""
    for name, field in model.model_fields.items():
        below = f"{path}{name}"
        models = models_of(field.annotation)
        if not models:
            yield below, Variant(kind, field, model), default_kind
        elif below != "study.arms.*.space":
            below += ".*" if _is_mapping(field.annotation) else ""
            default = field.get_default(call_default_factory=True)
            several = len(models) > 1
            is_known = several and isinstance(default, BaseModel)
            for each in models:
                tag = tag_of(each) if several else ""
                chosen = tag_of(type(default)) if is_known else None
                yield from _walk(each, f"{below}.", tag, chosen)


def _is_mapping(annotation: Any) -> bool:
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return any(get_origin(part) is dict for part in parts)


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """Returns the models that an annotation can hold, through unions, tuples and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, dict):
        inner = [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
        return [model for part in inner for model in models_of(part)]
    return []


def tag_of(model: type[BaseModel]) -> str:
    """Returns what selects a model in a discriminated union: its kind or method, or its name."""
    for key in DISCRIMINATORS:
        field = model.model_fields.get(key)
        if field is not None and isinstance(field.default, str):
            return field.default
    return model.__name__


def models_at(path: str) -> list[type[BaseModel]]:
    """Returns the models of a section, one for each kind; none where the path is no section."""
    if path == "features.*":
        return list(dict.fromkeys(each for group in _GROUPS for each in models_at(group[:-1])))
    models: list[type[BaseModel]] = [Config]
    for name in path.split("."):
        if name != "*":
            fields = [model.model_fields[name] for model in models if name in model.model_fields]
            models = [model for field in fields for model in models_of(field.annotation)]
    return list(dict.fromkeys(models))


def summary_of(model: type[BaseModel]) -> str:
    """Returns the first sentence of a model's description."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def allowed(annotation: Any, metadata: list[Any]) -> str:
    """Puts the values of a type into words, with their bounds."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed(parts[0], [*parts[1:], *metadata])
    if origin in (Union, UnionType):
        words = [allowed(part, metadata) for part in parts if part is not NoneType]
        return " or ".join([*words, *(["null"] if NoneType in parts else [])])
    if origin is Literal:
        return ("one of: " if len(parts) > 1 else "") + ", ".join(map(scalar, parts))
    if origin is tuple:
        count = "a list" if Ellipsis in parts else f"{len(parts)} values"
        return f"{count}, each {allowed(parts[0], [])}"
    if origin is dict:
        return f"names, each with {allowed(parts[1], [])}"
    return f"{_WORDS[annotation]}{_bounds(metadata)}"


def bounds_of(metadata: list[Any]) -> dict[str, float]:
    """Returns the bounds of a number by their names in pydantic: ge, gt, le, lt, multiple_of."""
    flat = [part for each in metadata for part in getattr(each, "metadata", [each])]
    return {
        name: getattr(part, name)
        for part in flat
        for name in _BOUNDS
        if getattr(part, name, None) is not None
    }


def _bounds(metadata: list[Any]) -> str:
    near = {name: value for name, value in bounds_of(metadata).items() if abs(value) < _FAR}
    words = [_BOUNDS[name].format(f"{near[name]:,}") for name in _BOUNDS if name in near]
    return f", {', '.join(words)}" if words else ""
