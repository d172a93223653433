"""The distribution of events over items and queries."""

import numpy as np

from feature_store.core.columns import Ints
from feature_store.core.settings import Frozen

_PERCENTS = (0, 10, 25, 50, 75, 90, 99, 100)


class Popularity(Frozen):
    """The distribution of events over rows, which are items or queries.

    Attributes:
        rows: Number of rows.
        events: Number of events.
        without_events: Number of rows without events.
        gini: Gini coefficient: 0 where all rows have the same number, towards 1 where one has all.
        quantiles: Quantiles of a row's events: p0, p10, p25, p50, p75, p90, p99, p100.
        curve: Pairs of a share of the rows, the most popular first, and their share of the events.
    """

    rows: int
    events: int
    without_events: int
    gini: float
    quantiles: dict[str, float]
    curve: tuple[tuple[float, float], ...]


def popularity(counts: Ints) -> Popularity:
    """Measures the distribution of events from the counts of each row, [rows]."""
    rows, total = len(counts), int(counts.sum())
    descending = np.sort(counts)[::-1].astype(np.float64)
    quantiles = {
        f"p{percent}": float(np.percentile(counts, percent, method="inverted_cdf")) if rows else 0.0
        for percent in _PERCENTS
    }
    curve: list[tuple[float, float]] = [(0.0, 0.0)]
    gini = 0.0
    if total:
        # Half of the points are close together in the head, where the curve bends.
        ranks = np.unique(np.rint([*np.geomspace(1, rows, 40), *np.linspace(1, rows, 41)]))
        shares = np.cumsum(descending)[ranks.astype(np.int64) - 1] / total
        curve += zip((ranks / rows).tolist(), shares.tolist(), strict=True)
        ascending_rank = np.arange(rows, 0, -1)
        gini = float(2 * (ascending_rank @ descending) / (rows * total) - (rows + 1) / rows)
    return Popularity(
        rows=rows,
        events=total,
        without_events=int((counts == 0).sum()),
        gini=max(0.0, gini),
        quantiles=quantiles,
        curve=tuple(curve),
    )
