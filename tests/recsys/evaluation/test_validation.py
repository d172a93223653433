"""Validation can tell models apart, or says that it cannot."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys.evaluation.selection import score_of
from recsys.evaluation.validation import selection_warning, validation_metrics
from tests.support.bags import jagged


def prepared(items: int, held_out: list[list[int]], known: list[list[int]]):
    """Returns a log of `items` items, the last of which is gone."""
    held_out, known = jagged(held_out), jagged(known)
    state = SimpleNamespace(
        train=known,
        validation=held_out,
        known=lambda split: known,
        held_out=lambda split: held_out,
        history=lambda split: known,
    )
    return SimpleNamespace(
        manifest=SimpleNamespace(data=SimpleNamespace(history=SimpleNamespace(kind="past"))),
        query_state=state,
        excluded=state.known,
        own_items=jagged([[] for _ in range(len(known))]),
        is_current_item=np.arange(items) < items - 1,
        num_items=items,
    )


@pytest.mark.parametrize(
    ("items", "select_by", "expected"),
    [
        (30, "recall@50", "is 1 for every model, because a query ranks at most 27 items"),
        (30, "recall@10", None),
        (12, "recall@10", "is 1 for every model"),
        (70, "recall@50", "is 0.75 for items in a random order"),
        (200, "recall@50", None),
        (30, "ndcg@10", None),
        (12, "map@10", None),
        (5_000, "recall@50", None),
    ],
)
def test_a_recall_that_every_model_reaches_is_named(items, select_by, expected):
    log = prepared(items, [[5], [6]], [[1, 2, 1], [items - 1, 3, 4]])
    found = selection_warning(log, select_by)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert expected in found
        assert "set evaluation.select_by: ndcg@10" in found


@pytest.mark.parametrize("held_out", [[[], []], [[1], []]], ids=["nothing", "known items"])
def test_a_validation_without_held_out_items_is_named(held_out):
    found = selection_warning(prepared(30, held_out, [[1, 2], [3]]), "ndcg@10")
    assert "the last checkpoint is kept" in found


@pytest.mark.parametrize("rank", [7, 299])
def test_the_finer_metric_sees_every_rank(rank):
    """Tests that one held-out item counts wherever it is, also below the last cutoff."""
    log = prepared(401, [[5]], [[0]])

    def score(above: int):
        items = np.zeros((401, 1), np.float32)
        items[5], items[6 : 6 + above] = 1, 2
        metrics = validation_metrics(np.ones((1, 1), np.float32), items, log, np.arange(1))
        return score_of(metrics, "recall@50")

    worse, better = score(rank), score(rank - 1)
    assert worse.value == better.value
    assert worse < better
    assert better.finer == pytest.approx(1 / np.log2(rank + 1))


def test_the_finer_metric_is_of_at_most_a_thousand_queries():
    rng = np.random.default_rng(0)
    queries, items = 2_500, 8
    log = prepared(items, [[int(i)] for i in rng.integers(0, items - 1, queries)], [[]] * queries)
    vectors = rng.normal(size=(queries, 2)).astype(np.float32)
    corpus = rng.normal(size=(items, 2)).astype(np.float32)
    whole = validation_metrics(vectors, corpus, log, np.arange(queries))
    some = validation_metrics(vectors[::3], corpus, log, np.arange(0, queries, 3))
    assert whole["ndcg@all"] == some["ndcg@all"]
    assert whole["ndcg@10"] != some["ndcg@10"]
