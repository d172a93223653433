"""Columns of the events that are not used, and that may separate positives from other events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import missing_ids
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig import rules
from recsys.autoconfig.columns.roles import RATING_NAMES, WEIGHT_NAMES
from recsys.autoconfig.event_words import (
    is_amount_name,
    is_quantity_name,
    is_type_name,
    label_meaning,
    meaning,
)
from recsys.autoconfig.figures import number, percent
from recsys.autoconfig.names import normalised
from recsys.autoconfig.values import MAX_ROWS, MOST_VALUES, Values
from recsys.config.yaml_writer import scalar

Doubles = npt.NDArray[np.float64]

# Columns without a meaning that are named.
_NAMED = 5
# Part of the events without a value from which a column is said to have gaps.
_FEW_EMPTY = 0.01


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
    others = [name for name in names if few.get(name, MOST_VALUES) > 1 and name not in found]
    many = [name for name in others if few.get(name, MOST_VALUES) > 2]
    gaps = _gaps(events, [name for name in others if not is_type_name(name)])
    return (*sentences, *_amounts(events, many), *_long_texts(events, many, few), *gaps)


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
    for name in numeric:
        is_label = label_meaning(name) == "positive"
        if not (is_label or is_quantity_name(name)):
            continue
        numbers = _numbers(events, name)
        below = float((numbers <= 0).mean()) if len(numbers) else 0.0
        if 0 < below < 1 and (is_label or numbers.min() < 0):
            what = "which may be no positives" if is_label else "such as returns"
            sentences.append(
                f"{scalar(name)} is 0 or less in {percent(below)} of events, {what}; to "
                f"leave these out, set data.columns.rating: {scalar(name)} and data.min_rating: "
                f"{number(float(numbers[numbers > 0].min()))}"
            )
    amounts = [scalar(name) for name in numeric if is_amount_name(name)]
    if amounts:
        sentences.append(
            f"{', '.join(amounts[:_NAMED])} may tell how much of an item was wanted; to learn from "
            "high values only, set data.columns.rating and data.min_rating; to let them count "
            "more, data.columns.weight"
        )
    return sentences


def _long_texts(events: ParquetTable, names: Sequence[str], few: Mapping[str, int]) -> list[str]:
    """Returns sentences on ratings and weights that are text, of which some have many values."""
    known = set(f"{RATING_NAMES} {WEIGHT_NAMES}".split())
    return [
        f"{scalar(name)} is text and not read; to use it, cast it to numbers and run init again"
        for name in names
        if pa.types.is_string(events.schema.field(name).type)
        and normalised(name) in known
        and (name not in few or normalised(name) in WEIGHT_NAMES.split())
    ]


def _gaps(events: ParquetTable, names: Sequence[str]) -> list[str]:
    """Returns sentences on columns of what was done that have a value in some events only."""
    gaps: list[str] = []
    for name in [name for name in names if meaning(name) is not None]:
        array, _ = events.read(name, MAX_ROWS)
        empty = float(missing_ids(array).true_count / max(1, len(array)))
        if _FEW_EMPTY <= empty < 1:
            gaps.append(f"{scalar(name)} (in {percent(empty)} of events)")
    if not gaps:
        return []
    return [
        f"empty where something may not have been done: {', '.join(gaps[:_NAMED])}; if so, add a "
        "column of 0 and 1, and set data.columns.rating and data.min_rating: 1"
    ]


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
