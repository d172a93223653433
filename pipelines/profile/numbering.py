"""Whole numbers that count rows: an index, a row number, the position in a file.

They tell rows apart and say nothing about what a row describes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from pipelines.logs.recognition import guess_numbers
from pipelines.logs.sampling import ParquetTable

# Greatest number of rows read, of numbers and of text.
_MAX_ROWS, _MAX_TEXTS = 200_000, 20_000
# With fewer rows, numbers in order are no sign.
_MIN_ROWS = 10
# Part of the numbers between the smallest and the largest that a counter uses.
_DENSE_FROM = 0.5
# Numbers between these may be years.
_YEARS = (1800, 2100)
# Numbers this large name things, where they are no times: amounts are smaller, or vary more.
_LONG, _LONG_FROM = 1e10, 0.9
# Largest number that a float64 holds exactly.
_EXACT = 2**53


@dataclass(frozen=True)
class Numbering:
    """The profile of whole numbers as a count of rows.

    Attributes:
        unique: Share of distinct numbers.
        rises: Whether numbers differ, and none is smaller than the one before it in its part.
        counts: Whether, in every part of the file, each number is larger than the one before it
            and at least half of the numbers in between are used; not for what may be years.
        permutes: Whether the numbers are 0 to n - 1 or 1 to n in any order.
        times: Whether the numbers can be times.
        long: Whether nearly all numbers have eleven digits or more.
    """

    unique: float
    rises: bool
    counts: bool
    permutes: bool
    times: bool
    long: bool


def profile_numbering(table: ParquetTable, name: str) -> Numbering | None:
    """Reads a column, or a sample of it; None where it does not hold whole numbers.

    Digits in strings and floats without fractions are whole numbers, too: CSV files and nulls turn
    integers into these.

    Args:
        table: Table of the column.
        name: Name of the column.
    """
    kind = table.schema.field(name).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or _has_fractions(kind)):
        return None
    parts: list[Ints] = []
    most = _MAX_TEXTS if pa.types.is_string(kind) else _MAX_ROWS
    for part in table.sample([name], most):
        numbers = _whole_numbers(part[name].combine_chunks())
        if numbers is None:
            return None
        parts.append(numbers)
    return numbering([part for part in parts if len(part)], table.rows)


def numbering(parts: list[Ints], rows: int) -> Numbering | None:
    """Profiles the numbers of some parts of a file.

    Args:
        parts: Numbers of each part, in the order of the file, none of them empty.
        rows: Number of rows of the whole table.
    """
    if not parts:
        return None
    numbers = np.concatenate(parts)
    distinct = len(np.unique(numbers))
    low, high = int(numbers.min()), int(numbers.max())
    is_whole = len(numbers) == rows == distinct
    may_be_years = _YEARS[0] <= low and high <= _YEARS[1]
    enough = len(numbers) >= max(_MIN_ROWS, 2 * len(parts))
    return Numbering(
        unique=distinct / len(numbers),
        rises=distinct > 1 and all(bool((np.diff(part) >= 0).all()) for part in parts),
        counts=enough and not may_be_years and all(_counts(part) for part in parts),
        permutes=enough and is_whole and low in (0, 1) and high - low + 1 == distinct,
        times=guess_numbers(pa.array(numbers), datetime.now(UTC)).is_real,
        long=float((abs(numbers.astype(np.float64)) >= _LONG).mean()) >= _LONG_FROM,
    )


def _counts(part: Ints) -> bool:
    steps = np.diff(part)
    return bool((steps > 0).all()) and len(part) >= _DENSE_FROM * (int(part[-1] - part[0]) + 1)


def _whole_numbers(array: pa.Array) -> Ints | None:
    """Returns the numbers that are not null; None where some are no whole numbers."""
    kind, known = array.type, array.drop_null()
    if pa.types.is_string(kind):
        if not pc.all(pc.match_substring_regex(known, r"^[0-9]{1,18}$"), min_count=0).as_py():
            return None
    elif _has_fractions(kind):
        floats: npt.NDArray[np.float64] = pc.cast(known, pa.float64(), safe=False).to_numpy()
        if not (np.isfinite(floats) & (floats == np.floor(floats)) & (abs(floats) < _EXACT)).all():
            return None
        return floats.astype(np.int64)
    # Hashes of 64 bits without a sign wrap around, and stay as long and as distinct.
    whole: Ints = pc.cast(known, pa.int64(), safe=False).to_numpy()
    return whole


def _has_fractions(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))
