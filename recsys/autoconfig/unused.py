"""Columns of the events that are not used, and that may separate positives from other events."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig import rules
from recsys.autoconfig.event_words import is_amount_name, is_quantity_name, is_type_name, meaning
from recsys.autoconfig.features import number, percent
from recsys.autoconfig.names import normalised
from recsys.autoconfig.roles import RATING_NAMES
from recsys.autoconfig.values import MOST_VALUES, Values
from recsys.config.yaml_writer import scalar

Doubles = npt.NDArray[np.float64]

# Columns without a meaning that are named.
_NAMED = 5


@dataclass(frozen=True)
class Ratings:
    """Ratings that are not used.

    Attributes:
        name: Name of the column.
        low: Smallest rating.
        high: Largest rating.
        least: Rating from which people like an item.
        good: Share of the ratings from there on.
    """

    name: str
    low: float
    high: float
    least: float
    good: float

    def shown(self) -> str:
        """Returns the name and the range."""
        return f"{scalar(self.name)} ({number(self.low)} to {number(self.high)})"

    def sentence(self) -> str:
        """Returns that they are not read, and what would read them."""
        return (
            f"{self.shown()} is not read, so every event is a positive; to learn from the "
            f"{percent(self.good)} of at least {number(self.least)} alone, set "
            f"data.columns.rating: {scalar(self.name)} and data.min_rating: {number(self.least)}"
        )


def unused_columns(
    events: ParquetTable, left: Sequence[Values], found: Collection[str], names: Sequence[str]
) -> tuple[str, ...]:
    """Returns sentences on columns that are not used, and may separate positives.

    Args:
        events: Log of events.
        left: Values of the columns that are not used and have few.
        found: Columns that would separate positives.
        names: All columns that have no role.
    """
    sentences: list[str] = []
    unclear: list[str] = []
    for column in left:
        classes = len(column.counts) + (column.nulls > 0)
        if column.is_negative():
            sentences.append(
                f"WARNING: by {_shown(column)}, no event is a positive, and a model would learn to "
                "recommend what people do not want; check whether this is the right log"
            )
        elif classes < 2:
            continue
        elif column.name in found:
            sentences.append(f"{_shown(column)} separates positives, too, and is not used")
        elif is_type_name(column.name):
            sentences.append(_types(column))
        elif not column.is_number and normalised(column.name) in RATING_NAMES.split():
            sentences.append(
                f"{_shown(column)} is text and not read, so every event is a positive; to learn "
                "from good events only, cast it to numbers and run init again"
            )
        elif classes == 2 and column.name not in events.partition:
            unclear.append(_shown(column))
    if unclear:
        sentences.append(
            f"two classes, of which one may be no positives: {'; '.join(unclear[:_NAMED])}; if so, "
            "set data.columns.rating and data.min_rating (for numbers), or data.columns.event_type "
            "and data.event_types (for names)"
        )
    few = {column.name: len(column.counts) for column in left}
    many = [name for name in names if few.get(name, MOST_VALUES) > 2]
    return (*sentences, *_amounts(events, [name for name in many if name not in found]))


def _shown(column: Values) -> str:
    return f"{scalar(column.name)} ({column.shown()})"


def _types(column: Values) -> str:
    known = all(meaning(value) == "positive" for value in column.counts)
    so = "every event is a positive" if known else "init does not know which types are positives"
    return (
        f"{_shown(column)}: {so}; to leave types out or to weigh them, set "
        f"data.columns.event_type: {scalar(column.name)} and data.event_types"
    )


def _amounts(events: ParquetTable, names: Sequence[str]) -> list[str]:
    """Returns sentences on numbers that may tell how much of an item somebody wanted."""
    numeric = [name for name in names if _is_number(events.schema.field(name).type)]
    sentences = []
    for name in [name for name in numeric if is_quantity_name(name)]:
        numbers = _numbers(events, name)
        below = float((numbers <= 0).mean()) if len(numbers) else 0.0
        if 0 < below < 1 and numbers.min() < 0:
            sentences.append(
                f"{scalar(name)} is 0 or less in {percent(below)} of events, such as returns; to "
                f"leave these out, set data.columns.rating: {scalar(name)} and data.min_rating: "
                f"{number(float(numbers[numbers > 0].min()))}"
            )
    amounts = [scalar(name) for name in numeric if is_amount_name(name)]
    if amounts:
        sentences.append(
            f"{', '.join(amounts[:_NAMED])} may tell how much of an item was wanted; to learn from "
            "high values only, set data.columns.rating and data.min_rating"
        )
    return sentences


def unused_ratings(events: ParquetTable, name: str) -> Ratings | None:
    """Reads ratings that are not used; None where no row has one."""
    numbers = _numbers(events, name)
    if not len(numbers):
        return None
    low, high = float(numbers.min()), float(numbers.max())
    least = rules.min_rating(low, high)
    return Ratings(name, low, high, least, float((numbers >= least).mean()))


def _numbers(events: ParquetTable, name: str) -> Doubles:
    array, _ = events.read(name)
    numbers = pc.cast(array.drop_null(), pa.float64(), safe=False).to_numpy()
    return np.asarray(numbers[np.isfinite(numbers)])


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
