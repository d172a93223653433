"""Recall is of the exact top, by slice, and fair to ties."""

import numpy as np

from feature_store.core.columns import Jagged
from serving.index import vectors as index_vectors
from serving.index.recall import ExactTop, recall_by_slice
from tests.support.indexes import unit_rows


class Fixed:
    """Answers every query with the same items."""

    def __init__(self, items):
        self.items = np.array(items)

    def search(self, queries, k, excluded):
        lengths = np.full(len(queries), len(self.items))
        return Jagged.from_lengths(np.tile(self.items, len(queries)), lengths), np.empty(0)


def test_the_exact_top_is_a_full_sorts(monkeypatch):
    monkeypatch.setattr(index_vectors, "BLOCK", 7)
    vectors, queries = unit_rows(100, 0), unit_rows(9, 1)
    top = ExactTop.of(vectors, queries, 20)
    np.testing.assert_array_equal(top.items, np.argsort(-queries @ vectors.T, axis=1)[:, :20])
    assert ExactTop.of(vectors, queries, 1000).items.shape == (9, 100)


def test_recall_is_of_the_nearest_items_that_are_of_the_slice():
    """Finds two of the four nearest items of the first query, one of them of the slice."""
    angle = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    queries = vectors[[0, 5]]  # Exact: 0 1 2 3 and 5 4 3 2.
    slices = {
        "even": np.arange(6) % 2 == 0,
        "odd": np.arange(6) % 2 == 1,
        "none": np.zeros(6, np.bool_),
    }
    recalls = recall_by_slice(Fixed([0, 1, 4, 5]), vectors, queries, slices, k=4)
    assert recalls == {"even": 2 / 4, "odd": 2 / 4}
    recalls = recall_by_slice(Fixed([0, 2, 4]), vectors, queries, slices, k=4)
    assert recalls == {"even": 4 / 4, "odd": 0.0}


def test_equal_items_stand_in_for_each_other():
    vectors = np.zeros((6, 2), np.float32)
    vectors[:, 0] = [1, 0, 0, 0, 0, 1]  # The third nearest is any of four.
    vectors[1:5, 1] = 1
    slices = {"all": np.ones(6, np.bool_)}
    query = np.array([[1, 0]], np.float32)
    for items in ([0, 5, 1], [0, 5, 4]):
        assert recall_by_slice(Fixed(items), vectors, query, slices, k=3) == {"all": 1.0}
    # Two of the four cannot stand in for a nearer one.
    assert recall_by_slice(Fixed([0, 1, 4]), vectors, query, slices, k=3) == {"all": 2 / 3}
