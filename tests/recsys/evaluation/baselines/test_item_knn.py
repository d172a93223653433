"""Item-kNN against dense matrices."""

import numpy as np

from recsys.evaluation.baselines import item_knn
from recsys.evaluation.baselines.item_knn import item_knn_scorer, item_similarity
from recsys.evaluation.ranking import top_items
from tests.support.bags import bag, jagged, random_bags

QUERIES, ITEMS = 70, 45


def dense_similarity(bags, neighbours):
    """Computes cosines of the binary matrix; each column keeps its largest, ties by lower row."""
    matrix = np.zeros((len(bags), ITEMS))
    for row, items in enumerate(bags):
        matrix[row, items] = 1
    norms = np.sqrt(np.maximum(matrix.sum(axis=0), 1))
    cosine = matrix.T @ matrix / np.outer(norms, norms)
    np.fill_diagonal(cosine, 0)
    kept = np.zeros_like(cosine)
    for item in range(ITEMS):
        best = sorted(range(ITEMS), key=lambda other: (-cosine[other, item], other))[:neighbours]
        kept[best, item] = cosine[best, item]
    return kept


def test_item_similarity_equals_dense_cosines(monkeypatch):
    bags = random_bags(np.random.default_rng(0), QUERIES, ITEMS, 9)
    for neighbours in (1, 6, ITEMS):
        expected = dense_similarity(bags, neighbours)
        for entries in (1, 4 * ITEMS, 10**6):  # Blocks of one item, of four, of all.
            monkeypatch.setattr(item_knn, "_ENTRIES_AT_ONCE", entries)
            found = item_similarity(jagged(bags), ITEMS, neighbours).toarray()
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_item_knn_ranks_as_dense_sums_of_similarities():
    rng = np.random.default_rng(1)
    bags, known = random_bags(rng, QUERIES, ITEMS, 9), random_bags(rng, QUERIES, ITEMS, 6)
    scores = np.zeros((QUERIES, ITEMS))
    for row, items in enumerate(known):
        scores[row] = dense_similarity(bags, 6)[items].sum(axis=0)
    scorer = item_knn_scorer(jagged(known), item_similarity(jagged(bags), ITEMS, 6))
    found = np.concatenate(
        [scorer(np.arange(QUERIES))(0, 20), scorer(np.arange(QUERIES))(20, 45)], 1
    )
    np.testing.assert_allclose(found, scores, rtol=1e-12, atol=1e-12)
    top = top_items(scorer, num_items=ITEMS, excluded=jagged(known), k=10, item_block=7)
    for row in range(QUERIES):
        assert not set(top[row].tolist()) & set(known[row].tolist())


def test_repeated_items_count_once():
    twice, once = jagged([[0, 1, 1], [1, 2]]), jagged([[0, 1], [1, 2]])
    assert (item_similarity(twice, 3, 5) != item_similarity(once, 3, 5)).nnz == 0
    assert bag(twice, 0) == [0, 1, 1]
