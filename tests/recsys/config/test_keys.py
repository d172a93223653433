"""Every key of the configuration has a line in `keys.txt`: a new one is a decision, not a habit."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from recsys.config.config import Config

LIST = Path(__file__).with_name("keys.txt")
AT_MOST = 164

# Sections with the same entries are described, read and learnt once.
_SAME = ((re.compile(r"features\.(item|query|context)\."), "features.*."),)
_LISTED_ELSEWHERE = re.compile(r"study\.arms\.\*\.space\.")  # As tuning.space.


def keys_of(annotation: Any, path: str) -> Iterator[str]:
    """Yields the paths of all values that can be set below a path; unions are flattened."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from keys_of(field.annotation, f"{path}.{name}")
    elif get_origin(annotation) is Annotated:
        yield from keys_of(get_args(annotation)[0], path)
    elif get_origin(annotation) in (Union, UnionType):
        for alternative in get_args(annotation):
            if alternative is not NoneType:
                yield from keys_of(alternative, path)
    elif get_origin(annotation) is tuple and holds_sections(annotation):
        yield from keys_of(get_args(annotation)[0], path)
    elif get_origin(annotation) is dict and holds_sections(annotation):
        yield from keys_of(get_args(annotation)[1], f"{path}.*")
    else:
        yield path


def holds_sections(annotation: Any) -> bool:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return issubclass(annotation, BaseModel)
    return any(holds_sections(part) for part in get_args(annotation))


def keys_of_config() -> list[str]:
    keys = set()
    for path in keys_of(Config, ""):
        key = path.removeprefix(".")
        for pattern, replacement in _SAME:
            key = pattern.sub(replacement, key)
        if not _LISTED_ELSEWHERE.match(key):
            keys.add(key)
    return sorted(keys)


def test_every_key_has_a_line():
    listed = LIST.read_text(encoding="utf-8").split()
    keys = keys_of_config()
    new, gone = sorted(set(keys) - set(listed)), sorted(set(listed) - set(keys))
    assert not new, f"add to {LIST.name}, and say in docs/results.md what it is good for: {new}"
    assert not gone, f"remove from {LIST.name}; recsys/config/renamed.py names the new key: {gone}"
    assert listed == keys, f"{LIST.name} is not in alphabetical order"


def test_there_are_few_enough_keys_to_read_them_all():
    assert len(keys_of_config()) <= AT_MOST
