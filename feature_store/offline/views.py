"""The feature views: which raw columns they hold, and their names in Feast."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from feature_store.schema import FeatureSchema, Side

ID_COLUMN: dict[Side, str] = {"item": "item_id", "query": "query_id"}
EVENT_TIME = "event_timestamp"
IS_CURRENT = "is_current"

_ESCAPED = re.compile(r"_x([0-9A-F]{2})")
# What looks like an escape is none: its underscore is escaped.
_NOT_PLAIN = re.compile(r"_(?=x[0-9A-F]{2})|[^A-Za-z0-9_]")


@dataclass(frozen=True)
class FeatureView:
    """The raw features of a side.

    Attributes:
        side: Which.
        columns: Their names and types as in the side's table; without the id.
    """

    side: Side
    columns: pa.Schema

    @property
    def name(self) -> str:
        """Of the view, here and in Feast."""
        return f"{self.side}_features"

    @property
    def id_column(self) -> str:
        """Of its snapshots; Feast's join key."""
        return ID_COLUMN[self.side]

    @property
    def feast_names(self) -> dict[str, str]:
        """By column."""
        return feast_names(self.columns.names, (self.id_column, EVENT_TIME, IS_CURRENT))


def raw_columns(schema: FeatureSchema, side: Side) -> list[str]:
    """The columns that a side's features are read from, without the id."""
    return [f.name for f in schema.side(side) if not f.is_id]


def feast_names(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Names that Feast and SQL take, for columns that may be called anything.

    A character that is not a letter, a digit or an underscore becomes `_x` and two hex digits for
    each of its UTF-8 bytes; a name that differs from an earlier or a reserved one in case at most,
    which SQL does not tell apart, is escaped whole. `column_name` is the inverse.
    """
    taken = {name.lower() for name in reserved}
    found: dict[str, str] = {}
    for name in names:
        escaped = _escape(name)
        if escaped.lower() in taken:
            escaped = "".join(map(_hex, name))
        taken.add(escaped.lower())
        found[name] = escaped
    return found


def column_name(feast_name: str) -> str:
    """The column of a name of `feast_names`."""
    content = bytearray()
    position = 0
    for match in _ESCAPED.finditer(feast_name):
        content += feast_name[position : match.start()].encode()
        content.append(int(match[1], 16))
        position = match.end()
    return (content + feast_name[position:].encode()).decode()


def _escape(name: str) -> str:
    return _NOT_PLAIN.sub(lambda match: _hex(match[0]), name)


def _hex(character: str) -> str:
    return "".join(f"_x{byte:02X}" for byte in character.encode())
