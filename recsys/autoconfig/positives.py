"""Labels and types of events, which separate positives from the other events of a log.

Impressions that nobody clicked, dislikes and refunds are no positives. A column that may separate
them is either used, or named, with the key that would use it; it is never just not read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Bools
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.columns.roles import Roles
from recsys.autoconfig.event_words import (
    FALSE,
    TRUE,
    Meaning,
    is_graded_name,
    is_plain_label,
    is_type_name,
    label_meaning,
    meaning,
    says_what_was_done,
)
from recsys.autoconfig.figures import number
from recsys.autoconfig.unused import Ratings, unused_columns, unused_ratings
from recsys.autoconfig.values import MAX_ROWS, Values, read_values
from recsys.config.yaml_writer import Entry, Note, Section, Setting, scalar

# Greatest number of grades of a label.
_MOST_GRADES = 10
# Two columns are used together if they agree about this part of the positives.
_AGREE_FROM = 0.5


@dataclass(frozen=True)
class Separator:
    """A column that separates positives, and the settings that use it.

    Attributes:
        column: Values of the column.
        kept: Values of positives.
        unknown: Values among them of which no word is known.
        lowest: Lowest label of a positive; None: positives are listed by type.
    """

    column: Values
    kept: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    lowest: float | None = None

    @property
    def positives(self) -> int:
        """Number of events that are kept."""
        return sum(self.column.of(value) for value in self.kept)

    def mask(self, events: pa.Table) -> Bools:
        """Returns which events are kept, [rows]."""
        if self.lowest is not None:
            labels = pc.cast(events[self.column.name], pa.float64(), safe=False)
            return np.asarray(pc.fill_null(labels, -np.inf).to_numpy() >= self.lowest)
        types = pc.cast(events[self.column.name], pa.string())
        known = pc.is_in(types, value_set=pa.array(self.kept, pa.string()))
        return np.asarray(known.to_numpy(zero_copy_only=False))

    def sentence(self) -> str:
        """Returns what is kept, with the settings."""
        setting = f"data.min_rating: {number(self.lowest)}" if self.lowest is not None else ""
        name = scalar(self.column.name)
        setting = setting or f"data.event_types with {', '.join(map(scalar, self.kept))}"
        text = f"{name} tells positives ({self.column.shown()}), so {setting} keeps the "
        text += f"{self.positives:,} positives and leaves out the others"
        if self.unknown:
            text += f"; kept without knowing what they mean: {', '.join(map(scalar, self.unknown))}"
        return text


@dataclass(frozen=True)
class Positives:
    """Columns that leave only positives.

    Attributes:
        label: Column for `data.columns.rating`.
        types: Column for `data.columns.event_type`.
        ratings: Ratings that are not read; None without any.
        notes: Sentences on other columns that may separate positives.
    """

    label: Separator | None = None
    types: Separator | None = None
    ratings: Ratings | None = None
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Columns that are read."""
        return [each.column.name for each in (self.label, self.types) if each is not None]

    def sentences(self) -> list[str]:
        """Returns what was chosen, and what was not."""
        chosen = [each.sentence() for each in (self.label, self.types) if each is not None]
        return [*chosen, *([self.ratings.sentence()] if self.ratings else []), *self.notes]

    def mask(self, events: pa.Table) -> Bools:
        """Returns which events are positives, [rows]; the table holds `columns`."""
        kept = np.ones(len(events), bool)
        for each in (self.label, self.types):
            if each is not None:
                kept &= each.mask(events)
        return kept


def find_positives(
    events: ParquetTable, roles: Roles, bookkeeping: Collection[str] = ()
) -> Positives:
    """Finds what separates positives from other events.

    Args:
        events: Log of events.
        roles: Columns with a role; the one of ratings may be a label.
        bookkeeping: Columns that describe rows.
    """
    known = (roles.columns - {roles.rating}) | set(bookkeeping)
    names = [name for name in events.schema.names if name not in known]
    columns = [column for name in names if (column := read_values(events, name)) is not None]
    found = [each for column in columns if (each := _separator(column, roles)) is not None]
    labels = [each for each in found if each.lowest is not None]
    label = max(labels, key=_preference, default=None)
    types = max((e for e in found if e.lowest is None), key=_preference, default=None)
    if label is not None and types is not None and not _agree(events, label, types):
        types = None
    chosen = [each for each in (label, types) if each is not None]
    used, ratings = _names(chosen), None
    if roles.rating is not None and roles.rating not in used:
        ratings = unused_ratings(events, roles.rating)
    left = [column for column in columns if column.name not in (roles.rating, *used)]
    rest = [name for name in names if name not in (roles.rating, *used)]
    return Positives(label, types, ratings, unused_columns(events, left, _names(found), rest))


def _names(separators: Sequence[Separator]) -> list[str]:
    return [each.column.name for each in separators]


def _preference(separator: Separator) -> tuple[bool, int]:
    """Returns the key of the best column: one that is called label, then the most positives."""
    return is_plain_label(separator.column.name), separator.positives


def _agree(events: ParquetTable, label: Separator, types: Separator) -> bool:
    """Returns whether most positives by one column are positives by the other, too."""
    rows = pa.concat_tables(events.sample(_names([label, types]), MAX_ROWS))
    first, second = label.mask(rows), types.mask(rows)
    return bool((first & second).sum() >= _AGREE_FROM * min(first.sum(), second.sum()))


def _separator(column: Values, roles: Roles) -> Separator | None:
    """Returns how a column separates positives; None where that is not known."""
    is_rating = column.name == roles.rating
    is_signed = column.counts.keys() == {"-1", "1"}
    sense = "positive" if is_rating else label_meaning(column.name, is_signed=is_signed)
    if sense is not None:
        label = _label(column, sense, is_graded=is_graded_name(column.name))
        if label is not None:
            return label
    if is_rating or column.is_number:
        return None
    meanings = {value: meaning(value) for value in column.counts}
    negative = [value for value, each in meanings.items() if each == "negative"]
    is_type = sense is not None or is_type_name(column.name) or says_what_was_done(meanings)
    kept = tuple(value for value in column.by_count() if meanings[value] != "negative")
    if not (is_type and negative and kept):
        return None
    return Separator(column, kept, tuple(v for v in kept if meanings[v] is None))


def _label(column: Values, sense: Meaning, *, is_graded: bool) -> Separator | None:
    """Returns how a label separates positives; where only positives have a label, nulls are not."""
    true = [value for value in column.by_count() if value.lower() in TRUE]
    false = [value for value in column.by_count() if value.lower() in FALSE]
    is_binary = len(true) + len(false) == len(column.counts) and (false or column.nulls)
    if true and is_binary:
        if sense == "positive" and column.is_number:
            return Separator(column, tuple(true), lowest=1.0)
        kept = true if sense == "positive" else false
        return Separator(column, tuple(kept)) if column.is_type and kept else None
    if not (is_graded and sense == "positive" and column.is_number):
        return None
    grades = sorted(float(value) for value in column.counts if value not in ("true", "false"))
    if not 2 < len(grades) <= _MOST_GRADES or grades[0] > 0 or grades[-1] <= 0:
        return None
    lowest = next(grade for grade in grades if grade > 0)
    kept = [value for value in column.by_count() if float(value) >= lowest]
    return Separator(column, tuple(kept), lowest=lowest)


def column_entries(positives: Positives) -> list[Entry]:
    """Returns the entries of `data.columns`."""
    entries: list[Entry] = []
    if positives.label is not None:
        column = positives.label.column
        entries.append(Setting("rating", column.name, column.shown()))
    elif positives.ratings is not None:
        why = f"{positives.ratings.shown()} is not read: every event is a positive"
        entries.append(Setting("rating", None, why))
    if positives.types is not None:
        entries.append(Setting("event_type", positives.types.column.name, "kind of each event"))
    return entries


def data_entries(positives: Positives) -> list[Entry]:
    """Returns the entries of `data` below its columns."""
    entries: list[Entry] = []
    label, types, ratings = positives.label, positives.types, positives.ratings
    if label is not None:
        why = f"keeps {label.positives:,} positives; events below are put aside"
        entries.append(Setting("min_rating", label.lowest, why))
    elif ratings is not None:
        why = f"{number(ratings.least)} here, and columns.rating: {scalar(ratings.name)}"
        entries.append(Setting("min_rating", None, f"to learn from good events only: {why}"))
    if types is not None:
        entries.append(Note(f"Weights by the type of an event: {types.column.shown()}."))
        entries.append(Section("event_types", [_type(types, value) for value in types.kept]))
    return [*entries, *(Note(f"Note: {note}.") for note in positives.notes)]


def _type(types: Separator, value: str) -> Setting:
    about = "unknown to init, so kept" if value in types.unknown else ""
    return Setting(value, 1, about)
