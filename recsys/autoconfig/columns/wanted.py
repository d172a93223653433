"""Columns that the user names, and problems of a log, which are told all at once."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import pyarrow as pa

from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from feature_store.schema import Side
from pipelines.logs.needs import is_id_type
from pipelines.logs.sampling import ParquetTable

T = TypeVar("T")

TABLES: dict[Side, str] = {"query": "queries", "item": "items"}
# Rows that show what a column holds.
_GLANCE = 20_000


@dataclass(frozen=True)
class WantedIds:
    """The columns of ids that the user names; None: they are found.

    Attributes:
        query: Column of the events with query ids.
        item: Column of the events with item ids.
        queries_id: Column of the table of queries with these ids.
        items_id: Column of the table of items with these ids.
    """

    query: str | None = None
    item: str | None = None
    queries_id: str | None = None
    items_id: str | None = None

    def column(self, side: Side) -> str | None:
        """Returns the column of the events that is named for one side."""
        return self.query if side == "query" else self.item

    def key(self, side: Side) -> str | None:
        """Returns the column of the side's own table that is named."""
        return self.queries_id if side == "query" else self.items_id


class Problems:
    """Problems of a log, which are told all at once, so that they can be mended in one go."""

    def __init__(self) -> None:
        self._sentences: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._sentences)

    def add(self, problem: UserError) -> None:
        """Notes a problem."""
        self._sentences.append(str(problem))

    def attempt(self, function: Callable[[], T]) -> T | None:
        """Returns what a function returns; None where it raises a UserError, which is noted."""
        try:
            return function()
        except UserError as error:
            self.add(error)
            return None

    def refuse(self) -> None:
        """Tells all problems, if there are any.

        Raises:
            UserError: There are some.
        """
        if len(self._sentences) == 1:
            raise UserError(self._sentences[0])
        if self._sentences:
            parts = (f"({n}) {sentence}" for n, sentence in enumerate(self._sentences, 1))
            raise UserError(f"{len(self._sentences)} problems: {' '.join(parts)}")


def wanted_column(side: Side, events: ParquetTable, wanted: WantedIds) -> str | None:
    """Checks the column of the events that the user names.

    Raises:
        UserError: The events have no such column, or it holds no ids.
    """
    name = wanted.column(side)
    return None if name is None else _checked(f"--{side}-column", name, events)


def wanted_key(side: Side, table: ParquetTable | None, wanted: WantedIds) -> str | None:
    """Checks the column of the side's table that the user names.

    Raises:
        UserError: There is no table, or it has no such column, or it holds no ids.
    """
    name, what = wanted.key(side), TABLES[side]
    if name is None:
        return None
    if table is None:
        raise UserError(f"--{what}-id names a column of the {what}; give these with --{what}.")
    return _checked(f"--{what}-id", name, table)


def _checked(option: str, name: str, table: ParquetTable) -> str:
    if name in table.conflicts:
        raise UserError(
            f"{option} {name}: the column cannot be read, because {table.conflicts[name]}; "
            "give all files one type."
        )
    if name not in table.schema.names:
        raise UserError(f"{option} {name}: {no_such_column(name, table)}")
    if not holds_ids(table, name):
        raise UserError(
            f"{option} {name}: the column is {table.schema.field(name).type}; expected strings or "
            "whole numbers; cast it, or name another."
        )
    return name


def no_such_column(name: str, table: ParquetTable) -> str:
    """Explains that a table has no such column, and which it may be or what there is."""
    names = table.schema.names
    close = get_close_matches(name, names, 1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"the {table.what} have no such column, but {', '.join(names)}.{hint}"


def can_be_id(table: ParquetTable, name: str) -> bool:
    """Checks whether a column has the type of most ids."""
    kind = table.schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind))


def holds_ids(table: ParquetTable, name: str) -> bool:
    """Checks whether a column that is named like an id holds ids, whole doubles for example."""
    if can_be_id(table, name) or not is_id_type(table.schema.field(name).type):
        return can_be_id(table, name)
    given = table.read(name, _GLANCE)[0].drop_null()
    return len(given) > 0 and id_strings(given).null_count < len(given)
