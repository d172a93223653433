"""Exact scores of the whole corpus by a fused ranking."""

import torch
from scipy import sparse
from torch import Tensor

from feature_store.core.columns import Floats, Ints
from recsys.channels.sources import Sources
from recsys.evaluation.ranking import ItemScores, Scorer, vector_scorer
from recsys.fusion.fused import Fused
from recsys.fusion.weights import Weights


def fused_scorer(
    fused: Fused,
    weights: Weights,
    *,
    sources: Sources,
    query_vectors: Floats,
    item_vectors: Floats,
) -> Scorer:
    """Returns a scorer by the sum of the model, the channels and what depends on the item alone.

    Args:
        fused: Fitted channels.
        weights: Weights of the parts.
        sources: Items of the queries.
        query_vectors: Model's query vectors, [queries, dim].
        item_vectors: Model's item vectors, [items, dim].

    Raises:
        UserError: A vector is not finite.
    """
    by_model = vector_scorer(query_vectors, item_vectors)
    of_items = torch.from_numpy(fused.of_items(weights)).double()

    def choose(rows: Ints) -> ItemScores:
        model = by_model(rows)
        items, scores = fused.channels(sources.take(rows), weights)
        shape = (len(rows), len(of_items))
        said = sparse.csr_matrix((scores, items.values, items.offsets), shape).tocsc()

        def score(start: int, stop: int) -> Tensor:
            by_channels = torch.from_numpy(said[:, start:stop].toarray())
            return weights.model * model(start, stop) + of_items[start:stop] + by_channels

        return score

    return choose
