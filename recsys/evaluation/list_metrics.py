"""Metrics of lists of recommendations, whether or not their items were held out.

coverage@K               items that are in any list, over those of the corpus
gini@K                   how unevenly items are in lists: 0 where all are in as many
novelty@K                mean of -log2 of the item's share of training events, each counted + 1
average_popularity@K     mean training events of an item
intra_list_similarity@K  mean cosine of two items of a list, by their features but the id
"""

import numpy as np
from scipy import sparse

from feature_store.core.columns import Bools, Ints, Jagged
from pipelines.prepared.reader import Prepared
from pipelines.statistics.popularity import popularity
from recsys.evaluation.baselines.item_knn import binary_matrix

LIST_METRICS = ("coverage", "gini", "novelty", "average_popularity", "intra_list_similarity")
# Lists at a time.
_BLOCK = 4096


def list_metrics(
    top: Ints, frequency: Ints, candidates: Bools, features: sparse.csr_matrix, cutoff: int
) -> dict[str, float | None]:
    """Computes the metrics by name; None where there are no lists, or no features.

    Args:
        top: Items of the lists, best first, [queries, depth]; -1 where a list is shorter.
        frequency: Training events of each item, [items].
        candidates: Whether an item can be recommended, [items].
        features: Result of `feature_matrix`, [items, values].
        cutoff: Length to which lists are cut.
    """
    shown = top[:, :cutoff]
    items = shown[shown >= 0]
    if not len(items):
        return {f"{name}@{cutoff}": None for name in LIST_METRICS}
    times = np.bincount(items, minlength=len(frequency))
    share = (frequency + 1) / (frequency + 1).sum()
    values = (
        float((times[candidates] > 0).mean()),
        popularity(times[candidates]).gini,
        float(-np.log2(share[items]).mean()),
        float(frequency[items].mean()),
        _similarity(shown, features),
    )
    return {f"{name}@{cutoff}": v for name, v in zip(LIST_METRICS, values, strict=True)}


def feature_matrix(prepared: Prepared) -> sparse.csr_matrix:
    """Returns the items' sparse features but the id, [items, values], rows of norm 1 or 0."""
    parts = [sparse.csr_matrix((prepared.num_items, 0))]
    for feature in prepared.features.item:
        column = prepared.item_columns[feature.name]
        if isinstance(column, Jagged) and not feature.is_id:
            parts.append(binary_matrix(column, prepared.item_encoder.num_embeddings(feature)))
    joined = sparse.hstack(parts, format="csr")
    norm = np.sqrt(np.maximum(np.diff(joined.indptr), 1))
    return sparse.diags_array(1 / norm).tocsr() @ joined


def _similarity(shown: Ints, features: sparse.csr_matrix) -> float | None:
    """Averages the cosines of all pairs of a list: the squared norm of a sum, less the squares."""
    if not features.nnz:
        return None
    own = np.asarray(features.multiply(features).sum(axis=1)).reshape(-1)
    total, lists = 0.0, 0
    for start in range(0, len(shown), _BLOCK):
        block = shown[start : start + _BLOCK]
        is_item = block >= 0
        counts = is_item.sum(axis=1)
        ends = np.concatenate([[0], np.cumsum(counts)])
        items = block[is_item]
        chosen = sparse.csr_matrix((np.ones(len(items)), items, ends), (len(block), len(own)))
        sums = chosen @ features
        squares = np.asarray(sums.multiply(sums).sum(axis=1)).reshape(-1) - chosen @ own
        pairs = counts * (counts - 1)
        total += float((squares[pairs > 0] / pairs[pairs > 0]).sum())
        lists += int((pairs > 0).sum())
    return total / lists if lists else None
