"""Transitions: items that follow each other."""

import numpy as np
from scipy import sparse

from feature_store.core.columns import Ints
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.co_occurrence import normalised
from recsys.channels.log import TrainingLog
from recsys.channels.product import Product

# Events between which there is a transition are at most so far apart.
_LONGEST_GAP = 3
# Weight of the way back.
_BACKWARDS = 0.5


class Transitions(Channel):
    """Frequency with which an item follows another within three events; near ones weigh more."""

    name = "transitions"
    lists = "transitions"
    title = "transitions"
    is_baseline = True
    second_hop = 0.5

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        return None if data.has_order else "the order of events means nothing"

    @classmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the normalised weights of transitions, in both directions."""
        followers = transition_weights(data.log)
        followed = followers.T.tocsr()
        followers.data *= np.float32(_BACKWARDS)
        both = (followed + followers).tocsr()
        del followers, followed
        return normalised(Product(both, sparse.identity(both.shape[0], np.float32, "csr")))


def transition_weights(log: TrainingLog) -> sparse.csr_matrix:
    """Sums 1 / gap over all pairs of events of a query, [from, to]; an item never follows itself.

    Args:
        log: Training events.
    """
    query, items = log.items.row_of_value(), log.items.values
    total = sparse.csr_matrix((log.num_items, log.num_items), dtype=np.float32)
    for gap in range(1, _LONGEST_GAP + 1):
        is_pair = (query[gap:] == query[:-gap]) & (items[gap:] != items[:-gap])
        before: Ints = items[:-gap][is_pair]
        after: Ints = items[gap:][is_pair]
        weight = np.full(len(before), 1 / gap, np.float32)
        total = total + sparse.csr_matrix((weight, (before, after)), total.shape)
    return total.tocsr()
