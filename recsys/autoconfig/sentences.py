"""Sentences of `recsys init` for the terminal: what it did not read, left out or guessed."""

from collections.abc import Sequence

from recsys.autoconfig.document import Findings
from recsys.autoconfig.features import NUMBERS_AS_TEXT
from recsys.config.yaml_writer import scalar


def sentences(found: Findings) -> list[str]:
    """Returns one sentence for each finding that the reader should not miss."""
    tables = [table for table in (found.events, found.items, found.queries) if table is not None]
    notes = [note for table in tables for note in table.notes]
    sides = [*_times(found), *found.positives.sentences()]
    left_out = [*_bookkeeping(found), *_numbers_as_text(found)]
    return [*notes, *sides, *left_out, *_sharing(found), *_repeats(found)]


def listed(words: Sequence[str]) -> str:
    """Joins words: `events, items and queries`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _times(found: Findings) -> list[str]:
    name, split = found.roles.timestamp, found.split
    if name is None or split.timestamp is not None:
        return list(found.roles.notes)
    return [*found.roles.notes, f"{name!r} is not used: {' '.join(split.why)}"]


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


def _numbers_as_text(found: Findings) -> list[str]:
    sides = (("items", found.item_choices), ("queries", found.query_choices))
    names = [
        f"{scalar(choice.name)} of {table}"
        for table, choices in sides
        for choice in choices
        if choice.why == NUMBERS_AS_TEXT
    ]
    if not names:
        return []
    return [f"left out, because they are {NUMBERS_AS_TEXT}: {listed(names)}; cast them to use them"]


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
