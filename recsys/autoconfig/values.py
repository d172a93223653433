"""Values of a column of the events that has few of them, with the number of events of each."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.event_words import FALSE, TRUE, is_type_name, label_meaning, meaning
from recsys.autoconfig.figures import number
from recsys.config.yaml_writer import scalar

# Rows that are read of each column.
MAX_ROWS = 1_000_000
# Columns with more values are neither labels nor types.
MOST_VALUES = 30


@dataclass(frozen=True)
class Values:
    """The values of a column of the events.

    Attributes:
        name: Name of the column.
        counts: Number of rows by value as `pipelines.prepare` compares it; null is none.
        nulls: Number of rows without a value.
        share: Fraction of the events that was read.
        is_number: Whether values are numbers or booleans, which `data.min_rating` can bound.
        is_type: Whether `data.event_types` can list the values.
    """

    name: str
    counts: dict[str, int]
    nulls: int
    share: float
    is_number: bool
    is_type: bool

    def of(self, value: str) -> int:
        """Returns the number of events with a value, of the whole log."""
        return round(self.counts[value] / self.share)

    def by_count(self) -> list[str]:
        """Returns the values, the most frequent first."""
        return sorted(self.counts, key=lambda value: (-self.counts[value], value))

    def is_negative(self) -> bool:
        """Returns whether all events are negative, by the words or by the name."""
        sense = label_meaning(self.name)
        if sense is not None and set(map(str.lower, self.counts)) <= FALSE and not self.nulls:
            return bool(self.counts) and sense == "positive"
        if sense is not None and set(map(str.lower, self.counts)) <= TRUE and not self.nulls:
            return bool(self.counts) and sense == "negative"
        is_type = is_type_name(self.name) or sense is not None
        negative = [meaning(value) == "negative" for value in self.counts]
        return is_type and bool(negative) and all(negative)

    def shown(self) -> str:
        """Returns values and counts, the most frequent first: `0 in 2,880, 1 in 720 events`."""
        about = "" if self.share == 1 else "about "
        parts = [
            f"{value if self.is_number else scalar(value)} in {about}{self.of(value):,}"
            for value in self.by_count()
        ]
        if self.nulls:
            parts.append(f"null in {about}{round(self.nulls / self.share):,}")
        return f"{', '.join(parts)} events"


def read_values(events: ParquetTable, name: str) -> Values | None:
    """Counts the values of a column; None where it has too many, or ones of another type."""
    kind = events.schema.field(name).type
    is_whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    has_fractions = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not (is_whole or has_fractions or pa.types.is_string(kind)):
        return None
    array, _ = events.read(name, MAX_ROWS)
    if has_fractions:
        numbers = pc.cast(array, pa.float64(), safe=False)
        array = pc.if_else(pc.is_finite(numbers), numbers, None)
    pairs = pc.value_counts(array.drop_null()).to_pylist()
    if len(pairs) > MOST_VALUES:
        return None
    counts = {_text(pair["values"]): int(pair["counts"]) for pair in pairs}
    share = min(1.0, len(array) / max(1, events.rows))
    is_number = is_whole or has_fractions
    return Values(name, counts, array.null_count, share, is_number, not has_fractions)


def _text(value: object) -> str:
    """Writes a value as `pipelines.prepare` compares it; fractions as short as they can be."""
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) and value == round(value) else str(value)
