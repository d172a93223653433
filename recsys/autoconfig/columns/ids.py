"""Columns of ids: those that the user names, else found by name, or where that fails by content."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from feature_store.schema import Side
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.columns.bookkeeping import is_index_name
from recsys.autoconfig.columns.wanted import (
    TABLES,
    Problems,
    WantedIds,
    can_be_id,
    holds_ids,
    wanted_column,
    wanted_key,
)
from recsys.autoconfig.event_words import is_type_name, label_meaning
from recsys.autoconfig.names import named

# Names in order of preference, in lower case and without anything but letters and digits.
_COMMON_NAMES: dict[Side, str] = {
    "query": "queryid userid user uid customerid customer visitorid memberid accountid profileid "
    "clientid buyerid reviewerid readerid listenerid viewerid subscriberid shopperid guestid "
    "studentid patientid householdid deviceid personid playerid sessionid session query",
    "item": "itemid item productid product movieid asin parentasin sku articleid trackid songid "
    "artistid videoid bookid isbn newsid contentid documentid docid adid businessid listingid "
    "offerid gameid recipeid venueid poiid appid postid movie article",
}
# Other words for an id, as in `session_key` and `customer_no`; the common names come first.
_OTHER_ENDINGS = ["key", "no", "nr", "num", "number", "code", "uid", "uuid", "guid", "hash"]
_ID_NAMES: dict[Side, str] = {
    side: " ".join(
        [
            names,
            *(
                f"{name.removesuffix('id')}{ending}"
                for name in names.split()
                if name.endswith("id") and name != "uid"
                for ending in _OTHER_ENDINGS
            ),
        ]
    )
    for side, names in _COMMON_NAMES.items()
}
# Events whose ids are looked up in the items or queries.
_LOOKED_UP = 200_000
# An id column of items or queries has no repeats and holds most ids of the events.
_UNIQUE_FROM, _CONTAINED_FROM = 0.95, 0.5


@dataclass(frozen=True)
class IdChoice:
    """The id of one side.

    Attributes:
        column: Column of the events; empty where only the columns left over can tell.
        key: Column of the side's table, if it has another name.
        why: Reason for a column without a known name.
    """

    column: str = ""
    key: str | None = None
    why: str = ""


def find_ids(
    events: ParquetTable,
    tables: dict[Side, ParquetTable | None],
    bookkeeping: Collection[str],
    wanted: WantedIds,
    problems: Problems,
) -> dict[Side, IdChoice]:
    """Finds the ids, without the sides that have a problem.

    Args:
        events: Events.
        tables: Table of each side, if there is one.
        bookkeeping: Columns of the events that are ids only if their name says so.
        wanted: Columns that the user names.
        problems: Problems, to which those of the ids are added.
    """
    found: dict[Side, IdChoice] = {}
    if wanted.query is not None and wanted.query == wanted.item:
        same = f"--query-column and --item-column are both {wanted.query}; give two columns."
        problems.add(UserError(same))
        return {}
    sides: tuple[tuple[Side, str | None], ...] = (("item", wanted.query), ("query", None))
    for side, other in sides:
        column = problems.attempt(partial(wanted_column, side, events, wanted))
        key = problems.attempt(partial(wanted_key, side, tables[side], wanted))
        if (column, key) != (wanted.column(side), wanted.key(side)):
            continue
        taken = {choice.column for choice in found.values()} | {other}
        choice = problems.attempt(
            partial(_find_id, side, events, tables[side], taken, bookkeeping, column, key)
        )
        if choice is not None:
            found[side] = choice
    return found


def certain_ids(
    events: ParquetTable, found: dict[Side, IdChoice], free: list[str], problems: Problems
) -> tuple[IdChoice, IdChoice]:
    """Completes the ids by the columns left over.

    Args:
        events: Events.
        found: Result of `find_ids`.
        free: Columns without another role.
        problems: Problems, to which an id that is still missing, or is in some files alone, is
            added.

    Returns:
        query: Id of the queries, without a column where that is a problem.
        item: Id of the items, likewise.
    """
    missing = [side for side, choice in found.items() if not choice.column]
    if len(missing) == 1 and len(found) == 2:
        left = _left_over(events, free)
        if len(left) == 1:
            why = "not a known name, but no other column can be it"
            found = found | {missing.pop(): IdChoice(left[0], None, why)}
    for side in missing:
        problems.add(_no_id(side, events))
    for choice in found.values():
        if choice.column in events.partial:
            problems.add(
                UserError(
                    f"events: {events.partial[choice.column]} has no column {choice.column!r}, "
                    "which other files have and which holds ids; write it again or take it away."
                )
            )
    return found.get("query", IdChoice()), found.get("item", IdChoice())


def _find_id(
    side: Side,
    events: ParquetTable,
    table: ParquetTable | None,
    taken: Collection[str | None],
    bookkeeping: Collection[str],
    column: str | None,
    key: str | None,
) -> IdChoice:
    free = [n for n in events.schema.names if n not in taken]
    if column is None:
        _require_one_type(side, events)
    by_name = [n for n in named(free, _ID_NAMES[side]) if holds_ids(events, n)]
    by_name = by_name if column is None else [column]
    if not by_name:
        _refuse_other_types(side, events)
    given = "" if column is None else f"as given by --{side}-column"
    if table is None:
        return IdChoice(by_name[0] if by_name else "", None, given)
    shared = [n for n in by_name if n in table.schema.names and holds_ids(table, n)]
    if shared and key is None:
        chosen = next((n for n in shared if len(shared) > 1 and _is_unique(table, n)), shared[0])
        _check_overlap(side, events, chosen, table, chosen)
        return IdChoice(chosen, None, given)
    if by_name and key is not None:
        chosen = (_best_match(events, by_name, table, key) or by_name)[0]
        _check_overlap(side, events, chosen, table, key)
        return IdChoice(chosen, key if key != chosen else None, given)
    possible = [n for n in free if can_be_id(events, n) and n not in bookkeeping]
    match = _best_match(events, by_name or possible, table, key)
    if match is None:
        raise _no_such_id(side, table, by_name[0]) if by_name else _no_id(side, events)
    in_events, in_table = match
    if in_events not in by_name:
        given = f"not a known name, but its values are the ids of {table.what}"
    return IdChoice(in_events, in_table if in_table != in_events else None, given)


def _require_one_type(side: Side, events: ParquetTable) -> None:
    """Checks that no column is passed over that would be an id if it could be read.

    Raises:
        UserError: The column with the most preferred name of an id has no one type.
    """
    first = next(iter(named([*events.schema.names, *events.conflicts], _ID_NAMES[side])), None)
    if first in events.conflicts:
        raise UserError(
            f"events: column {first!r}, which may hold ids, cannot be read, because "
            f"{events.conflicts[first]}; give all files one column of that name and of one "
            "type."
        )


def _refuse_other_types(side: Side, events: ParquetTable) -> None:
    for name in named(events.schema.names, _ID_NAMES[side]):
        if not holds_ids(events, name):
            raise UserError(
                f"events: the {side} id {name!r} is {events.schema.field(name).type}; "
                f"expected strings or whole numbers; cast the column, or name another with "
                f"--{side}-column."
            )


def _no_id(side: Side, events: ParquetTable) -> UserError:
    examples = {"query": "query_id, user_id or session_id", "item": "item_id, product_id or asin"}
    return UserError(
        f"events: no column looks like the {side} id; the log has: "
        f"{', '.join(events.schema.names)}; expected a name such as {examples[side]}, "
        f"or ids that the {TABLES[side]} list; name the column with --{side}-column."
    )


def _no_such_id(side: Side, table: ParquetTable, name: str) -> UserError:
    return UserError(
        f"{table.what}: no column is the {side} id, which the events call {name!r}; it has: "
        f"{', '.join(table.schema.names)}; name the column that holds these ids with "
        f"--{table.what}-id."
    )


def _ids(table: ParquetTable, name: str, max_rows: int | None = None) -> tuple[pa.Array, float]:
    """Reads ids as strings, and returns the fraction of the table that was read."""
    array, exact = table.read(name, max_rows) if max_rows else table.read(name)
    share = 1.0 if exact else len(array) / max(1, table.rows)
    return id_strings(array.drop_null()), share


def _is_unique(table: ParquetTable, name: str) -> bool:
    ids, _ = _ids(table, name)
    return len(ids) > 0 and len(pc.unique(ids)) >= _UNIQUE_FROM * len(ids)


def _check_overlap(
    side: Side, events: ParquetTable, name: str, table: ParquetTable, key: str
) -> None:
    used, _ = _ids(events, name, _LOOKED_UP)
    listed, share = _ids(table, key)
    if share == 1 and len(used) and not pc.any(pc.is_in(used, value_set=listed)).as_py():
        example = repr(listed[0].as_py()) if len(listed) else "nothing"
        there = example if key == name else f"{key!r} holds {example}"
        raise UserError(
            f"no {side} of the events is in the {table.what}: column {name!r} holds "
            f"{used[0].as_py()!r} in the events and {there} in the {table.what}; "
            f"give both the same ids, or name the columns with --{side}-column and "
            f"--{table.what}-id."
        )


def _best_match(
    events: ParquetTable, columns: list[str], table: ParquetTable, key: str | None
) -> tuple[str, str] | None:
    """Finds the column of the events and the unique column that share the most values."""
    keys_by_name = named(table.schema.names, f"{_ID_NAMES['item']} {_ID_NAMES['query']} id key")
    keys = {
        name: _ids(table, name)
        for name in (table.schema.names if key is None else [key])
        if (holds_ids(table, name) if name in (*keys_by_name, key) else can_be_id(table, name))
        and (name == key or (not is_index_name(name) and _is_unique(table, name)))
    }
    best: tuple[float, str, str] | None = None
    for column in columns:
        used = pc.unique(_ids(events, column, _LOOKED_UP)[0])
        for name, (listed, share) in keys.items():
            common = int(pc.sum(pc.is_in(used, value_set=listed)).as_py() or 0)
            if not common or common / share < _CONTAINED_FROM * len(used):
                continue
            # Small numbers are contained in many columns: their own table has few others.
            score = common / (len(used) + len(listed) - common)
            score += 2 * (column == name) + (name in keys_by_name)
            if best is None or score > best[0]:
                best = (score, column, name)
    return best[1:] if best else None


def _left_over(events: ParquetTable, free: list[str]) -> list[str]:
    """Returns the columns without a role that can be ids."""
    return [
        name
        for name in free
        if name not in events.partition
        and can_be_id(events, name)
        and not (is_type_name(name) or label_meaning(name) or _has_few_values(events, name))
    ]


def _has_few_values(events: ParquetTable, name: str) -> bool:
    """Returns whether a column has at most two values, as labels do."""
    return len(pc.unique(events.read(name, _LOOKED_UP)[0].drop_null())) <= 2
