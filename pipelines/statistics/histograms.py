"""Histograms of numbers and times whose merged result does not depend on how rows were cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from feature_store.core.times import HOUR

Numeric = npt.NDArray[np.float64]

# Greatest numbers of bins and of periods.
KEPT_BINS = 512
KEPT_PERIODS = 400
# NumPy's units of periods; each period is made of whole periods of the unit before.
UNITS = ("h", "D", "M", "Y", "1000Y")

# Keys of a smaller span are counted in an array.
_CELLS = 1 << 20


@dataclass(frozen=True)
class Histogram:
    """Counts of integer keys in bins of equal width, the narrowest that leave at most KEPT_BINS.

    Attributes:
        shift: Bin b holds the keys from b * 2^shift to (b + 1) * 2^shift - 1.
        steps: First bin that holds any key, then the distances to the next such bins.
        counts: Number of keys in each of these bins.
    """

    shift: int
    steps: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def bins(self) -> Ints:
        """Bins that hold any key, ascending."""
        return np.cumsum(np.array(self.steps, np.int64))

    @classmethod
    def of(cls, keys: Ints, weights: Ints | None = None) -> "Histogram":
        """Counts int64 keys, [n], each `weights` times."""
        if not len(keys):
            return cls(0, (), ())
        span = int(keys.max()) - int(keys.min())
        shift = max(0, span.bit_length() - (_CELLS.bit_length() - 1))
        bins, counts = count_keys(keys >> shift, weights)
        if (
            shift and len(bins) <= KEPT_BINS
        ):  # Outliers stretch the span; narrower bins are few enough.
            shift, (bins, counts) = 0, count_keys(keys, weights)
        return cls._narrowed(shift, bins, counts)

    @classmethod
    def merged(cls, parts: Sequence["Histogram"]) -> "Histogram":
        """Merges the histograms of all parts."""
        shift = max((part.shift for part in parts if part.steps), default=0)
        keys = [part.bins >> (shift - part.shift) for part in parts]
        weights = [np.array(part.counts, np.int64) for part in parts]
        bins, counts = count_keys(np.concatenate(keys), np.concatenate(weights))
        return cls._narrowed(shift, bins, counts)

    @classmethod
    def _narrowed(cls, shift: int, bins: Ints, counts: Ints) -> "Histogram":
        while len(bins) > KEPT_BINS:
            shift += 1
            bins, counts = _grouped(bins >> 1, counts)
        steps = np.diff(bins, prepend=0)
        return cls(shift, tuple(steps.tolist()), tuple(counts.tolist()))

    def quantile(self, share: float) -> int:
        """Estimates a quantile's key, as if its bin were evenly filled."""
        ends = np.cumsum(self.counts)
        rank = share * ends[-1]
        bin_ = min(int(np.searchsorted(ends, rank)), len(ends) - 1)
        within = (rank - (ends[bin_] - self.counts[bin_])) / self.counts[bin_]
        start = int(self.bins[bin_]) << self.shift
        return start + int(within * ((1 << self.shift) - 1))


@dataclass(frozen=True)
class Numbers:
    """Moments and quantiles of numbers, or of times in microseconds since 1970.

    Attributes:
        count: Number of numbers.
        smallest: Smallest number.
        largest: Largest number.
        mean: Mean of the numbers.
        squares: Sum of the squared distances from the mean.
        histogram: Histogram of `number_keys`, or of a time's microseconds.
    """

    count: int
    smallest: float
    largest: float
    mean: float
    squares: float
    histogram: Histogram

    @classmethod
    def of(cls, numbers: Numeric, keys: Ints, weights: Ints | None = None) -> "Numbers | None":
        """Sums up numbers, [n], each counted `weights` times; None without any."""
        if not len(numbers):
            return None
        mean = float(np.average(numbers, weights=weights))
        squares = (numbers - mean) ** 2
        return cls(
            count=len(numbers) if weights is None else int(weights.sum()),
            smallest=float(numbers.min()),
            largest=float(numbers.max()),
            mean=mean,
            squares=float(squares.sum() if weights is None else squares @ weights),
            histogram=Histogram.of(keys, weights),
        )

    @classmethod
    def merged(cls, parts: Sequence["Numbers"]) -> "Numbers":
        """Merges all parts, with exact sums, so that their order does not matter."""
        count = sum(part.count for part in parts)
        mean = math.fsum(part.count * part.mean for part in parts) / count
        squares = math.fsum(part.squares + part.count * (part.mean - mean) ** 2 for part in parts)
        return cls(
            count=count,
            smallest=min(part.smallest for part in parts),
            largest=max(part.largest for part in parts),
            mean=mean,
            squares=squares,
            histogram=Histogram.merged([part.histogram for part in parts]),
        )

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.squares / self.count)

    def quantile(self, share: float) -> float:
        """Estimates a quantile, as exact as its bin is narrow."""
        number = float(numbers_of_keys(np.array([self.histogram.quantile(share)]))[0])
        return min(max(number, self.smallest), self.largest)


@dataclass(frozen=True)
class Periods:
    """Counts by hour, day, month or longer, the shortest that leaves at most KEPT_PERIODS.

    Attributes:
        unit: One of `UNITS`.
        starts: Starts of the periods that hold anything, in units since 1970, ascending.
        counts: Number of times in each.
    """

    unit: str
    starts: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, times: Ints, weights: Ints | None = None) -> "Periods":
        """Counts times, [n] microseconds since 1970, each `weights` times."""
        return cls._shortest(0, *count_keys(times // HOUR, weights))

    @classmethod
    def merged(cls, parts: Sequence["Periods"]) -> "Periods":
        """Merges the counts of all parts."""
        level = max(UNITS.index(part.unit) for part in parts)
        starts = [_in_unit(np.array(p.starts, np.int64), p.unit, UNITS[level]) for p in parts]
        weights = [np.array(part.counts, np.int64) for part in parts]
        return cls._shortest(level, *count_keys(np.concatenate(starts), np.concatenate(weights)))

    @classmethod
    def _shortest(cls, level: int, starts: Ints, counts: Ints) -> "Periods":
        while len(starts) > KEPT_PERIODS:
            starts, counts = _grouped(_in_unit(starts, UNITS[level], UNITS[level + 1]), counts)
            level += 1
        return cls(UNITS[level], tuple(starts.tolist()), tuple(counts.tolist()))


def number_keys(numbers: Numeric) -> Ints:
    """Maps finite numbers to int64 keys in the same order; bins are equally wide per octave."""
    bits = (numbers + 0.0).view(np.int64)  # Adding 0 makes -0 and 0 the same.
    return np.where(bits >= 0, bits, -(bits & np.int64(2**63 - 1)))


def numbers_of_keys(keys: Ints) -> Numeric:
    """Maps keys back to numbers; the inverse of `number_keys`."""
    magnitude = np.abs(keys.astype(np.int64)).view(np.float64)
    return np.where(keys < 0, -magnitude, magnitude)


def count_keys(keys: Ints, weights: Ints | None = None) -> tuple[Ints, Ints]:
    """Counts keys: returns the distinct ones, ascending, and the occurrences of each."""
    if not len(keys):
        return keys, np.empty(0, np.int64)
    low, high = int(keys.min()), int(keys.max())
    if weights is None and high - low < 2 * _CELLS:
        counts = np.bincount(keys - low)
        used = np.flatnonzero(counts)
        return used + low, counts[used]
    if weights is None:
        counted = pc.value_counts(pa.array(keys))
        keys, weights = counted.field("values").to_numpy(), counted.field("counts").to_numpy()
    order = np.argsort(keys, kind="stable")
    return _grouped(keys[order], weights[order])


def _grouped(keys: Ints, weights: Ints) -> tuple[Ints, Ints]:
    """Adds up the weights of equal keys, which are sorted."""
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(weights, first)


def _in_unit(starts: Ints, unit: str, longer: str) -> Ints:
    return starts.astype(f"datetime64[{unit}]").astype(f"datetime64[{longer}]").astype(np.int64)
