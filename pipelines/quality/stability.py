"""The population stability index of two columns, over groups of their values."""

import math

import numpy as np

from feature_store.core.columns import Ints
from pipelines.statistics.histograms import Histogram, Numeric
from pipelines.statistics.sketches import TopValues

_GROUPS = 10
_CATEGORIES = 50
OTHERS = "the others"
# Number of values that a group of its own needs, for rare ones come and go by chance.
_VALUES_OF_GROUP = 20


def stability_index(before: Ints, now: Ints) -> tuple[float, Numeric]:
    """Returns the population stability index of two rows of counts, and each group's part.

    Half a value is added to each group, so that an empty one does not make it infinite.
    """
    p = (before + 0.5) / (before.sum() + 0.5 * len(before))
    q = (now + 0.5) / (now.sum() + 0.5 * len(now))
    parts = (q - p) * np.log(q / p)
    return float(parts.sum()), parts


def chance_index(groups: int, before: int, now: int, deviations: float) -> float:
    """Returns an index that two samples of one distribution hardly exceed.

    Their index times before * now / (before + now) is chi-squared with groups - 1 degrees of
    freedom.
    """
    freedom = groups - 1
    scale = 1 / max(before, 1) + 1 / max(now, 1)
    return scale * (freedom + deviations * math.sqrt(2 * freedom))


def group_values(
    before: TopValues, before_total: int, now: TopValues, now_total: int
) -> tuple[list[str], Ints, Ints]:
    """Groups frequent values whose counts are known well enough, and the rest."""
    sides = [(before, max(before_total, 1)), (now, max(now_total, 1))]
    doubt = 2 * max(top.error / total for top, total in sides)
    share = {
        value: max(top.counts.get(value, 0) / total for top, total in sides)
        for value in [*before.counts, *now.counts]
    }
    known = [
        value
        for value in share
        if share[value] > doubt
        and before.counts.get(value, 0) + now.counts.get(value, 0) >= _VALUES_OF_GROUP
    ]
    frequent = sorted(known, key=lambda value: (-share[value], value))[:_CATEGORIES]
    counts = []
    for top, total in sides:
        listed = [top.counts.get(value, 0) for value in frequent]
        counts.append(np.array([*listed, max(total - sum(listed), 0)], np.int64))
    names = [*(repr(value) for value in frequent), OTHERS]
    if not counts[0][-1] and not counts[1][-1]:
        return names[:-1], counts[0][:-1], counts[1][:-1]
    return names, counts[0], counts[1]


def group_bins(before: Histogram, now: Histogram) -> tuple[list[str], Ints, Ints]:
    """Groups bins into about tenths of the earlier values, into fewer where values are few."""
    shift = max(before.shift, now.shift)
    sides = [(side.bins >> (shift - side.shift), np.array(side.counts)) for side in (before, now)]
    bins = np.unique(np.concatenate([side[0] for side in sides]))
    counts = np.zeros((2, len(bins)), np.int64)
    for row, (places, weights) in zip(counts, sides, strict=True):
        np.add.at(row, np.searchsorted(bins, places), weights)
    centre = np.cumsum(counts[0]) - counts[0] / 2
    groups = int(np.clip(counts[0].sum() // _VALUES_OF_GROUP, 2, _GROUPS))
    group = np.minimum((groups * centre / counts[0].sum()).astype(np.int64), groups - 1)
    used, group = np.unique(group, return_inverse=True)
    first, second = (
        np.bincount(group, weights=row, minlength=len(used)).astype(np.int64) for row in counts
    )
    ends = [f"the {g / groups:.0%} to the {(g + 1) / groups:.0%} quantile" for g in used.tolist()]
    names = [f"values that were from {between}" for between in ends]
    return names, first, second
