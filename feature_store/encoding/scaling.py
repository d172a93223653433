"""Dense features: the conversion of raw values to numbers, and their scaling."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import plain_array
from feature_store.core.columns import Bools, Dense, Ints
from feature_store.encoding.numbers import days_of, numbers_of
from feature_store.kinds import DateFeature, DenseFeature, ScaledFeature

Numbers = npt.NDArray[np.float64]

# Distinct numbers that are counted apart, in 1 MB a feature.
_MAX_NUMBERS = 65_536
# Ranks with a knot; others are beside values that are more frequent than the ranks are apart.
_RANKS = 128
# The difference of two larger numbers could be infinite.
_LARGEST = 1e300


def dense_values(
    feature: DenseFeature, column: pa.ChunkedArray | pa.Array
) -> tuple[Numbers, Bools]:
    """Converts raw values to unscaled numbers; others, infinity and wrong lengths are absent.

    Returns:
        numbers: Unscaled numbers, [rows, width]; 0 where absent.
        present: Whether each row has a value, [rows].
    """
    array = plain_array(column)
    width = feature.dense_width
    if isinstance(feature, ScaledFeature):
        numbers = days_of(array) if isinstance(feature, DateFeature) else numbers_of(array)
        matrix = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)[:, None]
        if feature.scaling == "log":
            matrix = np.sign(matrix) * np.log1p(np.abs(matrix))
    else:
        if pa.types.is_null(array.type):  # The file lacks the column.
            array = array.cast(pa.list_(pa.float64()))
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        fits = lengths == width
        flat = plain_array(pc.list_flatten(array.filter(pa.array(fits))))
        matrix = np.full((len(array), width), np.nan)
        numbers = pc.fill_null(pc.cast(flat, pa.float64(), safe=False), np.nan)
        matrix[fits] = numbers.to_numpy(zero_copy_only=False).reshape(-1, width)
    present = np.isfinite(matrix).all(axis=1)
    return np.where(present[:, None], matrix, 0.0), present


def raw_numbers(feature: ScaledFeature, scaling: "Scaling", column: Dense) -> Numbers:
    """Returns an encoded number or date as it was in the log, but for rounding, [rows].

    Dates are days since 1970; NaN where a row has none.
    """
    numbers = scaling.restore(column.values.astype(np.float64))[:, 0]
    if feature.scaling == "log":
        numbers = np.sign(numbers) * np.expm1(np.abs(numbers))
    return np.where(column.present, numbers, np.nan)


@dataclass(frozen=True)
class Moments:
    """Sums over the rows that have a value, each [width].

    Attributes:
        count: Number of rows.
        total: Sum of the numbers.
        squares: Sum of their squares.
    """

    count: Numbers
    total: Numbers
    squares: Numbers

    @classmethod
    def of(cls, numbers: Numbers, present: Bools) -> "Moments":
        """Sums up the result of `dense_values`."""
        count = np.full(numbers.shape[1], present.sum(), np.float64)
        return cls(count, numbers.sum(axis=0), (numbers**2).sum(axis=0))

    @classmethod
    def merged(cls, parts: Iterable["Moments"]) -> "Moments":
        """Adds up the sums of all parts, of which there is at least one."""
        return reduce(
            lambda a, b: cls(a.count + b.count, a.total + b.total, a.squares + b.squares), parts
        )


@dataclass(frozen=True)
class Standardisation:
    """Mean and deviation of each number, [width] float32."""

    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]

    @classmethod
    def from_moments(cls, moments: Moments) -> "Standardisation":
        """Computes mean and deviation; a constant number gets deviation 1."""
        count = np.maximum(moments.count, 1.0)
        mean = moments.total / count
        variance = np.maximum(moments.squares / count - mean**2, 0.0)
        deviation = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def scale(self, numbers: Numbers) -> Numbers:
        """Scales numbers, [rows, width]."""
        return (numbers - self.mean) / self.deviation

    def restore(self, scaled: Numbers) -> Numbers:
        """Returns the numbers before they were scaled, but for rounding, [rows, width]."""
        return scaled * self.deviation.astype(np.float64) + self.mean


@dataclass(frozen=True)
class NumberCounts:
    """Occurrences of each number.

    Where there are too many, numbers are rounded towards zero to fewer bits, until few enough are
    distinct. Rounding to fewer bits later gives the same as at once: parts round as they must, and
    still add up to the counts of the whole, however it was cut.

    Attributes:
        numbers: Distinct numbers, [n] ascending.
        counts: Occurrences, [n] int64.
        dropped_bits: Number of the lowest of a number's 64 bits that were set to 0.
    """

    numbers: Numbers
    counts: Ints
    dropped_bits: int

    @classmethod
    def of(
        cls, numbers: Numbers, counts: Ints, dropped_bits: int = 0, limit: int = _MAX_NUMBERS
    ) -> "NumberCounts":
        """Adds up the counts of equal numbers, rounded until at most `limit` are distinct.

        Args:
            numbers: Finite numbers, [n].
            counts: Occurrences of each, [n].
            dropped_bits: Least number of bits to drop.
            limit: Greatest number of distinct numbers.
        """
        order = np.argsort(numbers, kind="stable")
        rounded = rounded_to_zero(numbers[order], dropped_bits)
        while (starts := _starts_of_runs(rounded)).size > limit:
            dropped_bits += 1
            rounded = rounded_to_zero(rounded, dropped_bits)
        if not len(starts):
            return cls(rounded, counts[:0], dropped_bits)
        return cls(rounded[starts], np.add.reduceat(counts[order], starts), dropped_bits)

    @classmethod
    def merged(cls, parts: Iterable["NumberCounts"], limit: int = _MAX_NUMBERS) -> "NumberCounts":
        """Merges the counts of all parts; at most two of them are in memory."""

        def merge(first: NumberCounts, second: NumberCounts) -> NumberCounts:
            return cls.of(
                np.concatenate([first.numbers, second.numbers]),
                np.concatenate([first.counts, second.counts]),
                max(first.dropped_bits, second.dropped_bits),
                limit,
            )

        return reduce(merge, parts, cls(np.empty(0), np.empty(0, np.int64), 0))


@dataclass(frozen=True)
class Quantiles:
    """The rank of a number among those of the catalogue, from -1 to 1.

    Equal numbers have the rank of their middle, so that the mean is 0 whatever the ties. Ranks are
    interpolated between knots; no number of the catalogue is then more than 2 / 128 of all numbers
    away from its rank. Beyond the knots the rank is that of the last one.

    Ranks are uniform, not normal scores: they are bounded, so an outlier weighs no more in the
    projection than any other number; they are of the order of a standardised feature; and they are
    exact where many values are tied, where scores would not be normal anyway.

    Attributes:
        numbers: Numbers at the knots, [knots] ascending.
        levels: Ranks of these numbers, [knots].
        dropped_bits: Bits dropped as in `NumberCounts`; a number is rounded before it is looked
            up, so that it meets the knot that it was counted for.
    """

    numbers: Numbers
    levels: Numbers
    dropped_bits: int

    @classmethod
    def from_counts(cls, counted: NumberCounts) -> "Quantiles":
        """Computes the knots; without any number every rank is 0."""
        if not len(counted.numbers):
            return cls(np.zeros(1), np.zeros(1), 0)
        total = counted.counts.sum()
        ends = np.cumsum(counted.counts)
        at_ranks = np.searchsorted(ends, np.arange(_RANKS + 1) / _RANKS * total)
        frequent = np.flatnonzero(counted.counts > total / _RANKS)
        # Otherwise the numbers next to a frequent one would be drawn to the middle of its ranks.
        chosen = np.concatenate([at_ranks, frequent - 1, frequent + 1])
        knots = np.unique(np.clip(chosen, 0, len(ends) - 1))
        middles = (ends - counted.counts / 2) / total
        return cls(counted.numbers[knots], 2 * middles[knots] - 1, counted.dropped_bits)

    def scale(self, numbers: Numbers) -> Numbers:
        """Computes ranks, [rows, 1], from numbers, [rows, 1]."""
        if len(self.numbers) == 1:
            return np.full(numbers.shape, self.levels[0])
        known = rounded_to_zero(numbers, self.dropped_bits)
        known = np.clip(known, self.numbers[0], self.numbers[-1])
        left = np.searchsorted(self.numbers, known, side="right") - 1
        left = np.minimum(left, len(self.numbers) - 2)
        start, end = self.numbers[left], self.numbers[left + 1]
        low, high = self.levels[left], self.levels[left + 1]
        return np.minimum(low + (known - start) / (end - start) * (high - low), high)

    def restore(self, scaled: Numbers) -> Numbers:
        """Returns the numbers of ranks, [rows, 1], but for rounding."""
        return np.interp(scaled, self.levels, self.numbers)


Scaling = Standardisation | Quantiles


def scaling_to_json(scaling: Scaling) -> dict[str, Any]:
    """Converts a scaling to JSON values, for `scaling_from_json`."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(scaling).items()
    }


def scaling_from_json(value: dict[str, Any]) -> Scaling:
    """Restores a scaling from `scaling_to_json`, equal to the last bit."""
    if "mean" in value:
        mean, deviation = (np.array(value[key], np.float32) for key in ("mean", "deviation"))
        return Standardisation(mean, deviation)
    numbers, levels = (np.array(value[key], np.float64) for key in ("numbers", "levels"))
    return Quantiles(numbers, levels, int(value["dropped_bits"]))


def rounded_to_zero(numbers: Numbers, dropped_bits: int) -> Numbers:
    """Drops the lowest bits; equal numbers stay equal, and their order stays."""
    bits = np.ascontiguousarray(np.clip(numbers, -_LARGEST, _LARGEST), np.float64).view(np.int64)
    kept = bits & np.int64(-1 << dropped_bits)
    return kept.view(np.float64) + 0.0  # Turns -0.0 into 0.0.


def _starts_of_runs(ordered: Numbers) -> Ints:
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
