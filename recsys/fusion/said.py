"""Scores that channels give to some items of one query, by the item of the query that speaks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints
from recsys.channels.sources import Reads, Sources
from recsys.fusion.fused import Fused
from recsys.fusion.weights import Weights

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Said:
    """Neighbours in one channel among the items of an answer; arrays are [neighbours].

    Attributes:
        name: Name of the channel.
        lists: Name of its lists.
        reads: Items of the query that it reads.
        rows: Row of the answer.
        sources: Item of the query that speaks for it.
        factors: Weight of the neighbour's score in the sum.
        scores: Score of the neighbour.
    """

    name: str
    lists: str
    reads: Reads
    rows: Ints
    sources: Ints
    factors: Doubles
    scores: Doubles


def said_of(fused: Fused, sources: Sources, items: Ints, weights: Weights) -> Iterator[Said]:
    """Yields what each channel says of the items.

    Args:
        fused: Channels.
        sources: Items of the query that channels read; there is one row.
        items: Items, each once.
        weights: Weights of the channels.
    """
    by_item = np.argsort(items)
    for name, of_channel in weights.used().items():
        channel = fused.info.channels.get(name)
        if channel is None:
            continue
        factors = np.broadcast_to(fused.factors(items, *of_channel), len(items))
        lists, (read, counts) = fused.lists[channel.lists], sources.of(channel.reads)
        _, sums = lists.sums(read, counts)
        highest = float(sums.max(initial=0.0))
        if highest <= 0:
            continue
        at, lengths = lists.lists.positions(read.values)
        named = lists.lists.values[at]
        is_wanted = np.isin(named, items)
        rows = by_item[np.searchsorted(items, named[is_wanted], sorter=by_item)]
        count = np.repeat(counts, lengths)[is_wanted].astype(np.float64)
        yield Said(
            name,
            channel.lists,
            channel.reads,
            rows,
            np.repeat(read.values, lengths)[is_wanted],
            factors[rows] * count / highest,
            lists.scores[at[is_wanted]].astype(np.float64),
        )
