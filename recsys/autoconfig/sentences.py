"""Sentences of `recsys init` for the terminal: what it did not read, left out or guessed."""

from collections.abc import Sequence

from recsys.autoconfig.document import Findings
from recsys.autoconfig.figures import percent
from recsys.config.yaml_writer import scalar

# Columns without a feature that are named, of each table.
_NAMED = 10
# Share of events without a listed item from which this is a warning.
_MANY_UNLISTED = 0.1


def sentences(found: Findings) -> list[str]:
    """Returns one sentence for each finding that the reader should not miss."""
    tables = [table for table in (found.events, found.items, found.queries) if table is not None]
    notes = [note for table in tables for note in table.notes]
    sides = [*_times(found), *found.positives.sentences()]
    left_out = [*_bookkeeping(found), *_unlisted(found), *_of_items(found), *_left_out(found)]
    return [*notes, *sides, *left_out, *_sharing(found), *_repeats(found)]


def listed(words: Sequence[str]) -> str:
    """Joins words: `events, items and queries`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _times(found: Findings) -> list[str]:
    name, split = found.roles.timestamp, found.split
    notes = list(found.roles.notes)
    if name is not None and split.timestamp is None:
        return [*notes, f"{name!r} is not used: {' '.join(split.why)}"]
    if split.split.kind != "random_hash" or split.is_wanted:
        return notes
    why = " ".join(split.why)
    hint = " If a column holds times, name it with --timestamp-column." if name is None else ""
    return [*notes, f"{why}{hint}"]


def _unlisted(found: Findings) -> list[str]:
    if found.unlisted == 0:
        return []
    warning = "WARNING: " if found.unlisted >= _MANY_UNLISTED else ""
    return [
        f"{warning}{percent(found.unlisted)} of events are of items that the table of items lacks: "
        "prepare puts them aside; to keep them, add these items"
    ]


def _of_items(found: Findings) -> list[str]:
    names = found.context.of_items
    if not names:
        return []
    columns = f"{listed([*map(scalar, names[:_NAMED])])} of the events"
    verb = "is" if len(names) == 1 else "are"
    return [
        f"{columns} {verb} the same in all events of an item, so a property of items and no "
        "context; to learn from it, write a row for each item, and give the table with --items"
    ]


def _bookkeeping(found: Findings) -> list[str]:
    tables: dict[tuple[str, str], list[str]] = {}
    for table, columns in found.bookkeeping.items():
        for name, reason in columns.items():
            tables.setdefault((name, reason), []).append(table)
    if not tables:
        return []
    parts = [
        f"{scalar(name)} of {listed(where)} ({reason})" for (name, reason), where in tables.items()
    ]
    return [f"left out, because they describe rows and nothing else: {'; '.join(parts)}"]


def _left_out(found: Findings) -> list[str]:
    """Returns sentences on columns of items and queries that are left out, or read in part."""
    sentences: list[str] = []
    for table, choices in (("items", found.item_choices), ("queries", found.query_choices)):
        known = {*found.bookkeeping.get(table, {}), found.roles.item, found.roles.query}
        own = [choice for choice in choices if choice.name not in known]
        left = [choice for choice in own if choice.feature is None]
        if left:
            parts = [f"{scalar(choice.name)} ({choice.why})" for choice in left[:_NAMED]]
            more = f"; and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
            sentences.append(
                f"{len(left)} of {len(own)} columns of {table} are no features: "
                f"{'; '.join(parts)}{more}"
            )
        sentences += [
            f"{scalar(choice.name)} of {table} is read in part: {choice.why}; these are absent"
            for choice in own
            if choice.feature is not None and choice.is_news
        ]
    return sentences


def _sharing(found: Findings) -> list[str]:
    for choice in found.query_choices:
        if choice.feature is not None and choice.feature.is_id and choice.feature.shared_table:
            return [
                f"queries are taken for items, so they share their tables, and none is recommended "
                f"to itself: {choice.why}; if they are other things, remove shares from "
                f"features.query"
            ]
    return []


def _repeats(found: Findings) -> list[str]:
    choice = found.repeats
    return [f"data.repeats is {choice.repeats}: {choice.why}"] if choice.is_news else []
