"""Similar content that is found approximately against all comparisons."""

import numpy as np
import pytest
from scipy import sparse

from recsys.channels import content_search
from recsys.channels.content_search import _most_frequent, _rarest, directions, similar

ITEMS, COUNT = 600, 10


@pytest.fixture
def content() -> sparse.csr_matrix:
    """Returns items with a frequent value, two of their group and some of their own, in rows of 1.

    The frequent value weighs little, as by its inverse document frequency.
    """
    random = np.random.default_rng(0)
    columns = [
        (np.zeros(ITEMS, int), 0.1),
        (1 + np.arange(ITEMS) % 30, 1.0),
        (31 + random.integers(0, 60, ITEMS), 1.5),
        (91 + random.integers(0, 200, ITEMS), 2.0),
    ]
    rows = np.tile(np.arange(ITEMS), len(columns))
    values = np.repeat([weight for _, weight in columns], ITEMS)
    at = (rows, np.concatenate([column for column, _ in columns]))
    matrix = sparse.csr_matrix((values, at), (ITEMS, 291), dtype=np.float32)
    length = np.sqrt(matrix.multiply(matrix).sum(axis=1))
    return matrix.multiply(1 / length).tocsr().astype(np.float32)


def test_few_items_are_all_compared(content):
    product = similar(content, np.zeros(ITEMS, int))
    assert product.rows is None
    assert (product.left != content).nnz == 0


def test_what_is_found_has_exact_scores_and_little_is_missed(content, monkeypatch):
    frequency = np.random.default_rng(1).integers(0, 9, ITEMS)
    exact = similar(content, frequency)
    monkeypatch.setattr(content_search, "MOST_MULTIPLICATIONS", 0)
    monkeypatch.setattr(content_search, "_COMPARED", 60)
    product = similar(content, frequency)
    assert product.costs().max() <= 60 < exact.costs().min() / 5
    found = product.highest(0, ITEMS, COUNT)
    cosines = (content @ content.T).toarray()
    for candidate in range(ITEMS):
        row = found[candidate].tocoo()
        assert candidate not in row.col
        np.testing.assert_allclose(row.data, cosines[candidate, row.col], rtol=1e-5)
    assert found.sum() > 0.99 * exact.highest(0, ITEMS, COUNT).sum()
    parts = [product.highest(start, min(start + 70, ITEMS), COUNT) for start in range(0, ITEMS, 70)]
    assert (sparse.vstack(parts) != found).nnz == 0


def test_of_a_value_that_many_have_the_most_frequent_items_are_compared(content):
    frequency = np.random.default_rng(1).permutation(ITEMS)
    kept = _most_frequent(content, frequency, 5)
    assert np.diff(kept.indptr).max() == 5
    assert set(kept[0].indices) == set(np.argsort(-frequency)[:5])
    entry = kept[0].tocoo()
    np.testing.assert_array_equal(entry.data, content[entry.col, 0].toarray()[:, 0])


def test_rarest_values_are_kept_until_their_items_are_too_many():
    matrix = sparse.csr_matrix(np.array([[1, 2, 3, 0], [0, 5, 0, 6], [0, 0, 0, 0]], np.float32))
    kept = _rarest(matrix, np.array([30, 8, 4, 50]), 20)
    assert kept.toarray().tolist() == [[0, 2, 3, 0], [0, 5, 0, 0], [0, 0, 0, 0]]
    assert _rarest(matrix, np.array([30, 8, 4, 50]), 1).toarray()[0].tolist() == [0, 0, 3, 0]


def near_vectors() -> sparse.csr_matrix:
    """Returns vectors near 20 centres; the first one is of length 0."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(20, 32))
    vectors = (centres[np.arange(ITEMS) % 20] + 0.3 * random.normal(size=(ITEMS, 32))).astype("f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    return sparse.csr_matrix(vectors)


def test_near_vectors_have_directions_in_common():
    found = directions(near_vectors())
    assert np.diff(found.indptr).tolist() == [0, *[8] * (ITEMS - 1)]
    common = (found @ found.T).toarray()
    nearest = np.argsort(-common[1:], axis=1)[:, :COUNT]
    assert (nearest % 20 == np.arange(1, ITEMS)[:, None] % 20).mean() > 0.9


def test_vectors_beside_values_are_found_by_their_directions(content, monkeypatch):
    both = sparse.hstack([content, near_vectors()], format="csr", dtype=np.float32)
    exact = similar(both, np.zeros(ITEMS, int))
    monkeypatch.setattr(content_search, "MOST_MULTIPLICATIONS", 0)
    monkeypatch.setattr(content_search, "_COMPARED", 200)
    product = similar(both, np.zeros(ITEMS, int))
    assert product.costs().max() <= 200
    found = product.highest(0, ITEMS, COUNT)
    assert found.sum() > 0.9 * exact.highest(0, ITEMS, COUNT).sum()
