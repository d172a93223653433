"""Exact search gives a total order; what all kinds promise is in tests/contracts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index.build import build_index
from serving.index.index import ItemIndex
from tests.support.indexes import assert_answers, assert_same_answers, unit_rows

ITEMS = 600


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.lists(st.tuples(st.integers(-2, 2), st.integers(1, 2)), min_size=1, max_size=60),
    k=st.integers(1, 70),
    stored=st.sampled_from(["float32", "float16"]),
)
def test_exact_search_orders_any_number_of_equal_items(numbers, k, stored):
    vectors = np.array(numbers, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    config = ExportConfig(index="flat", vectors=stored, min_ann_recall=0.01)
    index, _ = build_index(vectors, vectors[:1], config)
    assert_answers(index, vectors[:2], k, [[], [0]][: len(vectors)])


def test_exact_search_keeps_the_order_among_more_equal_items_than_candidates():
    vectors = unit_rows(ITEMS, 0)
    vectors[np.random.default_rng(9).permutation(ITEMS)[:200]] = vectors[3]
    index, _ = build_index(vectors, vectors[[3]], ExportConfig(index="flat"))
    for k, excluded in ((1, []), (10, [3]), (150, []), (300, [3, 4, 5])):
        assert_answers(index, vectors[[3]], k, [excluded])
        assert_answers(index, vectors[[3]], k, [excluded], np.arange(ITEMS) % 5 > 0)


def test_an_extended_exact_index_is_the_one_built_anew():
    vectors, new, removed = unit_rows(ITEMS, 0), unit_rows(50, 7), np.arange(0, ITEMS, 2)
    vectors[300:305] = vectors[7]
    config = ExportConfig(index="flat")
    changed = build_index(vectors, new, config)[0].extended(new, removed)
    anew, _ = build_index(np.concatenate([np.delete(vectors, removed, 0), new]), new, config)
    assert_same_answers(changed, anew, new)


def test_a_kind_that_this_version_lacks_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"kind 'tree', .* flat, .*; export the model again"):
        ItemIndex.read(tmp_path / "index.faiss", "tree")
