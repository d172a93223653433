"""Exact ranking: order, ties, exclusion, and independence of the blocks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.errors import UserError
from recsys.evaluation.ranking import top_items, top_items_on_ray, vector_scorer, whole_ranks
from tests.support.bags import jagged, random_bags


def of_matrix(scores):
    scores = torch.as_tensor(scores)
    return lambda rows: lambda start, stop: scores[rows, start:stop]


def naive(scores, excluded, k):
    """Sorts each row: highest score first, then lowest index."""
    rows = []
    for row, seen in zip(scores, excluded, strict=True):
        order = sorted(range(len(row)), key=lambda item: (-row[item], item))
        kept = [item for item in order if item not in set(seen)][:k]
        rows.append(kept + [-1] * (k - len(kept)))
    return np.array(rows).reshape(len(scores), k)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_ranking_is_a_stable_sort_whatever_the_blocks(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    queries, items = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    # Few distinct values, of both signs and with both zeros, so that most scores are tied.
    scores = rng.integers(-2, 3, (queries, items)) * rng.choice([1.0, -1.0], (queries, items))
    excluded = random_bags(rng, queries, items, items)
    k = data.draw(st.integers(1, 12))
    found = top_items(
        of_matrix(scores),
        num_items=items,
        excluded=jagged(excluded),
        k=k,
        query_block=data.draw(st.integers(1, 10)),
        item_block=data.draw(st.integers(1, 50)),
    )
    assert np.array_equal(found, naive(scores, excluded, k))


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_whole_ranks_are_positions_in_the_whole_ranking(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    queries, items = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    scores = rng.integers(-2, 3, (queries, items)) * rng.choice([1.0, -1.0], (queries, items))
    excluded = random_bags(rng, queries, items, items)
    is_candidate = rng.random(items) < 0.8
    wanted = random_bags(rng, queries, items, min(items, 4))
    found = whole_ranks(
        of_matrix(scores),
        jagged(wanted),
        num_items=items,
        excluded=jagged(excluded),
        is_candidate=is_candidate,
        query_block=data.draw(st.integers(1, 10)),
        item_block=data.draw(st.integers(1, 50)),
    )
    gone = set(np.flatnonzero(~is_candidate))
    ranking = naive(scores, [[*seen, *gone] for seen in excluded], items)
    expected = [
        list(row).index(item) if item in row else (row >= 0).sum()
        for row, bag in zip(ranking, wanted, strict=True)
        for item in bag
    ]
    assert found.tolist() == expected


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_vectors_rank_the_same_whatever_the_blocks(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    vectors = rng.normal(size=(60, 24)).astype(np.float32)
    items = vectors[rng.integers(0, 40, 150)]  # Many items are equal, and must stay in order.
    queries = rng.normal(size=(17, 24)).astype(np.float32)
    excluded = jagged(random_bags(rng, 17, 150, 5))
    scorer = vector_scorer(queries, items)
    whole = top_items(scorer, num_items=150, excluded=excluded, k=50)
    blocks = {"query_block": data.draw(st.integers(1, 20))}
    blocks["item_block"] = data.draw(st.integers(1, 160))
    found = top_items(scorer, num_items=150, excluded=excluded, k=50, **blocks)
    assert np.array_equal(found, whole)
    exact = queries.astype(np.float64) @ items.T.astype(np.float64)
    assert np.array_equal(whole[0], naive(exact.astype(np.float32), excluded_bags(excluded), 50)[0])


def excluded_bags(column):
    return [bag.tolist() for bag in np.split(column.values, column.offsets[1:-1])]


def test_extreme_scores_keep_their_order():
    scores = np.array([[0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf]], np.float32)
    found = top_items(of_matrix(scores), num_items=8, excluded=jagged([[]]), k=8)
    assert found.tolist() == [[6, 4, 2, 0, 1, 3, 5, 7]]


def test_too_few_candidates_are_filled_with_minus_one():
    scores = np.zeros((1, 3))
    found = top_items(of_matrix(scores), num_items=3, excluded=jagged([[0, 2]]), k=5, item_block=2)
    assert found.tolist() == [[1, -1, -1, -1, -1]]


def test_only_candidates_are_ranked():
    scores = np.arange(12.0).reshape(2, 6)
    found = top_items(
        of_matrix(scores),
        num_items=6,
        excluded=jagged([[5], []]),
        k=3,
        is_candidate=np.array([1, 0, 1, 0, 0, 1], bool),
        item_block=2,
    )
    assert found.tolist() == [[2, 0, -1], [5, 2, 0]]


def test_vectors_that_are_not_finite_are_refused():
    broken = np.array([[1.0, np.nan]], np.float32)
    with pytest.raises(UserError, match="item vectors are not finite"):
        vector_scorer(np.ones((1, 2), np.float32), broken)


def test_tasks_of_ray_rank_as_one_process_does(ray_session):
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(80, 8)).astype(np.float32)
    items = vectors[rng.integers(0, 60, 300)]  # Repeated vectors have tied scores.
    excluded = jagged(random_bags(rng, 80, 300, 5))
    candidates = rng.random(300) < 0.8
    asked = {"num_items": 300, "excluded": excluded, "k": 20, "is_candidate": candidates}
    scorer = vector_scorer(vectors, items)
    whole = top_items(scorer, **asked)
    for tasks in (2, 3, 100):
        assert np.array_equal(top_items_on_ray(scorer, tasks=tasks, **asked), whole)
