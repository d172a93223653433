"""The feature views: their raw columns, and their names in Feast."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from feature_store.schema import FeatureSchema, Side

ID_COLUMN: dict[Side, str] = {"item": "item_id", "query": "query_id"}
EVENT_TIME = "event_timestamp"
IS_CURRENT = "is_current"

_ESCAPED = re.compile(r"_x([0-9A-F]{2})")
# An underscore that would begin an escape is escaped itself.
_NOT_PLAIN = re.compile(r"_(?=x[0-9A-F]{2})|[^A-Za-z0-9_]")


@dataclass(frozen=True)
class FeatureView:
    """The raw features of a side.

    Attributes:
        side: Side of the features.
        columns: Names and types of the columns as in the side's table, without the id.
    """

    side: Side
    columns: pa.Schema

    @property
    def name(self) -> str:
        """Name of the view, here and in Feast."""
        return f"{self.side}_features"

    @property
    def id_column(self) -> str:
        """Column of the ids in snapshots; Feast's join key."""
        return ID_COLUMN[self.side]

    @property
    def feast_names(self) -> dict[str, str]:
        """Names in Feast, by column."""
        return feast_names(self.columns.names, (self.id_column, EVENT_TIME, IS_CURRENT))


def raw_columns(schema: FeatureSchema, side: Side) -> list[str]:
    """Returns the columns that a side's features are read from, without the id."""
    return [f.name for f in schema.side(side) if not f.is_id]


def feast_names(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Returns names that Feast and SQL accept, for columns of any name.

    A character that is not a letter, a digit or an underscore becomes `_x` and two hex digits for
    each of its UTF-8 bytes. A name that equals an earlier or a reserved one but for case, which SQL
    ignores, is escaped whole. `column_name` is the inverse.
    """
    taken = {name.lower() for name in reserved}
    escaped_names: dict[str, str] = {}
    for name in names:
        escaped = _escape(name)
        if escaped.lower() in taken:
            escaped = "".join(map(_hex, name))
        taken.add(escaped.lower())
        escaped_names[name] = escaped
    return escaped_names


def column_name(feast_name: str) -> str:
    """Returns the column of a name that `feast_names` made."""
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
