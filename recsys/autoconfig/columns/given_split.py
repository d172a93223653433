"""Columns of the events that say which split an event belongs to."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.names import named

_SPLIT_NAMES = "split subset fold"
_SPLIT_PARTS = {"train", "validation", "test"}
# Other words for these parts.
_OTHER_PARTS = {"training", "valid", "val", "dev", "eval", "testing", "holdout"}


def find_split(events: ParquetTable, free: list[str]) -> str | None:
    """Finds the column that says which split an event belongs to; it must hold all three."""
    named_so = _values(events, free)
    return next((name for name, values in named_so if values == _SPLIT_PARTS), None)


def split_notes(events: ParquetTable, free: list[str]) -> Iterator[str]:
    """Yields sentences on columns that say which split an event belongs to, in other words."""
    for name, values in _values(events, free):
        if len(values) > 1 and set(map(str.lower, values)) <= _SPLIT_PARTS | _OTHER_PARTS:
            yield (
                f"column {name!r} says which part an event belongs to "
                f"({', '.join(sorted(values))}) and is not read; to use it, call its parts "
                "train, validation and test"
            )


def _values(events: ParquetTable, free: list[str]) -> Iterator[tuple[str, set[str]]]:
    """Yields the columns of text that are named like a split, and their values."""
    for name in named(free, _SPLIT_NAMES):
        if pa.types.is_string(events.schema.field(name).type):
            yield name, set(pc.unique(events.read(name)[0].drop_null()).to_pylist())
