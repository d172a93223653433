"""Metrics of recommended lists, against naive loops over them."""

from itertools import combinations
from math import log2

import numpy as np
import pytest
from scipy import sparse

from feature_store.core.columns import Jagged
from recsys.evaluation.list_metrics import feature_matrix, list_metrics
from tests.support.small_batches import ITEMS, prepared


def lists(seed=0, queries=40, items=30, depth=6):
    random = np.random.default_rng(seed)
    top = np.array([random.permutation(items)[:depth] for _ in range(queries)])
    top[::5, 4:] = -1  # Every fifth list is shorter.
    top[7] = -1
    frequency = random.integers(0, 50, items)
    features = sparse.csr_matrix((random.random((items, 12)) < 0.3).astype(float))
    norm = np.maximum(np.sqrt(features.sum(axis=1)), 1)
    return top, frequency, (features / np.asarray(norm).reshape(-1, 1)).tocsr()


def test_they_equal_naive_loops():
    top, frequency, features = lists()
    candidates = np.ones(len(frequency), bool)
    candidates[-3:] = False
    top[top >= len(frequency) - 3] = 0
    found = list_metrics(top, frequency, candidates, features, 5)
    shown = [[i for i in row[:5].tolist() if i >= 0] for row in top]
    flat = [i for row in shown for i in row]
    share = (frequency + 1) / (frequency + 1).sum()
    dense = features.toarray()
    similarity = [
        np.mean([dense[a] @ dense[b] for a, b in combinations(row, 2)])
        for row in shown
        if len(row) > 1
    ]
    times = np.array([flat.count(i) for i in range(len(frequency) - 3)])
    gini = np.abs(times[:, None] - times).sum() / (2 * len(times) * times.sum())
    assert found == pytest.approx(
        {
            "coverage@5": len(set(flat)) / candidates.sum(),
            "gini@5": gini,
            "novelty@5": np.mean([-log2(share[i]) for i in flat]),
            "average_popularity@5": np.mean([frequency[i] for i in flat]),
            "intra_list_similarity@5": np.mean(similarity),
        }
    )


def test_the_same_item_for_all_is_no_coverage_and_no_diversity():
    _, frequency, features = lists()
    found = list_metrics(np.zeros((9, 1), np.int64), frequency, frequency >= 0, features, 1)
    assert found["coverage@1"] == pytest.approx(1 / 30)
    assert found["gini@1"] == pytest.approx(29 / 30)
    assert found["intra_list_similarity@1"] is None  # One item has no pair.


def test_without_lists_there_are_no_figures():
    _, frequency, features = lists()
    nothing = np.zeros((0, 5), np.int64)
    assert set(list_metrics(nothing, frequency, frequency >= 0, features, 5).values()) == {None}


def test_features_are_the_values_of_the_items_but_their_ids():
    log = prepared()
    log.num_items = ITEMS
    rows = {"kind": 4, "tags": 100}
    log.item_encoder = type("E", (), {"num_embeddings": staticmethod(lambda f: rows[f.name])})
    matrix = feature_matrix(log)
    assert matrix.shape == (ITEMS, sum(rows.values()))
    np.testing.assert_allclose(np.sqrt(matrix.multiply(matrix).sum(axis=1)), 1)
    kind, tags = (log.item_columns[name] for name in rows)
    assert isinstance(kind, Jagged)
    assert isinstance(tags, Jagged)
    expected = {*kind.take(np.array([5])).values, *(4 + tags.take(np.array([5])).values)}
    assert set(matrix[[5]].indices) == expected
