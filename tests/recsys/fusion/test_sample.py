"""The sample of the search against scores of all items for all queries."""

import tracemalloc

import numpy as np
import pytest

from recsys.channels.sources import Sources
from recsys.evaluation.task import Task
from recsys.fusion import best as finding
from recsys.fusion import sample as sampling
from recsys.fusion.fused import Fused
from recsys.fusion.queries import FusedQueries
from recsys.fusion.sample import STRONGEST_DIAL, draw_sample
from recsys.fusion.weights import Weights
from tests.support.bags import jagged
from tests.support.fused.tiny_fusion import random_fused

ITEMS, QUERIES, DIM, BEST = 90, 25, 6, 7


@pytest.fixture
def queries() -> FusedQueries:
    random = np.random.default_rng(1)

    def some(most: int) -> list[list[int]]:
        sizes = random.integers(0, most + 1, QUERIES)
        return [np.sort(random.choice(ITEMS, size, replace=False)).tolist() for size in sizes]

    excluded = some(30)
    held_out = [
        [item for item in random.choice(ITEMS, 3, replace=False).tolist() if item not in bag]
        for bag in excluded
    ]
    history, known, own = some(12), some(12), some(1)
    task = Task(
        split="validation",
        queries=np.arange(QUERIES),
        held_out=jagged(held_out),
        known=jagged(known),
        excluded=jagged(excluded),
        history=jagged(history),
        already_seen=0,
        itself=0,
        repeated=0,
    )
    sources = Sources(task.history, task.known, jagged(own))
    vectors = (random.normal(size=(count, DIM)).astype("f4") for count in (QUERIES, ITEMS))
    return FusedQueries(task, sources, *vectors, is_ranked=np.arange(ITEMS) % 11 > 0)


def every_score(fused: Fused, queries: FusedQueries) -> np.ndarray:
    """Returns the scores of all items by all parts, [parts, queries, items]."""
    model = queries.query_vectors @ queries.item_vectors.T
    parts = [model]
    for name in fused.info.channels:
        items, scores = fused.channel(name, queries.sources)
        dense = np.zeros_like(model)
        dense[items.row_of_value(), items.values] = scores
        parts.append(dense)
    return np.stack([*parts, *(np.tile(each, (QUERIES, 1)) for each in (fused.trend, fused.dial))])


@pytest.mark.parametrize("at_once", [1_000_000, 40])
def test_candidates_are_the_best_of_each_part_and_scores_are_exact(queries, monkeypatch, at_once):
    monkeypatch.setattr(sampling, "_BEST", BEST)
    monkeypatch.setattr(sampling, "_QUERIES_AT_ONCE", max(3, at_once // 20))
    monkeypatch.setattr(finding, "_ITEMS_AT_ONCE", at_once)
    monkeypatch.setattr(finding, "_SCORES_AT_ONCE", 4 * at_once)
    fused = random_fused(ITEMS)
    drawn = draw_sample(fused, queries)
    scores = every_score(fused, queries)
    strongest = scores[:1] - STRONGEST_DIAL * fused.dial
    held_out = queries.task.held_out
    for row in range(QUERIES):
        excluded = set(queries.task.excluded.take(np.array([row])).values.tolist())
        allowed = [i for i in range(ITEMS) if queries.is_ranked[i] and i not in excluded]
        expected = set(held_out.take(np.array([row])).values.tolist())
        for place, ranking in enumerate([*scores[:-1, row], *strongest[:, row]]):
            is_model = place in (0, len(scores) - 1)
            found = [item for item in allowed if is_model or ranking[item] > 0]
            expected |= set(sorted(found, key=lambda item: -ranking[item])[:BEST])
        candidates = drawn.candidates[row].numpy()
        present = candidates[candidates >= 0]
        assert present.tolist() == sorted(expected)
        said = drawn.values[:, row, : len(present)].numpy()
        np.testing.assert_allclose(said, scores[:, row, present], rtol=1e-5, atol=1e-6)
        assert drawn.rarity[row, : len(present)].tolist() == fused.rarity[present].tolist()
    chosen = drawn.candidates[drawn.query, drawn.position]
    assert chosen.tolist() == drawn.item.tolist() == held_out.values.tolist()


def test_pairs_need_no_row_of_candidates_each():
    candidates = np.tile(np.arange(1_000), (20, 1))
    candidates[:, 900:] = -1
    query, item = np.repeat(np.arange(20), 2_000), np.tile(np.arange(900), 45)[:40_000]
    tracemalloc.start()
    positions = sampling._positions(candidates, query, item)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert positions.tolist() == item.tolist()
    assert most < 4_000_000  # A row each would take 40 million bytes, and more.


def test_a_catalogue_of_fewer_items_than_candidates_is_taken_whole(queries):
    drawn = draw_sample(random_fused(ITEMS), queries)
    excluded = queries.task.excluded
    for row in range(QUERIES):
        hidden = set(excluded.take(np.array([row])).values.tolist())
        allowed = {i for i in range(ITEMS) if queries.is_ranked[i]} - hidden
        wanted = set(queries.task.held_out.take(np.array([row])).values.tolist())
        candidates = drawn.candidates[row]
        assert set(candidates[candidates >= 0].tolist()) == allowed | wanted


def test_all_of_a_catalogue_smaller_than_every_cutoff_are_found(queries):
    drawn = draw_sample(random_fused(ITEMS), queries)
    width = drawn.candidates.shape[1]
    assert drawn.found(Weights(), (width, width + 10)).all()
