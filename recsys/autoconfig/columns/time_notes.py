"""Columns that hold times, and the sentences about them on the terminal."""

from dataclasses import dataclass

from feature_store.schema import Side
from pipelines.logs.clock import UNDERSTOOD, UNIT_NAMES, Recognised
from recsys.autoconfig.figures import percent

# Part of the events without a time from which the user is warned.
_MISSING_FROM = 0.1


@dataclass(frozen=True)
class Candidate:
    """A column that holds times, or has the name of one that should.

    Attributes:
        name: Name of the column.
        type: Arrow type, in words.
        rank: Position of its name among the names of times; None where it has another name.
        found: Evidence of its values.
        owner: Side whose events all have one value; None where they have several.
    """

    name: str
    type: str
    rank: int | None
    found: Recognised
    owner: Side | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it can be the time of events."""
        return self.found.problem is None and not self.found.is_future

    @property
    def is_plain(self) -> bool:
        """Whether its name and its values leave nothing to guess, and so nothing to say."""
        found = self.found
        is_usual = found.clock.unit in (None, "s", "ms", "us", "ns") and (
            found.clock.unit is None or self.type != "string"
        )
        return (
            self.rank is not None
            and found.clock.is_real
            and is_usual
            and not (found.odd or found.empty)
        )

    def __str__(self) -> str:
        same = {"item": "an item", "query": "a query"}
        return repr(self.name) + (
            f" (the same in all events of {same[self.owner]})" if self.owner is not None else ""
        )


def chosen_note(one: Candidate, others: list[Candidate]) -> str:
    """Describes which column is the time of events, and which others could be."""
    found = one.found
    is_doubtful = not found.clock.is_real or found.odd + found.empty > _MISSING_FROM
    text = f"{'WARNING: ' if is_doubtful else ''}the time of events is {one}: {_reading(found)}"
    if found.odd:
        text += f"; {percent(found.odd)} of its values are no time, such as {found.example}"
    if found.empty:
        text += f"; {percent(found.empty)} of its rows are empty"
    if others:
        text += f"; not {' or '.join(map(str, others))}: to change it, give --timestamp-column"
    return f"{text}. {remedy(one)}" if is_doubtful else f"{text}."


def possible_note(one: Candidate) -> str:
    """Describes a column whose numbers may be times, or ids that are as long."""
    return (
        f"column {one.name!r} may hold times ({_reading(one.found)}); if it is the time of events, "
        f"give --timestamp-column {one.name} (data.columns.timestamp)."
    )


def _reading(found: Recognised) -> str:
    if not found.clock.is_real:
        return f"its values, such as {found.example}, are no dates of our age, but may be an order"
    form = "" if found.clock.unit is None else f"{UNIT_NAMES[found.clock.unit]}, "
    return f"{form}{found.span}"


def doubt_note(one: Candidate) -> str:
    """Describes what speaks against the reading of the column that is taken."""
    return f"WARNING: column {one.name!r}: {one.found.doubt}. {remedy(one)}"


def refusal_note(one: Candidate) -> str:
    """Explains why a column is not taken for the time of events, and what would make it so."""
    if one.is_usable:
        return (
            f"WARNING: {problem(one)}, and so is not taken for the time of events; if it is, give "
            f"--timestamp-column {one.name} (data.columns.timestamp)."
        )
    return f"WARNING: {problem(one)}, and so is not read as times. {remedy(one)}"


def problem(one: Candidate) -> str:
    """Explains why a column is no time of events, in a sentence without its end."""
    subject = f"column {one.name!r} ({one.type})"
    if one.found.problem is not None:
        return f"{subject} {one.found.problem}"
    if one.found.is_future:
        return f"{subject} holds {one.found.example}: {one.found.doubt}"
    return f"column {one} holds dates"


def remedy(one: Candidate) -> str:
    """Explains what the user can do to have a column read."""
    if one.found.choices:
        which = " or ".join(str(unit or "null") for unit in one.found.choices)
        case = "Say which" if len(one.found.choices) > 1 else "If it is that"
        return f"{case}: give --timestamp-unit {which} (data.columns.timestamp_unit)."
    return (
        f"Understood are {UNDERSTOOD}. Convert it, name its form with --timestamp-unit "
        "(data.columns.timestamp_unit), or name another column with --timestamp-column "
        "(data.columns.timestamp)."
    )
