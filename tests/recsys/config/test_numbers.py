"""Every number of the configuration is finite and bounded, and what does not fit is a sentence."""

import json
from collections.abc import Iterator
from contextlib import suppress
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.config.load import load_config, parse_config

ENDLESS = (float("inf"), float("-inf"), float("nan"), 2**128, -(2**128), 1e308, 10**400)
ODD = (-1, 0, -0.5, 1e-320, True, "1", "x", None, [], {}, "\0", "\ud800")
DOCUMENT: dict[str, Any] = {
    "output": "o",
    "data": {"events": "e"},
    "features": {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 4},
            {"name": "group", "kind": "categorical", "dim": 4},
        ]
    },
}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for part in get_args(annotation):
        yield from models(part)


def is_number(annotation: Any) -> bool:
    """Tells annotations that hold a number, itself or in a tuple or dictionary, from others."""
    if get_origin(annotation) is Annotated:
        return is_number(get_args(annotation)[0])
    parts = [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
    if get_origin(annotation) in (Union, UnionType, tuple, dict):
        return any(map(is_number, parts))
    return annotation in (int, float)


def forms(annotation: Any, number: Any) -> Iterator[Any]:
    """Yields a number as an annotation can hold it."""
    if get_origin(annotation) is Annotated:
        yield from forms(get_args(annotation)[0], number)
    elif get_origin(annotation) in (Union, UnionType):
        for part in filter(is_number, get_args(annotation)):
            yield from forms(part, number)
    elif get_origin(annotation) is tuple:
        yield from ([number], [number, number])
    elif get_origin(annotation) is dict:
        yield {"a": number}
    else:
        yield number


NUMBERS = sorted(
    {
        (model, name)
        for model in models(Config)
        for name, field in model.model_fields.items()
        if is_number(field.annotation)
    },
    key=lambda each: (each[0].__name__, each[1]),
)


def fault(model: type[BaseModel], name: str, value: Any) -> str | None:
    """Returns why a value does not fit a key; None where it does, or others are at fault."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        faults = [each for each in error.errors() if each["loc"][:1] == (name,)]
        return faults[0]["msg"] if faults else None
    return None


@pytest.mark.parametrize(("model", "name"), NUMBERS)
def test_it_is_finite_and_bounded(model: type[BaseModel], name: str) -> None:
    annotation = model.model_fields[name].annotation
    for number in ENDLESS:
        for value in forms(annotation, number):
            assert fault(model, name, value) is not None, f"{name} takes {number}"
    for number in ODD:
        for value in forms(annotation, number):
            with suppress(ValidationError):
                model.model_validate({name: value})


def test_the_walk_finds_all_kinds_of_numbers() -> None:
    names = {name for _, name in NUMBERS}
    assert names >= {"seed", "item_tower", "event_types", "ngrams", "low", "half_life", "cutoffs"}
    assert len(NUMBERS) > 80


def paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the paths of all values of a document."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from paths(inner, (*path, key))


def test_any_value_at_any_place_is_accepted_or_a_sentence() -> None:
    whole = parse_config(DOCUMENT).model_dump(mode="json")
    for path in paths(whole):
        for value in (*ENDLESS, *ODD, [[]], {"x": {"x": 1}}, {1: 2}, {None: []}):
            document: Any = {"root": parse_config(DOCUMENT).model_dump(mode="json")}
            section = document
            for key in ("root", *path)[:-1]:
                section = section[key]
            section[("root", *path)[-1]] = value
            with suppress(UserError):
                parse_config(document["root"])


def test_what_no_file_system_can_hold_is_refused(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    rest = ["data.events=e", f"features.item={DOCUMENT['features']['item']}"]
    for text in ("a\0b", "\ud800"):
        with pytest.raises(UserError, match=r"output: .* holds a null character or half of one"):
            parse_config(DOCUMENT | {"output": text})
        file.write_text(f"output: {json.dumps(text)}")
        with pytest.raises(UserError, match=r"null character|surrogate|YAML"):
            load_config(file, rest)
