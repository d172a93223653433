"""The parts of each score of an answer, and the items of the history that count most in it."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints
from recsys.channels.sources import Sources
from recsys.fusion.fused import Fused
from recsys.fusion.weights import Weights
from serving.recommend.answers import Explanation, Reason
from serving.recommend.catalogue import Catalogue

# Items of the history that are named for each item of an answer.
_REASONS = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one item's score, which is their sum.

    Attributes:
        model: Part of the model.
        channels: Part of each channel by name, without those that say nothing of the item.
        trend: Part of the recent popularity.
        dial: Part that the popularity dial adds; below 0 for popular items.
        because: Items of the query that count most in the channels' part, and what each adds.
    """

    model: float
    channels: dict[str, float]
    trend: float
    dial: float
    because: tuple[tuple[int, float], ...]


def parts_of(
    fused: Fused,
    sources: Sources,
    items: Ints,
    products: npt.NDArray[np.float64],
    weights: Weights,
) -> list[Parts]:
    """Returns the parts of the scores of one query's answer, [items].

    Args:
        fused: Channels.
        sources: Items of the query that channels read; there is one row.
        items: Items of the answer.
        products: Inner product of the query's vector and each item's, [items].
        weights: Weights of the parts.
    """
    boost = 1 + weights.rare * fused.rarity[items]
    channels: list[dict[str, float]] = [{} for _ in items]
    added: list[defaultdict[int, float]] = [defaultdict(float) for _ in items]
    row_of = {item: row for row, item in enumerate(items.tolist())}
    for name, weight in weights.channels.items():
        channel = fused.info.channels.get(name)
        if not weight or channel is None:
            continue
        lists, (read, counts) = fused.lists[channel.lists], sources.of(channel.reads)
        _, sums = lists.sums(read, counts)
        highest = float(sums.max(initial=0.0))
        if highest <= 0:
            continue
        at, lengths = lists.lists.positions(read.values)
        source, count = np.repeat(read.values, lengths), np.repeat(counts, lengths)
        is_wanted = np.isin(lists.lists.values[at], items)
        at, source, count = at[is_wanted], source[is_wanted], count[is_wanted]
        values = weight * count * lists.scores[at] / highest
        found = zip(lists.lists.values[at].tolist(), source.tolist(), values.tolist(), strict=True)
        for item, by, value in found:
            row = row_of[item]
            part = value * float(boost[row])
            channels[row][name] = channels[row].get(name, 0.0) + part
            if channel.reads != "own":
                added[row][by] += part
    trend, dial = weights.trend * fused.trend[items], -weights.dial * fused.dial[items]
    return [
        Parts(
            model=float(weights.model * products[row]),
            channels=channels[row],
            trend=float(trend[row]),
            dial=float(dial[row]),
            because=tuple(sorted(added[row].items(), key=lambda each: -each[1])[:_REASONS]),
        )
        for row in range(len(items))
    ]


def explanation_of(parts: Parts, catalogue: Catalogue) -> Explanation:
    """Names the items of a score's parts."""
    ids = catalogue.ids
    because = tuple(Reason(ids[i], score, catalogue.title(i)) for i, score in parts.because)
    return Explanation(parts.model, parts.channels, parts.trend, parts.dial, because)
