"""Catalogues of random vectors, and answers by a full sort."""

import numpy as np

from feature_store.core.columns import Jagged

DIM = 16


def unit_rows(rows, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def bags(rows):
    lengths = np.array([len(row) for row in rows], np.int64)
    return Jagged.from_lengths(np.concatenate([*rows, []]).astype(np.int32), lengths)


def stored_vectors(index):
    return index.vectors_of(np.arange(len(index)))


def naive(vectors, query, k, excluded=(), allowed=None):
    """Scores in float64, rounded to float32; of equal ones the lower index."""
    scores = (vectors.astype(np.float64) @ query).astype(np.float32)
    left = set(range(len(vectors)) if allowed is None else np.flatnonzero(allowed))
    ranked = sorted(left - set(np.asarray(excluded).tolist()), key=lambda i: (-scores[i], i))[:k]
    return ranked, scores[ranked]


def assert_answers(index, queries, k, excluded, allowed=None):
    """Compares an index's answers, and the last bit of their scores, with those of a full sort."""
    vectors = stored_vectors(index)
    items, scores = index.search(queries, k, bags(excluded), allowed)
    assert len(items) == len(queries)
    for row, query in enumerate(queries):
        start, stop = items.offsets[row : row + 2]
        expected, expected_scores = naive(vectors, query, k, excluded[row], allowed)
        assert items.values[start:stop].tolist() == expected
        np.testing.assert_array_equal(scores[start:stop], expected_scores)


def assert_same_answers(one, other, queries, k=20):
    nothing = bags([[]] * len(queries))
    (items, scores), (other_items, other_scores) = (
        index.search(queries, k, nothing) for index in (one, other)
    )
    np.testing.assert_array_equal(items.values, other_items.values)
    np.testing.assert_array_equal(items.offsets, other_items.offsets)
    np.testing.assert_array_equal(scores, other_scores)
