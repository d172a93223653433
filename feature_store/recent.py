"""A query's recent history: its latest events, by time and then by item id, the newest last."""

from collections.abc import Iterable

import pyarrow as pa

Event = tuple[int, str]  # Microseconds since 1970, item id.

# Of the rows that hold a history.
HISTORY_SCHEMA = pa.schema(
    [
        pa.field("items", pa.list_(pa.string())),
        pa.field("timestamps", pa.list_(pa.timestamp("us", "UTC"))),
    ]
)


def recent(events: Iterable[Event], *, max_length: int, distinct: bool) -> list[Event]:
    """The newest of some events, each counted once, in order.

    The same whatever order the events come in, and however often: what `past_history` of all of
    them gives a target after the last one.

    Args:
        events: Of one query.
        max_length: Of the result.
        distinct: An item that repeats is kept only where it came last.
    """
    ordered = sorted(set(events))
    if distinct:
        last = {item: position for position, (_, item) in enumerate(ordered)}
        ordered = [event for position, event in enumerate(ordered) if last[event[1]] == position]
    return ordered[-max_length:]
