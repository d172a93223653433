"""Item-item weights by least squares."""

from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from feature_store.core.columns import Floats, Ints
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.co_occurrence import MOST_EVENTS
from recsys.channels.product import Product
from recsys.channels.ridge import Ridge
from recsys.channels.step import Step

# The time grows with the cube of the number of items, and the memory with its square.
MOST_ITEMS = 10_000
# Weight of the squared weights, over the mean number of queries of an item, and beside it the
# probability that an item of a query is hidden, which weighs those of popular items more. Both are
# less than what is best alone: beside the model, what tells less popular items apart counts more.
REGULARISATION, DROPOUT = 3.0, 0.5
# Weights that are kept in all, and of each candidate at least: the fewer, the less EASE finds.
_KEPT, _LEAST_OF_EACH = 5_000_000, 300


class Linear(Channel):
    """EASE: weights that predict each item of a query from its others, some of them hidden.

    With more than 10,000 items, an item is predicted from its nearest ones alone.

    Sources: Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019; for the hidden
    items, in closed form, Steck, Autoencoders that don't overfit towards the identity, NeurIPS
    2020 (EDLAE).
    """

    name = "linear"
    lists = "linear"
    title = "linear (EASE)"
    is_baseline = True
    reads = "known"
    most_neighbours = 50

    @classmethod
    def keeps_all(cls, data: ChannelData) -> bool:
        """Tells whether there are few enough items for the closed form."""
        return data.log.num_items <= MOST_ITEMS

    @classmethod
    def product(cls, data: ChannelData) -> Product:
        """Returns the weights of greatest size; of many items, the cosines that find near ones."""
        seen = data.log.seen(MOST_EVENTS)
        if cls.keeps_all(data):
            weights = _of_greatest_size(ease_weights(seen))
            return Product(weights, sparse.identity(weights.shape[0], "float32", "csr"))
        lengths = 1 / np.sqrt(np.maximum(np.bincount(seen.indices, minlength=seen.shape[1]), 1))
        return Product(seen.T.tocsr(), seen).scaled(lengths, lengths)

    @classmethod
    def second_step(cls, data: ChannelData) -> type[Step] | None:
        """Returns the least squares of many items on their nearest ones; None of few."""
        return None if cls.keeps_all(data) else Ridge

    @classmethod
    def write_second_step(cls, data: ChannelData, parts: list[Path], directory: Path) -> None:
        """Writes what the least squares read."""
        seen = data.log.seen(MOST_EVENTS)
        counts = np.bincount(seen.indices, minlength=seen.shape[1])
        Ridge.write(seen, penalties(counts), parts, directory)


def penalties(counts: Ints) -> Floats:
    """Returns the weight of the squared weights from each item, [items].

    Those in proportion to the mean fit logs of any size.

    Args:
        counts: Queries that have each item, [items].
    """
    each = REGULARISATION * counts.mean() + DROPOUT / (1 - DROPOUT) * counts
    return each.astype(np.float32)


def _of_greatest_size(weights: Floats) -> sparse.csr_matrix:
    """Returns the weights that each candidate keeps, positive and negative, [to, from]."""
    by_candidate = torch.from_numpy(weights.T)
    size = min(max(_LEAST_OF_EACH, _KEPT // max(1, len(weights))), len(weights))
    sources = by_candidate.abs().topk(size, dim=1, sorted=False).indices.sort(dim=1).values
    kept = by_candidate.gather(1, sources).reshape(-1).numpy()
    offsets = np.arange(len(weights) + 1) * size
    matrix = sparse.csr_matrix((kept, sources.reshape(-1).numpy(), offsets), weights.shape)
    matrix.eliminate_zeros()
    return matrix


def ease_weights(seen: sparse.csr_matrix) -> Floats:
    """Solves the least squares of predicting each item from the others, [from, to] float32.

    Args:
        seen: Binary matrix of queries and their items.
    """
    together = torch.from_numpy((seen.T @ seen).toarray()).double()
    together.diagonal().add_(torch.from_numpy(penalties(together.diagonal().numpy())))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(together))
    weights = -inverse / inverse.diagonal()
    weights.fill_diagonal_(0.0)
    return weights.float().numpy()
