"""Products of sparse matrices against dense ones."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from recsys.channels.product import Product, ranges

ITEMS, QUERIES = 30, 80


def seen(seed: int = 0) -> sparse.csr_matrix:
    random = np.random.default_rng(seed)
    return sparse.csr_matrix((random.random((QUERIES, ITEMS)) < 0.15).astype(np.float32))


def product() -> Product:
    matrix = seen()
    return Product(matrix.T.tocsr(), matrix)


def dense() -> np.ndarray:
    matrix = seen()
    scores = (matrix.T @ matrix).toarray()
    np.fill_diagonal(scores, 0)
    return scores


@pytest.mark.parametrize("count", [1, 4, ITEMS])
def test_each_candidate_keeps_its_highest_sources_and_never_itself(count):
    kept = product().highest(0, ITEMS, count).toarray()
    assert (np.diag(kept) == 0).all()
    for row, scores in zip(kept, dense(), strict=True):
        assert np.sort(row)[::-1][:count].tolist() == np.sort(scores)[::-1][:count].tolist()
        assert (row[row > 0] == scores[row > 0]).all()
        assert (row > 0).sum() <= count


def test_ranges_of_candidates_give_what_all_at_once_give():
    whole = product().highest(0, ITEMS, 4)
    cuts = ranges(product().costs(), 50)
    assert len(cuts) > 5
    parts = sparse.vstack([product().highest(start, stop, 4) for start, stop in cuts])
    assert (parts != whole).nnz == 0


def test_costs_count_multiplications_and_ranges_cover_every_candidate():
    matrix = seen()
    lengths = np.diff(matrix.indptr)
    expected = [lengths[matrix[:, [item]].toarray()[:, 0] > 0].sum() for item in range(ITEMS)]
    assert product().costs().tolist() == expected
    cuts = ranges(np.array([5, 5, 200, 1, 1]), 10)
    assert [cuts[0][0], *(stop for _, stop in cuts)][-1] == 5
    assert all(first[1] == second[0] for first, second in pairwise(cuts))
    assert ranges(np.array([], np.int64), 10) == []


def test_sums_leave_the_diagonal_out_and_scales_apply_to_both_sides():
    of_candidates, of_sources = product().sums()
    np.testing.assert_allclose(of_candidates, dense().sum(axis=1))
    np.testing.assert_allclose(of_sources, dense().sum(axis=0))
    left, right = np.arange(1.0, ITEMS + 1), np.arange(2.0, ITEMS + 2)
    scaled = product().scaled(left, right).highest(0, ITEMS, ITEMS).toarray()
    np.testing.assert_allclose(scaled, left[:, None] * dense() * right, rtol=1e-6)
