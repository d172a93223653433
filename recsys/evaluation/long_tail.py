"""How well items are found, and how often they are shown, by how often training has seen them."""

from collections.abc import Mapping

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.settings import Frozen
from recsys.evaluation.metrics import Ranks


class FrequencyBin(Frozen):
    """Items that have about as many training events.

    Attributes:
        low: Fewest training events of an item.
        high: Most.
        items: How many items can be recommended.
        pairs: Held-out pairs of them.
        recall: By method, the share of the pairs within the first 50; None where there is no pair.
        shown: By method, the share of the first 50 places of all lists that these items take.
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
    """Bins of 0, 1, 2 to 3, 4 to 7 training events and so on, without those that have no item.

    Args:
        frequency: [items] training events.
        candidates: [items] which ones can be recommended.
        top: By method, [queries, depth] items, best first, -1 where there are fewer.
        ranks: By method, of the held-out items.
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
        places = np.bincount(bin_of_item[first[first >= 0]], minlength=count)
        shown[name] = (places / max(1, places.sum())).tolist()
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
