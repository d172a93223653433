"""Choice of the column of times, among all columns of the events that hold some."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import cast, get_args

from feature_store.calendar.reading import is_time_type
from feature_store.calendar.units import TimeUnit
from feature_store.core.errors import UserError
from pipelines.logs.clock import Clock, Recognised, recognise, recognise_column
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.owners import find_owners
from recsys.autoconfig.columns.time_notes import (
    Candidate,
    chosen_note,
    doubt_note,
    possible_note,
    problem,
    refusal_note,
    remedy,
)
from recsys.autoconfig.columns.wanted import no_such_column
from recsys.autoconfig.names import named, words_of

# Names of the time of an event, in order of preference.
_TIME_NAMES = (
    "timestamp ts time datetime date eventtime eventtimestamp unixreviewtime unixtime createdat "
    "occurredat timestampms reviewtime visittime clicktime eventdate day dt ds"
)
# Words in names of other times than that of the event.
_OTHER_TIMES = re.compile(
    "birth(day|date)?|born|dob|deleted|delivered|expir(y|es|ed|ation)|exported|ingest(ed|ion)?"
    "|joined|loaded|modified|processed|publish(ed)?|registered|registration|release(d)?|signup"
    "|shipped|start|end|updated"
)
# Rows that show what a column without a known name holds, and whether dates are of events.
_GLANCE, _FIRST = 20_000, 200
# Units of numbers without a known name: long numbers in other units are ids more often than times.
_UNITS_OF_ANY: tuple[TimeUnit, ...] = ("s", "ms", "yyyymmdd")
_UNITS_OF_TEXT: tuple[TimeUnit | None, ...] = (None, "dmy", "mdy", "ymd")
# Part of the rows without a time from which another column is preferred.
_MISSING_FROM = 0.1


@dataclass(frozen=True)
class WantedTime:
    """The column and the unit that the user gives.

    Attributes:
        column: Column of times; None: it is chosen.
        unit: Meaning of its values; None: it is recognised.
    """

    column: str | None = None
    unit: TimeUnit | None = None

    @classmethod
    def of(cls, column: str | None, unit: str | None) -> "WantedTime":
        """Checks the unit that a user gives.

        Raises:
            UserError: There is no such unit.
        """
        if unit is not None and unit not in get_args(TimeUnit):
            known = ", ".join(get_args(TimeUnit))
            raise UserError(f"--timestamp-unit {unit} is unknown; expected one of: {known}.")
        return cls(column, cast(TimeUnit | None, unit))


@dataclass(frozen=True)
class TimeChoice:
    """The column of times, and what is to be said about it.

    Attributes:
        column: Column of times; None where there is none.
        clock: Reading of the column.
        why: Reason for the choice, for the document.
        notes: Sentences for the terminal.
    """

    column: str | None
    clock: Clock
    why: str
    notes: tuple[str, ...]


def time_candidates(events: ParquetTable, names: list[str], wanted: WantedTime) -> list[Candidate]:
    """Finds the columns that hold times, in the order of the file.

    Raises:
        UserError: The wanted column is not there, or is not read as times.
    """
    now = datetime.now(UTC)
    if wanted.column is not None:
        return [_wanted(events, wanted.column, wanted.unit, now)]
    order = named(names, _TIME_NAMES)
    candidates: list[Candidate] = []
    for name in names:
        kind = events.schema.field(name).type
        if name in order:
            found = recognise_column(events, name, now)
            if not found.clock.is_real and found.problem is None and words_of(name)[-1:] == ["day"]:
                found = replace(found, problem=f"holds days of a month, such as {found.example}")
            rank = order.index(name)
        elif is_time_type(kind) and (unnamed := _by_content(events, name, now)) is not None:
            if wanted.unit is None and _may_be_id(unnamed, now):
                continue
            found, rank = unnamed, None
        else:
            continue
        if wanted.unit is not None:
            other = recognise_column(events, name, now, wanted.unit)
            found = other if other.clock.is_real else found
        candidates.append(Candidate(name, str(kind), rank, found))
    if wanted.unit is not None and not any(
        one.found.clock.unit == wanted.unit for one in candidates
    ):
        raise UserError(
            f"--timestamp-unit {wanted.unit}: no column is read so; the columns that may hold "
            f"times are: {', '.join(one.name for one in candidates) or 'none'}. Name one with "
            "--timestamp-column."
        )
    return candidates


def choose_time(
    events: ParquetTable,
    candidates: list[Candidate],
    query: str,
    item: str,
    bookkeeping: Collection[str],
) -> TimeChoice:
    """Chooses the column that can be the time of each event.

    Args:
        events: Table of the events.
        candidates: Columns that `time_candidates` finds.
        query: Column of the query ids.
        item: Column of the item ids.
        bookkeeping: Columns about how the rows were written.
    """
    owners = find_owners(events, [one.name for one in candidates if one.is_usable], query, item)
    candidates = [replace(one, owner=owners.get(one.name)) for one in candidates]
    rank = partial(_rank, events, bookkeeping)
    ranked = sorted((one for one in candidates if one.is_usable), key=rank)
    # Dates of items, such as that of their release, are no times of events by any other name.
    chosen = next((one for one in ranked if one.rank is not None or one.owner != "item"), None)
    refused = [one for one in candidates if chosen is None or not one.is_usable]
    unreadable = [
        f"column {name!r} cannot be read, because {events.conflicts[name]}"
        for name in named(events.conflicts, _TIME_NAMES)
    ]
    notes = [f"WARNING: {why}; give the times of all files one type." for why in unreadable]
    notes += [refusal_note(one) for one in refused]
    if chosen is None:
        free = [n for n in events.schema.names if n not in (query, item, *bookkeeping)]
        notes += _possible(events, [n for n in free if n not in owners])
        why = "; ".join([*unreadable, *map(problem, refused)])
        return TimeChoice(None, Clock(None, False), why, tuple(notes))
    others = [one for one in ranked if one is not chosen]
    if others or refused or not chosen.is_plain:
        notes.insert(0, chosen_note(chosen, others))
    if chosen.found.doubt:
        notes.append(doubt_note(chosen))
    why = ""
    if chosen.rank is None:
        best = (
            "the column of dates that fits best" if others else "the only column that holds dates"
        )
        why = f"not a known name, but {best}"
    return TimeChoice(chosen.name, chosen.found.clock, why, tuple(notes))


def _possible(events: ParquetTable, names: list[str]) -> list[str]:
    """Describes the columns whose numbers may be times, though no name says so."""
    notes: list[str] = []
    now = datetime.now(UTC)
    for name in names:
        kind = events.schema.field(name).type
        found = _by_content(events, name, now) if is_time_type(kind) else None
        if found is not None and found.problem is None and not found.is_future:
            notes.append(possible_note(Candidate(name, str(kind), None, found)))
    return notes


def _wanted(events: ParquetTable, name: str, unit: TimeUnit | None, now: datetime) -> Candidate:
    if name in events.conflicts:
        raise UserError(
            f"--timestamp-column {name}: the column cannot be read, because "
            f"{events.conflicts[name]}; give all files one type."
        )
    if name not in events.schema.names:
        raise UserError(f"--timestamp-column {name}: {no_such_column(name, events)}")
    one = Candidate(
        name, str(events.schema.field(name).type), 0, recognise_column(events, name, now, unit)
    )
    if one.found.problem is not None:
        raise UserError(f"--timestamp-column: {problem(one)}. {remedy(one)}")
    return replace(one, found=replace(one.found, is_future=False))  # As the user wants.


def _by_content(events: ParquetTable, name: str, now: datetime) -> Recognised | None:
    """Recognises a column whose name says nothing; None where it holds no dates."""
    column = events.read(name, _GLANCE)[0]
    first = recognise(column.slice(0, _FIRST), now)
    if first.problem is not None and not first.needs_more:
        return None
    found = recognise_column(events, name, now) if first.needs_more else recognise(column, now)
    return found if found.clock.is_real or found.choices else None


def _may_be_id(found: Recognised, now: datetime) -> bool:
    """Checks whether a column may hold long numbers that are ids, by chance like times."""
    if found.clock.unit in _UNITS_OF_TEXT:
        return False
    is_past = found.last is not None and found.last <= now
    return found.clock.unit not in _UNITS_OF_ANY or not is_past


def _rank(events: ParquetTable, bookkeeping: Collection[str], one: Candidate) -> tuple[float, ...]:
    """Returns the key by which candidates are sorted, the best first."""
    found = one.found
    return (
        one.owner == "item",
        # The date of a directory is coarser than any time inside its files.
        one.name in events.partition,
        not found.clock.is_real,
        one.owner == "query",
        found.odd + found.empty > _MISSING_FROM,
        one.rank is None,
        one.rank or 0,
        one.name in bookkeeping,
        any(_OTHER_TIMES.fullmatch(word) for word in words_of(one.name)),
        # Equal in all else, the finer one; the order of the file decides the rest.
        -found.distinct,
    )
