"""Roles of the log's columns: by their names, and where names fail by their contents."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from pipelines.logs.clock import Clock
from pipelines.logs.needs import is_id_type
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.bookkeeping import is_index_name
from recsys.autoconfig.event_words import is_type_name, label_meaning
from recsys.autoconfig.given_split import find_split, split_notes
from recsys.autoconfig.names import named
from recsys.autoconfig.times import WantedTime, choose_time, time_candidates

Side = Literal["query", "item"]

# Names in order of preference, in lower case and without anything but letters and digits.
_ID_NAMES: dict[Side, str] = {
    "query": "queryid userid user uid customerid customer visitorid memberid accountid profileid "
    "clientid buyerid reviewerid deviceid personid playerid sessionid session query",
    "item": "itemid item productid product movieid asin parentasin sku articleid trackid songid "
    "artistid videoid bookid isbn newsid contentid documentid docid adid businessid listingid "
    "offerid gameid recipeid venueid poiid appid postid movie article",
}
RATING_NAMES = "rating ratings stars star score overall reviewscore"
WEIGHT_NAMES = "weight sampleweight exampleweight"
# Events whose ids are looked up in the items or queries, and rows that show what a column holds.
_LOOKED_UP = 200_000
_GLANCE = 20_000
# An id column of items or queries has no repeats and holds most ids of the events.
_UNIQUE_FROM, _CONTAINED_FROM = 0.95, 0.5


@dataclass(frozen=True)
class Roles:
    """Columns of the log by role.

    Args:
        query: Column of query ids.
        item: Column of item ids.
        query_key: Column of the ids in the table of queries; None: named as in the events.
        item_key: Column of the ids in the table of items; None: named as in the events.
        timestamp: Column of timestamps.
        clock: Reading of the timestamps.
        times: Columns that hold times, or have the name of one.
        notes: Sentences on times and splits for the terminal.
        rating: Column of ratings.
        weight: Column of weights.
        split: Column that says which split an event belongs to.
        guesses: Reasons by role: a column without a known name was taken, or a known name was not.
    """

    query: str
    item: str
    query_key: str | None = None
    item_key: str | None = None
    timestamp: str | None = None
    clock: Clock = field(default_factory=lambda: Clock(None, False))
    times: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rating: str | None = None
    weight: str | None = None
    split: str | None = None
    guesses: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        """All columns that have a role."""
        names = [self.query, self.item, self.timestamp, self.rating, self.weight, self.split]
        return {name for name in (*names, self.query_key, self.item_key) if name is not None}

    def key_of(self, side: Side) -> str:
        """Returns the column of the items or the queries that holds their ids."""
        key, own = (self.item_key, self.item) if side == "item" else (self.query_key, self.query)
        return key or own


def find_roles(
    events: ParquetTable,
    items: ParquetTable | None,
    queries: ParquetTable | None,
    bookkeeping: Collection[str] = (),
    wanted: WantedTime | None = None,
) -> Roles:
    """Finds the columns of a log.

    Args:
        events: Events.
        items: Items, if there is a table.
        queries: Queries, if there is a table.
        bookkeeping: Columns of the events that are ids only if their name says so.
        wanted: Column and unit of the times in place of those that are found.

    Raises:
        UserError: There is no plausible id, it cannot be read, or the tables call it differently.
    """
    guesses: dict[str, str] = {}
    _require_one_type(events)
    item, item_key = _find_id("item", events, items, set(), bookkeeping, guesses)
    taken = {item} if item is not None else set()
    query, query_key = _find_id("query", events, queries, taken, bookkeeping, guesses)
    # Where a file lacks the column, no event of it could be used.
    free = [n for n in events.schema.names if n not in (item, query, *events.partial)]
    candidates = time_candidates(events, free, wanted or WantedTime())
    times = tuple(candidate.name for candidate in candidates)
    rating = _find_number(events, free, RATING_NAMES)
    weight = _find_number(events, free, WEIGHT_NAMES)
    split = find_split(events, free)
    known = (*times, rating, weight, split, *bookkeeping)
    free = [name for name in free if name not in known]
    if item is None and query is not None:
        item = _only_one_left("item", events, free, guesses)
    elif query is None and item is not None:
        query = _only_one_left("query", events, free, guesses)
    if item is None or query is None:
        raise _no_id("query" if item is not None else "item", events)
    for name in (item, query):
        if name in events.partial:
            raise UserError(
                f"events: {events.partial[name]} has no column {name!r}, which other files have "
                "and which holds ids; write it again or take it away."
            )
    time = choose_time(events, candidates, query, item, bookkeeping)
    if time.why:
        guesses["timestamp"] = time.why
    return Roles(
        query,
        item,
        query_key,
        item_key,
        timestamp=time.column,
        clock=time.clock,
        times=times,
        notes=(*time.notes, *split_notes(events, free if split is None else [])),
        rating=rating,
        weight=weight,
        split=split,
        guesses=guesses,
    )


def _require_one_type(events: ParquetTable) -> None:
    """Checks that no column is passed over that would be an id if it could be read.

    Raises:
        UserError: The column with the most preferred name of an id has no one type.
    """
    for names in _ID_NAMES.values():
        first = next(iter(named([*events.schema.names, *events.conflicts], names)), None)
        if first in events.conflicts:
            raise UserError(
                f"events: column {first!r}, which may hold ids, cannot be read, because "
                f"{events.conflicts[first]}; give all files one column of that name and of one "
                "type."
            )


def _can_be_id(table: ParquetTable, name: str) -> bool:
    kind = table.schema.field(name).type
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind))


def _holds_ids(table: ParquetTable, name: str) -> bool:
    """Checks whether a column that is named like an id holds ids, whole doubles for example."""
    if _can_be_id(table, name) or not is_id_type(table.schema.field(name).type):
        return _can_be_id(table, name)
    given = table.read(name, _GLANCE)[0].drop_null()
    return len(given) > 0 and id_strings(given).null_count < len(given)


def _find_id(
    side: Side,
    events: ParquetTable,
    table: ParquetTable | None,
    taken: set[str],
    bookkeeping: Collection[str],
    guesses: dict[str, str],
) -> tuple[str | None, str | None]:
    """Finds the id of one side; None where only the columns left over can tell.

    Returns:
        id: Column of the events.
        key: Column of the side's table, if it has another name.
    """
    free = [n for n in events.schema.names if n not in taken]
    possible = [n for n in free if _can_be_id(events, n)]
    by_name = [n for n in named(free, _ID_NAMES[side]) if _holds_ids(events, n)]
    if not by_name:
        _refuse_other_types(side, events)
    if table is None:
        return (by_name[0] if by_name else None), None
    shared = [n for n in by_name if n in table.schema.names and _holds_ids(table, n)]
    if shared:
        chosen = next((n for n in shared if len(shared) > 1 and _is_unique(table, n)), shared[0])
        _check_overlap(side, events, table, chosen)
        return chosen, None
    others = [name for name in possible if name not in bookkeeping]
    match = _best_match(events, by_name or others, table)
    if match is None:
        raise _no_such_id(side, table, by_name[0]) if by_name else _no_id(side, events)
    in_events, in_table = match
    if in_events not in by_name:
        guesses[side] = f"not a known name, but its values are the ids of {table.what}"
    return in_events, in_table if in_table != in_events else None


def _refuse_other_types(side: Side, events: ParquetTable) -> None:
    for name in named(events.schema.names, _ID_NAMES[side]):
        if not _holds_ids(events, name):
            raise UserError(
                f"events: the {side} id {name!r} is {events.schema.field(name).type}; "
                "expected strings or whole numbers; cast the column."
            )


def _no_id(side: Side, events: ParquetTable) -> UserError:
    examples = {"query": "query_id, user_id or session_id", "item": "item_id, product_id or asin"}
    return UserError(
        f"events: no column looks like the {side} id; the log has: "
        f"{', '.join(events.schema.names)}; expected a name such as {examples[side]}, "
        f"or ids that the {'items' if side == 'item' else 'queries'} list; rename the column."
    )


def _no_such_id(side: Side, table: ParquetTable, name: str) -> UserError:
    return UserError(
        f"{table.what}: no column is the {side} id, which the events call {name!r}; it has: "
        f"{', '.join(table.schema.names)}; rename the column that holds these ids to {name!r}."
    )


def _ids(table: ParquetTable, name: str, max_rows: int | None = None) -> tuple[pa.Array, float]:
    """Reads ids as strings, and returns the fraction of the table that was read."""
    array, exact = table.read(name, max_rows) if max_rows else table.read(name)
    share = 1.0 if exact else len(array) / max(1, table.rows)
    return id_strings(array.drop_null()), share


def _is_unique(table: ParquetTable, name: str) -> bool:
    ids, _ = _ids(table, name)
    return len(ids) > 0 and len(pc.unique(ids)) >= _UNIQUE_FROM * len(ids)


def _check_overlap(side: Side, events: ParquetTable, table: ParquetTable, name: str) -> None:
    used, _ = _ids(events, name, _LOOKED_UP)
    listed, share = _ids(table, name)
    if share == 1 and len(used) and not pc.any(pc.is_in(used, value_set=listed)).as_py():
        example = repr(listed[0].as_py()) if len(listed) else "nothing"
        raise UserError(
            f"no {side} of the events is in the {table.what}: column {name!r} holds "
            f"{used[0].as_py()!r} in the events and {example} in the {table.what}; "
            "give both the same ids."
        )


def _best_match(
    events: ParquetTable, columns: list[str], table: ParquetTable
) -> tuple[str, str] | None:
    """Finds the column of the events and the unique column that share the most values."""
    keys_by_name = named(table.schema.names, f"{_ID_NAMES['item']} {_ID_NAMES['query']} id key")
    keys = {
        name: _ids(table, name)
        for name in table.schema.names
        if (_holds_ids(table, name) if name in keys_by_name else _can_be_id(table, name))
        and not is_index_name(name)
        and _is_unique(table, name)
    }
    best: tuple[float, str, str] | None = None
    for column in columns:
        used = pc.unique(_ids(events, column, _LOOKED_UP)[0])
        for key, (listed, share) in keys.items():
            common = int(pc.sum(pc.is_in(used, value_set=listed)).as_py() or 0)
            if not common or common / share < _CONTAINED_FROM * len(used):
                continue
            # Small numbers are contained in many columns: their own table has few others.
            score = common / (len(used) + len(listed) - common)
            score += 2 * (column == key) + (key in keys_by_name)
            if best is None or score > best[0]:
                best = (score, column, key)
    return best[1:] if best else None


def _only_one_left(
    side: Side, events: ParquetTable, free: list[str], guesses: dict[str, str]
) -> str | None:
    left = [
        name
        for name in free
        if name not in events.partition
        and _can_be_id(events, name)
        and not (is_type_name(name) or label_meaning(name) or _has_few_values(events, name))
    ]
    if len(left) != 1:
        return None
    guesses[side] = "not a known name, but no other column can be it"
    return left[0]


def _has_few_values(events: ParquetTable, name: str) -> bool:
    """Returns whether a column has at most two values, as labels do."""
    return len(pc.unique(events.read(name, _LOOKED_UP)[0].drop_null())) <= 2


def _find_number(events: ParquetTable, free: list[str], names: str) -> str | None:
    for name in named(free, names):
        kind = events.schema.field(name).type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return name
    return None
