"""Recall and exposure of items by their number of training events."""

from collections.abc import Mapping

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.settings import Frozen
from recsys.evaluation.metrics import Ranks


class FrequencyBin(Frozen):
    """Items with a similar number of training events.

    Attributes:
        low: Fewest training events of an item.
        high: Most training events of an item.
        items: Number of items that can be recommended.
        pairs: Number of held-out pairs of these items.
        recall: Share of the pairs within the first 50, by method; None where there is no pair.
        shown: Share of the first 50 positions of all lists that these items take, by method.
    """

    low: int
    high: int
    items: int
    pairs: int
    recall: dict[str, float | None]
    shown: dict[str, float]


_CUTOFF = 50


def frequency_bins(
    frequency: Ints, candidates: Bools, top: Mapping[str, Ints], ranks: Mapping[str, Ranks]
) -> tuple[FrequencyBin, ...]:
    """Builds bins of 0, 1, 2 to 3, 4 to 7 training events and so on, without empty ones.

    Args:
        frequency: Training events of each item, [items].
        candidates: Whether an item can be recommended, [items].
        top: Items by method, best first, [queries, depth]; -1 where there are fewer.
        ranks: Ranks of the held-out items, by method.
    """
    bin_of_item = np.frexp(frequency.astype(np.float64))[1]  # 0, then 1 + floor(log2).
    count = int(bin_of_item.max(initial=0)) + 1
    items = np.bincount(bin_of_item[candidates], minlength=count)
    pairs, recall, shown = np.zeros(count, np.int64), {}, {}
    for name, each in ranks.items():
        bins = bin_of_item[each.item]
        pairs = np.bincount(bins, minlength=count)
        hits = np.bincount(bins[each.rank < _CUTOFF], minlength=count)
        recall[name] = [int(h) / int(p) if p else None for h, p in zip(hits, pairs, strict=True)]
        first = top[name][:, :_CUTOFF]
        positions = np.bincount(bin_of_item[first[first >= 0]], minlength=count)
        shown[name] = (positions / max(1, positions.sum())).tolist()
    return tuple(
        FrequencyBin(
            low=0 if b == 0 else 2 ** (b - 1),
            high=0 if b == 0 else 2**b - 1,
            items=int(items[b]),
            pairs=int(pairs[b]),
            recall={name: values[b] for name, values in recall.items()},
            shown={name: values[b] for name, values in shown.items()},
        )
        for b in range(count)
        if items[b] or pairs[b]
    )
