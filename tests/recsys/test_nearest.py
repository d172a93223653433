"""The search that looks at few products finds what the one that looks at all of them does."""

import numpy as np
import pytest
import torch

from recsys import nearest
from recsys.evaluation.ranking import top_items, vector_scorer
from tests.support.bags import jagged, random_bags

ITEMS, QUERIES, K = 1500, 40, 5


@pytest.fixture(params=[False, True], ids=["float32", "bf16"])
def is_rough(request, monkeypatch):
    """Chooses the way to multiply, whatever the processor: some compute bf16 slowly."""
    monkeypatch.setattr(nearest, "has_bfloat16", lambda: request.param)
    return request.param


def found_by_all_and_by_few(queries, items, excluded, is_candidate=None):
    scorer = vector_scorer(queries, items)
    asked = {
        "num_items": len(items),
        "excluded": jagged(excluded),
        "k": K,
        "is_candidate": is_candidate,
    }
    return top_items(lambda rows: scorer(rows), **asked), top_items(scorer, **asked)


def vectors(kind, rng):
    queries, items = (rng.standard_normal((n, 8)).astype(np.float32) for n in (QUERIES, ITEMS))
    if kind == "equal":  # The lowest item is first, and any number may be kept.
        items = items[rng.integers(0, 3, ITEMS)]
    elif kind == "close":  # Float32 products are further apart than the scores.
        items = items[:1] + rng.integers(-2, 3, (ITEMS, 8)).astype(np.float32) * 2**-22
    elif kind == "below":  # All products are below 0, whose bits have another order.
        queries, items = np.abs(queries), -np.abs(items)
    elif kind == "long":  # Lengths that differ by much.
        items *= np.exp(rng.standard_normal((ITEMS, 1)) * 5).astype(np.float32)
    elif kind == "outlier":  # The squares of its length overflow in float32.
        items[7] *= 1e20
    elif kind == "overflow":  # Some products do, and sums whose parts do.
        items, queries = items * np.float32(5e37), queries / 2
        queries[::2] *= 1e-3
    elif kind == "zero":
        queries[::2], items[::3] = 0, 0
    elif kind == "descending":
        items = np.sort(items, axis=0)
    return queries, items


@pytest.mark.parametrize(
    "kind",
    ["any", "equal", "close", "below", "long", "outlier", "overflow", "zero", "descending"],
)
@pytest.mark.parametrize("block", [64, 333])
@pytest.mark.usefixtures("is_rough")
def test_the_best_are_found_to_the_last_tie(kind, block, monkeypatch):
    assert nearest.is_worth_it(ITEMS, K)
    monkeypatch.setattr(nearest, "ITEM_BLOCK", block)
    monkeypatch.setattr(nearest, "QUERY_BLOCK", 16)
    rng = np.random.default_rng(7)
    queries, items = vectors(kind, rng)
    excluded = random_bags(rng, QUERIES, ITEMS, 300)
    whole, few = found_by_all_and_by_few(queries, items, excluded)
    assert np.array_equal(few, whole)


@pytest.mark.parametrize("candidates", [0, 3, 40, 1200])
@pytest.mark.usefixtures("is_rough")
def test_only_candidates_are_found_however_few(candidates):
    rng = np.random.default_rng(1)
    queries, items = vectors("any", rng)
    is_candidate = np.zeros(ITEMS, np.bool_)
    is_candidate[rng.choice(ITEMS, candidates, replace=False)] = True
    excluded = [list(range(0, ITEMS, 2)), *[[]] * (QUERIES - 1)]
    whole, few = found_by_all_and_by_few(queries, items, excluded, is_candidate)
    assert np.array_equal(few, whole)


def test_few_products_are_kept(is_rough):
    rng = np.random.default_rng(2)
    queries, items = (rng.standard_normal((n, 16)).astype(np.float32) for n in (8, 20_000))
    known = nearest.Items(torch.from_numpy(items))
    assert known.rounded.dtype == (torch.bfloat16 if is_rough else torch.float32)
    search = nearest.Nearest(torch.from_numpy(queries), known, jagged([[]] * 8), None, K)
    search._sample()
    kept = sum(search._look_at(start, start + 1000) for start in range(0, 20_000, 1000))
    assert kept < 0.05 * 8 * 20_000
