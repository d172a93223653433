"""Ticks of axes: round numbers, powers of ten, and dates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.reports.plots import Axis, Graph

_DAY = 86_400.0
# Steps of dates: (unit of NumPy, count, seconds).
_DATES = (
    *(("h", hours, hours * 3600.0) for hours in (1, 3, 6, 12)),
    *(("D", days, days * _DAY) for days in (1, 2, 7, 14)),
    *(("M", months, months * 30.4 * _DAY) for months in (1, 2, 3, 6)),
    *(("Y", years, years * 365.2 * _DAY) for years in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
# Most ticks that a phone has room for.
_MOST = 5


@dataclass(frozen=True)
class Scale:
    """An axis with its bounds and ticks.

    Attributes:
        low: Value at the start.
        high: Value at the end, above `low`.
        is_log: Whether distances are ratios.
        ticks: (value, text) in order.
    """

    low: float
    high: float
    is_log: bool
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """Returns the position of a value, from 0 to 1 between the ends."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return (value - low) / (high - low)


def colour_scale(graph: Graph) -> Scale | None:
    """Places the values that a graph's points have as colours; None where there are none."""
    values = [value for series in graph.series for value in series.values]
    return None if graph.colours is None or not values else scale_of(graph.colours, values)


def scale_of(axis: Axis, values: Sequence[float], *, is_padded: bool = False) -> Scale:
    """Places an axis.

    Args:
        axis: Description of the axis.
        values: All values on it.
        is_padded: Whether the ends are rounded to ticks.
    """
    if axis.categories:
        names = list(enumerate(axis.categories))
        return Scale(-0.5, len(names) - 0.5, False, [(float(at), name) for at, name in names])
    low, high = axis.bounds or (min(values, default=0.0), max(values, default=1.0))
    if high <= low:
        room = abs(low) * 0.1 or 1.0
        low, high = (
            (low / 2, low * 2) if axis.scale == "log" and low > 0 else (low - room, low + room)
        )
    if axis.is_hidden:
        room = (high - low) * 0.03
        return Scale(low - room, high + room, False, [])
    if axis.scale == "log" and low > 0:
        return Scale(low, high, True, _powers(low, high, axis.spec))
    if axis.scale == "time":
        return Scale(low, high, False, _dates(low, high))
    step = _round_step((high - low) / (_MOST - 1))
    if is_padded and axis.bounds is None:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    spec = axis.spec or _spec(step, is_share=axis.scale == "share")
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # Adding 0.0 makes a 0 of -0.
    ticks = [(at * step, format(round(at * step, 12) + 0.0, spec)) for at in range(first, last + 1)]
    return Scale(low, high, False, ticks)


def _round_step(least: float) -> float:
    """Returns the next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= least * (1 - 1e-9))


def _spec(step: float, *, is_share: bool) -> str:
    """Returns a format with as many decimals as the step has."""
    scaled = step * 100 if is_share else step
    decimals = next((n for n in range(12) if abs(round(scaled, n) - scaled) < 1e-9 * scaled), 12)
    return f",.{decimals}{'%' if is_share else 'f'}"


def _powers(low: float, high: float, spec: str) -> list[tuple[float, str]]:
    """Returns powers of ten, or both ends where there are fewer than two of them."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = -(-(last - first + 1) // _MOST) or 1
    values = [10.0**power for power in range(first, last + 1, step)]
    if len(values) < 2:
        values = [low, high]
    return [(value, format(value, spec or ",.6g")) for value in values]


def _dates(low: float, high: float) -> list[tuple[float, str]]:
    """Returns the starts of hours, days, months or years."""
    unit, count, _ = next((each for each in _DATES if (high - low) / each[2] <= _MOST), _DATES[-1])
    # Starts of all units between the ends, of which every count-th is taken.
    ends = np.array([math.floor(low), math.ceil(high)], "datetime64[s]").astype(
        f"datetime64[{unit}]"
    )
    first, last = ends.astype(np.int64).tolist()
    starts = np.arange(-(-first // count) * count, last + 1, count).astype(f"datetime64[{unit}]")
    seconds = starts.astype("datetime64[s]").astype(np.int64).astype(float).tolist()
    texts = (starts.astype("datetime64[m]") if unit == "h" else starts).astype(str).tolist()
    ticks = [
        (at, text.replace("T", " "))
        for at, text in zip(seconds, texts, strict=True)
        if low <= at <= high
    ]
    if ticks:
        return ticks
    return [(low, str(np.array([math.floor(low)], "datetime64[s]")[0]).replace("T", " "))]
