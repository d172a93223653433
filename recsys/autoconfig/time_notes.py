"""Columns that hold times, and the sentences about them on the terminal."""

from dataclasses import dataclass

from feature_store.schema import Side
from pipelines.logs.clock import UNDERSTOOD, UNIT_NAMES, Recognised
from recsys.autoconfig.features import percent


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
    text = f"the time of events is {one}: "
    if found.clock.is_real:
        form = "" if found.clock.unit is None else f"{UNIT_NAMES[found.clock.unit]}, "
        text += f"{form}{found.span}"
    else:
        text += f"its values, such as {found.example}, are no dates of our age, but may be an order"
    if found.odd:
        text += f"; {percent(found.odd)} of its values are no time, such as {found.example}"
    if found.empty:
        text += f"; {percent(found.empty)} of its rows are empty"
    if others:
        text += f"; not {' or '.join(map(str, others))}: to change it, give --timestamp"
    return f"{text}."


def doubt_note(one: Candidate) -> str:
    """Describes what speaks against the reading of the column that is taken."""
    return f"WARNING: column {one.name!r}: {one.found.doubt}. {remedy(one)}"


def refusal_note(one: Candidate) -> str:
    """Explains why a column is not taken for the time of events, and what would make it so."""
    if one.is_usable:
        return (
            f"WARNING: {problem(one)}, and so is not taken for the time of events; if it is, give "
            f"--timestamp {one.name} (data.columns.timestamp)."
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
        return f"If it is that, give --timestamp-unit {which} (data.columns.timestamp_unit)."
    return (
        f"Understood are {UNDERSTOOD}. Convert it, name its form with --timestamp-unit "
        "(data.columns.timestamp_unit), or name another column with --timestamp "
        "(data.columns.timestamp)."
    )
