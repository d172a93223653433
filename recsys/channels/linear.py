"""Item-item weights by least squares."""

import numpy as np
import torch
from scipy import sparse

from feature_store.core.columns import Floats
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.co_occurrence import MOST_EVENTS
from recsys.channels.product import Product

# The time grows with the cube of the number of items, and the memory with its square.
MOST_ITEMS = 10_000
# Weight of the squared weights, over the mean number of queries of an item. Less than what is best
# alone: beside the model, what tells less popular items apart counts more.
REGULARISATION = 3.0
# Weights that are kept in all, and of each candidate at least: the fewer, the less EASE finds.
_KEPT, _LEAST_OF_EACH = 5_000_000, 300


class Linear(Channel):
    """EASE: weights that predict each item of a query from its others (Steck 2019).

    Source: Embarrassingly shallow autoencoders for sparse data, WWW 2019.
    """

    name = "linear"
    lists = "linear"
    title = "linear (EASE)"
    reads = "known"
    keeps_all = True

    @classmethod
    def why_not(cls, data: ChannelData) -> str | None:
        """Returns why the data has no such channel, as the end of a sentence; None: it has."""
        items = data.log.num_items
        if items > MOST_ITEMS:
            return f"its time grows with the cube of the items, and {items:,} are too many"
        return None

    @classmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the weights of greatest size of each candidate, positive and negative ones."""
        weights = ease_weights(data.log.seen(MOST_EVENTS))
        by_candidate = torch.from_numpy(weights.T)
        size = min(max(_LEAST_OF_EACH, _KEPT // max(1, len(weights))), len(weights))
        sources = by_candidate.abs().topk(size, dim=1, sorted=False).indices.sort(dim=1).values
        kept = by_candidate.gather(1, sources).reshape(-1).numpy()
        offsets = np.arange(len(weights) + 1) * size
        by_candidate = sparse.csr_matrix(
            (kept, sources.reshape(-1).numpy(), offsets), weights.shape
        )
        by_candidate.eliminate_zeros()
        return Product(by_candidate, sparse.identity(len(weights), "float32", "csr"))


def ease_weights(seen: sparse.csr_matrix) -> Floats:
    """Solves the least squares of predicting each item from the others, [from, to] float32.

    Args:
        seen: Binary matrix of queries and their items.
    """
    together = torch.from_numpy((seen.T @ seen).toarray()).double()
    # In proportion to the queries of an item, it fits logs of any size.
    together.diagonal().add_(REGULARISATION * float(together.diagonal().mean()))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(together))
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0.0)
    return weights.float().numpy()
