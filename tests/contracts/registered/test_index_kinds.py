"""Every kind of index gives one contract: exact scores, a total order, only what may be an answer.

A kind that is added to `KINDS` is tested by being there.
"""

import math
from dataclasses import replace
from functools import cache
from typing import get_args

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config.export import ExportConfig
from serving.index import index as item_index
from serving.index import vectors as index_vectors
from serving.index.build import build_index
from serving.index.index import ItemIndex
from serving.index.kind import Breadth
from serving.index.kinds import KINDS
from serving.index.recall import recall_by_slice
from serving.index.vectors import CODES
from tests.support.indexes import (
    DIM,
    assert_answers,
    assert_same_answers,
    bags,
    naive,
    stored_vectors,
    unit_rows,
)

ITEMS = 400
CASES = [(kind, stored) for kind in KINDS for stored in CODES]
NAMES = ["-".join(case) for case in CASES]
every_case = pytest.mark.parametrize(("kind", "stored"), CASES, ids=NAMES)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def catalogue():
    vectors = unit_rows(ITEMS, 0)
    vectors[300:305] = vectors[7]  # Equal items tie exactly.
    return vectors


@cache
def thorough(kind, stored):
    """Builds an index and sets its most effort, which misses nothing of a small catalogue."""
    config = ExportConfig(index=kind, vectors=stored, min_ann_recall=0.9)
    index, report = build_index(catalogue(), unit_rows(50, 1), config)
    assert report.kind == index.kind.name == kind
    index.kind.set_effort(index.kind.efforts()[-1])
    return index


@pytest.fixture(params=CASES, ids=NAMES)
def index(request, tmp_path):
    kind, stored = request.param
    thorough(kind, stored).write(tmp_path / "index.faiss")
    return ItemIndex.read(tmp_path / "index.faiss", kind)


def test_the_configuration_names_every_kind():
    names = get_args(ExportConfig.model_fields["index"].annotation)
    assert names == ("auto", *KINDS)
    assert all(name == kind.name for name, kind in KINDS.items())


def test_answers_are_exact_and_in_order(index):
    queries = np.concatenate([unit_rows(20, 2), catalogue()[[7]]])
    assert_answers(index, queries, 10, [[]] * 21)


def test_excluded_items_make_room_for_the_next_ones(index):
    queries = unit_rows(3, 3)
    best, _ = naive(stored_vectors(index), queries[1], 300)
    assert_answers(index, queries, 4, [[], [*best, best[0]], [5]])  # One is excluded twice.


def test_fewer_are_given_only_where_no_more_are_left(index):
    query = unit_rows(1, 4)
    assert_answers(index, query, 10, [np.setdiff1d(np.arange(ITEMS), [3, 77, 399])])
    assert_answers(index, query, 1000, [[]])
    assert_answers(index, query, 10, [np.arange(ITEMS)])
    assert_answers(index, query, 10, [[]], np.zeros(ITEMS, np.bool_))


def test_no_queries_no_answers(index):
    for allowed in (None, np.ones(ITEMS, np.bool_), np.zeros(ITEMS, np.bool_)):
        items, scores = index.search(np.empty((0, DIM), np.float32), 5, bags([]), allowed)
        assert len(items) == len(scores) == 0


# Small filters are compared one by one, others are searched: each way is taken for all of them.
@pytest.mark.parametrize("is_compared", [True, False])
@every_case
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.sampled_from([1, 3, 10, 100, 500]),
    share=st.sampled_from([0.0, 0.002, 0.01, 0.1, 0.5, 1.0, None]),
    most_excluded=st.sampled_from([0, 1, 20, ITEMS]),
)
def test_any_question_is_answered_as_by_a_full_sort(
    kind, stored, is_compared, seed, k, share, most_excluded
):
    random = np.random.default_rng(seed)
    queries = unit_rows(3, seed)
    queries[0] = catalogue()[random.integers(ITEMS)]
    allowed = None if share is None else random.random(ITEMS) < share
    excluded = [random.choice(ITEMS, random.integers(most_excluded + 1)) for _ in queries]
    index = thorough(kind, stored)
    breadth = replace(index.kind.breadth, compared_per_unit=math.inf if is_compared else 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index.kind, "breadth", breadth)
        patch.setattr(item_index, "MAX_EXCLUDED", 100)
        assert_answers(index, queries, k, excluded, allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_far_from_the_query_still_fills_the_answer(kind):
    """Allows no item that a search of least breadth visits on its way to the query."""
    vectors = catalogue()
    config = ExportConfig(index=kind, min_ann_recall=0.01)
    index, _ = build_index(vectors, unit_rows(50, 1), config)
    index.kind.breadth = Breadth(tuned=1, total=1, compared_per_unit=0.0)
    query = unit_rows(1, 5)
    allowed = np.zeros(ITEMS, np.bool_)
    allowed[naive(vectors, -query[0], 40)[0]] = True
    items, _ = index.search(query, 30, bags([[]]), allowed)
    assert len(items.values) == 30
    assert allowed[items.values].all()


def test_vectors_are_what_was_stored(index, request):
    _, stored = request.node.callspec.params["index"]
    tolerance = {"float32": 0.0, "float16": 5e-4, "int8": 5e-3}[stored]
    np.testing.assert_allclose(stored_vectors(index), catalogue(), rtol=0, atol=tolerance)
    some = np.array([5, 399, 5])
    np.testing.assert_array_equal(index.vectors_of(some), stored_vectors(index)[some])
    assert index.vectors_of(some).dtype == np.float32


def test_a_written_index_is_the_one_that_was_built(index, request):
    built = thorough(*request.node.callspec.params["index"])
    assert len(index) == len(built)
    assert index.kind.breadth == built.kind.breadth
    assert_same_answers(index, built, unit_rows(20, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_every_effort_is_kept_by_the_written_index(kind, tmp_path):
    index, _ = build_index(catalogue(), unit_rows(5, 1), ExportConfig(index=kind))
    path = tmp_path / "index.faiss"
    for effort in index.kind.efforts():
        assert effort.keys() == set(index.kind.effort_names)
        index.kind.set_effort(effort)
        index.write(path)
        read = ItemIndex.read(path, kind)
        assert read.kind.breadth == index.kind.breadth
        assert_same_answers(read, index, unit_rows(5, 9))


@every_case
def test_the_report_says_what_the_written_index_does(kind, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(index_vectors, "BLOCK", 170)
    vectors, queries = unit_rows(600, 0), unit_rows(40, 1)
    config = ExportConfig(index=kind, vectors=stored, min_ann_recall=0.9)
    built, report = build_index(vectors, queries, config)
    built.write(tmp_path / "index.faiss")
    index = ItemIndex.read(tmp_path / "index.faiss", kind)
    assert report.kind == kind
    assert report.vectors == stored
    assert report.memory_bytes == (tmp_path / "index.faiss").stat().st_size
    measured = recall_by_slice(index, vectors, queries, {"all": np.ones(600, np.bool_)})
    assert measured["all"] == report.recall >= 0.9
    reaching = [point for point in report.curve if point.recall >= 0.9]
    assert report.chosen == min(reaching, key=lambda point: point.median_us)
    assert [point.effort for point in report.curve] == built.kind.efforts()
    assert all(0 < point.median_us <= point.p99_us for point in report.curve)
    assert report.stored_recall == 1.0 if stored == "float32" else 0.97 < report.stored_recall <= 1
    if built.kind.is_exact:
        assert report.recall == report.stored_recall


@every_case
def test_an_extended_index_answers_as_one_that_is_built_anew(kind, stored, tmp_path):
    index = thorough(kind, stored)
    before = stored_vectors(index)
    now, path = before, tmp_path / "index.faiss"
    for removed, new in (([], 3), ([0, 7, 301, 399, 7], 5), ([2, 3, 300, 400], 0), ([11], 1)):
        # Shorter than others, for the ranges of int8 vectors stay those of the first items.
        added = 0.7 * unit_rows(new, 10 + new)
        changed = index.extended(added, np.array(removed, np.int64))
        now = np.concatenate([np.delete(now, removed, axis=0), added])
        changed.write(path)
        index = ItemIndex.read(path, kind)
        path = path.with_name(path.name + "+")
        np.testing.assert_allclose(stored_vectors(index), now, rtol=0, atol=0.02)
        assert_answers(index, unit_rows(10, 6), 10, [[0, 1]] * 10)
        assert_answers(index, now[-3:], len(now), [[4]] * 3, np.arange(len(now)) % 3 > 0)
    np.testing.assert_array_equal(stored_vectors(thorough(kind, stored)), before)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_may_be_mapped(kind, tmp_path):
    np.save(tmp_path / "vectors.npy", unit_rows(600, 0))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index, _ = build_index(mapped, unit_rows(5, 1), ExportConfig(index=kind, min_ann_recall=0.9))
    np.testing.assert_array_equal(index.vectors_of(np.arange(600)), mapped)
