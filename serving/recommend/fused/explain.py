"""The parts of each score of an answer, and what of the query counts most in it."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints
from recsys.channels.sources import Sources
from recsys.fusion.fused import CONTENT_LISTS, Fused
from recsys.fusion.said import Said, said_of
from recsys.fusion.weights import Weights
from serving.recommend.answers import Explanation, Reason, SharedValue
from serving.recommend.catalogue import Catalogue
from serving.recommend.fused.shared import SharedContent

Doubles = npt.NDArray[np.float64]

# Items of the history that are named for each item of an answer.
_REASONS = 3
# Share of a score's parts above 0 from which on something is a reason for it.
_LEAST = 0.01


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one item's score, which is their sum.

    Attributes:
        towers: Part of the towers.
        channels: Part of each channel by name, without those that say nothing of the item.
        trend: Part of the recent popularity.
        dial: Part that the popularity dial adds; below 0 for popular items.
        because: Items of the query that count most in the channels' part, and what each adds, of
            those that add at least 1 % of all parts above 0.
        shared: Feature values shared with items of the query that count most in it, likewise.
    """

    towers: float
    channels: dict[str, float]
    trend: float
    dial: float
    because: tuple[tuple[int, float], ...]
    shared: tuple[SharedValue, ...]


def parts_of(
    fused: Fused,
    sources: Sources,
    items: Ints,
    products: Doubles,
    weights: Weights,
    content: SharedContent | None,
) -> list[Parts]:
    """Returns the parts of the scores of one query's answer, [items].

    Args:
        fused: Channels.
        sources: Items of the query that channels read; there is one row.
        items: Items of the answer.
        products: Inner product of the query's vector and each item's, [items].
        weights: Weights of the parts.
        content: Contents of items; None where no channel compares items by them.
    """
    said = list(said_of(fused, sources, items, weights))
    channels: list[dict[str, float]] = [{} for _ in items]
    added: list[defaultdict[int, float]] = [defaultdict(float) for _ in items]
    for each in said:
        values = (each.factors * each.scores).tolist()
        for row, by, part in zip(each.rows.tolist(), each.sources.tolist(), values, strict=True):
            channels[row][each.name] = channels[row].get(each.name, 0.0) + part
            if each.reads != "own":
                added[row][by] += part
    shared = _shared([each for each in said if each.lists == CONTENT_LISTS], items, content)
    trend, dial = weights.trend * fused.trend[items], -weights.dial * fused.dial[items]
    parts = []
    for row in range(len(items)):
        towers = float(weights.model * products[row])
        of_item = (towers, *channels[row].values(), float(trend[row]), float(dial[row]))
        least = _LEAST * sum(part for part in of_item if part > 0)
        reasons = sorted(added[row].items(), key=lambda each: -each[1])[:_REASONS]
        parts.append(
            Parts(
                towers=towers,
                channels=channels[row],
                trend=float(trend[row]),
                dial=float(dial[row]),
                because=tuple(each for each in reasons if each[1] >= least),
                shared=tuple(each for each in shared[row] if each.score >= least),
            )
        )
    return parts


def explanation_of(parts: Parts, catalogue: Catalogue) -> Explanation:
    """Names the items of a score's parts."""
    ids = catalogue.ids
    because = tuple(Reason(ids[i], score, catalogue.title(i)) for i, score in parts.because)
    return Explanation(parts.towers, parts.channels, parts.trend, parts.dial, because, parts.shared)


def _shared(
    said: list[Said], items: Ints, content: SharedContent | None
) -> list[tuple[SharedValue, ...]]:
    """Returns the feature values that count most in the parts of content, [items]."""
    if content is None or not any(len(each.rows) for each in said):
        return [()] * len(items)
    sources = np.unique(np.concatenate([each.sources for each in said]))
    factors = np.zeros((len(items), len(sources)))
    for each in said:
        at = np.searchsorted(sources, each.sources)
        np.add.at(factors, (each.rows, at), each.factors)
    return content.values(items, sources, factors)
