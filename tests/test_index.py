"""Both indexes give the same contract: exact scores, a total order, and nothing excluded."""

import numpy as np
import pytest

from feature_store.columns import Jagged
from feature_store.errors import UserError
from serving.index import ItemIndex, build_index

ITEMS, DIM = 600, 16


def unit_rows(rows, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def bags(rows):
    lengths = np.array([len(row) for row in rows], np.int64)
    return Jagged.from_lengths(np.concatenate([*rows, []]).astype(np.int64), lengths)


@pytest.fixture(params=["flat", "hnsw"])
def index(request, tmp_path):
    vectors = unit_rows(ITEMS, 0)
    vectors[300:305] = vectors[7]  # Equal items tie exactly.
    exact_up_to = ITEMS if request.param == "flat" else 10
    made, report = build_index(vectors, unit_rows(50, 1), min_recall=1.0, exact_up_to=exact_up_to)
    assert report.kind == request.param
    assert report.recall == 1.0
    made.write(tmp_path / "index.faiss")
    return vectors, ItemIndex.read(tmp_path / "index.faiss")


def naive(vectors, query, k, excluded=()):
    """Scores in float64, rounded to float32; of equal ones the lower index."""
    scores = (vectors.astype(np.float64) @ query).astype(np.float32)
    ranked = sorted(set(range(len(vectors))) - set(excluded), key=lambda i: (-scores[i], i))[:k]
    return ranked, scores[ranked]


def test_answers_are_exact_and_in_order(index):
    vectors, found_in = index
    queries = np.concatenate([unit_rows(20, 2), vectors[[7]]])
    items, scores = found_in.search(queries, 10, bags([[]] * 21))
    for row, query in enumerate(queries):
        start, stop = items.offsets[row : row + 2]
        expected, expected_scores = naive(vectors, query, 10)
        assert items.values[start:stop].tolist() == expected
        np.testing.assert_array_equal(scores[start:stop], expected_scores)


def test_exact_search_keeps_the_order_among_more_equal_items_than_candidates():
    vectors = unit_rows(ITEMS, 0)
    vectors[np.random.default_rng(9).permutation(ITEMS)[:200]] = vectors[3]
    query = vectors[[3]]
    found_in, _ = build_index(vectors, query, min_recall=1.0)
    for k, excluded in ((1, []), (10, [3]), (150, []), (300, [3, 4, 5])):
        items, _ = found_in.search(query, k, bags([excluded]))
        assert items.values.tolist() == naive(vectors, query[0], k, excluded)[0]


def test_excluded_items_make_room_for_the_next_ones(index):
    vectors, found_in = index
    queries = unit_rows(3, 3)
    best, _ = naive(vectors, queries[1], 300)
    excluded = [[], [*best, best[0]], [5]]  # One is excluded twice.
    items, _ = found_in.search(queries, 4, bags(excluded))
    for row in range(3):
        start, stop = items.offsets[row : row + 2]
        expected, _ = naive(vectors, queries[row], 4, excluded[row])
        assert items.values[start:stop].tolist() == expected


def test_fewer_are_given_only_where_no_more_are_left(index):
    vectors, found_in = index
    query = unit_rows(1, 4)
    kept = [3, 77, 599]
    excluded = [np.setdiff1d(np.arange(ITEMS), kept)]
    items, _ = found_in.search(query, 10, bags(excluded))
    assert items.values.tolist() == naive(vectors, query[0], 10, excluded[0])[0]
    everything, _ = found_in.search(query, 1000, bags([[]]))
    assert sorted(everything.values.tolist()) == list(range(ITEMS))
    nothing, scores = found_in.search(query, 10, bags([np.arange(ITEMS)]))
    assert len(nothing.values) == len(scores) == 0


def test_no_queries_no_answers(index):
    items, scores = index[1].search(np.empty((0, DIM), np.float32), 5, bags([]))
    assert len(items) == len(scores) == 0


def test_the_search_widens_until_the_recall_is_reached(monkeypatch):
    vectors, queries = unit_rows(3000, 5), unit_rows(100, 6)
    monkeypatch.setattr("serving.index._LINKS", 4)
    monkeypatch.setattr("serving.index._EF_CONSTRUCTION", 8)
    _, low = build_index(vectors, queries, min_recall=0.3, exact_up_to=10)
    _, high = build_index(vectors, queries, min_recall=0.8, exact_up_to=10)
    assert low.ef_search < high.ef_search
    assert low.recall < high.recall


def test_an_index_that_cannot_reach_the_recall_is_refused(monkeypatch):
    monkeypatch.setattr("serving.index._LINKS", 2)
    monkeypatch.setattr("serving.index._EF_CONSTRUCTION", 2)
    monkeypatch.setattr("serving.index._EF_SEARCH", (8, 16))
    with pytest.raises(UserError, match=r"the index finds 0\.\d+ of the exact 100 .* at least 1.0"):
        build_index(unit_rows(3000, 7), unit_rows(50, 8), min_recall=1.0, exact_up_to=10)
