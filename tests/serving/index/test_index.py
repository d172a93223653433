"""Every index gives one contract: exact scores, a total order, and only what may be an answer."""

from functools import cache

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.columns import Jagged
from recsys.config.export import ExportConfig
from serving.index import build as index_build
from serving.index.build import build_index
from serving.index.index import ItemIndex
from serving.index.update import extended

ITEMS, DIM = 600, 16
KINDS = [
    ("flat", "float32"),
    ("flat", "float16"),
    ("flat", "int8"),
    ("hnsw", "float32"),
    ("hnsw", "float16"),
    ("hnsw", "int8"),
    ("ivf_pq", "float32"),
    ("ivf_pq", "int8"),
]
NAMES = ["-".join(kind) for kind in KINDS]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def unit_rows(rows, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def catalogue():
    vectors = unit_rows(ITEMS, 0)
    vectors[300:305] = vectors[7]  # Equal items tie exactly.
    return vectors


@cache
def thorough(kind, stored):
    """An index that is set to look at so much of a small catalogue that it misses nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_build, "_EF_SEARCH", (2 * ITEMS,))
        patch.setattr(index_build, "_REFINE_FACTOR", (16,))
        patch.setattr(index_build, "_NPROBE", (256,))
        config = ExportConfig(index=kind, vectors=stored, min_ann_recall=0.9)
        index, report = build_index(catalogue(), unit_rows(50, 1), config)
    assert report.kind == kind
    return index


@pytest.fixture(params=KINDS, ids=NAMES)
def index(request, tmp_path):
    thorough(*request.param).write(tmp_path / "index.faiss")
    return ItemIndex.read(tmp_path / "index.faiss")


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
    vectors = stored_vectors(index)
    items, scores = index.search(queries, k, bags(excluded), allowed)
    assert len(items) == len(queries)
    for row, query in enumerate(queries):
        start, stop = items.offsets[row : row + 2]
        expected, expected_scores = naive(vectors, query, k, excluded[row], allowed)
        assert items.values[start:stop].tolist() == expected
        np.testing.assert_array_equal(scores[start:stop], expected_scores)


def test_answers_are_exact_and_in_order(index):
    queries = np.concatenate([unit_rows(20, 2), catalogue()[[7]]])
    assert_answers(index, queries, 10, [[]] * 21)


def test_excluded_items_make_room_for_the_next_ones(index):
    queries = unit_rows(3, 3)
    best, _ = naive(stored_vectors(index), queries[1], 300)
    assert_answers(index, queries, 4, [[], [*best, best[0]], [5]])  # One is excluded twice.


def test_fewer_are_given_only_where_no_more_are_left(index):
    query = unit_rows(1, 4)
    assert_answers(index, query, 10, [np.setdiff1d(np.arange(ITEMS), [3, 77, 599])])
    assert_answers(index, query, 1000, [[]])
    assert_answers(index, query, 10, [np.arange(ITEMS)])
    assert_answers(index, query, 10, [[]], np.zeros(ITEMS, np.bool_))


def test_no_queries_no_answers(index):
    for allowed in (None, np.ones(ITEMS, np.bool_), np.zeros(ITEMS, np.bool_)):
        items, scores = index.search(np.empty((0, DIM), np.float32), 5, bags([]), allowed)
        assert len(items) == len(scores) == 0


# Small filters are compared one by one, others are searched: each way is taken for all of them.
@pytest.mark.parametrize("is_compared", [True, False])
@pytest.mark.parametrize(("kind", "stored"), KINDS, ids=NAMES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.sampled_from([1, 3, 10, 100, 700]),
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ItemIndex, "_few", lambda *_: ITEMS if is_compared else 0)
        patch.setattr("serving.index.index._MOST_EXCLUDED", 100)
        assert_answers(thorough(kind, stored), queries, k, excluded, allowed)


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


@pytest.mark.parametrize("kind", ["hnsw", "ivf_pq"])
def test_a_filter_far_from_the_query_still_fills_the_answer(kind, monkeypatch):
    """What a search meets on its way to the query is not allowed at all."""
    config = ExportConfig(index=kind, min_ann_recall=0.01)
    monkeypatch.setattr(index_build, "_NPROBE", (1,))
    vectors = catalogue()
    index, _ = build_index(vectors, unit_rows(50, 1), config)
    monkeypatch.setattr(ItemIndex, "_few", lambda *_: 0)
    monkeypatch.setattr(ItemIndex, "_effort_for", lambda *_: 1)
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
    some = np.array([5, 599, 5])
    np.testing.assert_array_equal(index.vectors_of(some), stored_vectors(index)[some])
    assert index.vectors_of(some).dtype == np.float32


@pytest.mark.parametrize(("kind", "stored"), KINDS, ids=NAMES)
def test_an_extended_index_answers_as_one_that_is_built_anew(kind, stored, tmp_path):
    index = thorough(kind, stored)
    before = stored_vectors(index)
    now, path = before, tmp_path / "index.faiss"
    for removed, new in (([], 3), ([0, 7, 301, 599, 7], 5), ([2, 3, 500, 600], 0), ([11], 1)):
        changed = extended(index, unit_rows(new, 10 + new), np.array(removed, np.int64))
        now = np.concatenate([np.delete(now, removed, axis=0), unit_rows(new, 10 + new)])
        changed.write(path)
        index = ItemIndex.read(path)
        path = path.with_name(path.name + "+")
        np.testing.assert_allclose(stored_vectors(index), now, rtol=0, atol=0.02)
        assert_answers(index, unit_rows(10, 6), 10, [[0, 1]] * 10)
        assert_answers(index, now[-3:], len(now), [[4]] * 3, np.arange(len(now)) % 3 > 0)
    np.testing.assert_array_equal(stored_vectors(thorough(kind, stored)), before)


def test_an_extended_exact_index_is_the_one_built_anew():
    vectors, new, removed = catalogue(), unit_rows(50, 7), np.arange(0, ITEMS, 2)
    config = ExportConfig(index="flat")
    changed = extended(build_index(vectors, new, config)[0], new, removed)
    anew, _ = build_index(np.concatenate([np.delete(vectors, removed, 0), new]), new, config)
    for found, expected in zip(
        changed.search(new, 20, bags([[]] * 50)), anew.search(new, 20, bags([[]] * 50)), strict=True
    ):
        np.testing.assert_equal(
            vars(found) if isinstance(found, Jagged) else found,
            vars(expected) if isinstance(expected, Jagged) else expected,
        )


def test_a_graph_is_built_anew_where_a_fifth_is_removed():
    index, none = thorough("hnsw", "float32"), unit_rows(0, 0)
    assert extended(index, none, np.arange(121)) is None
    most = extended(index, none, np.arange(120))
    assert len(most) == 480
    assert extended(most, none, np.array([5])) is None
    assert extended(most, unit_rows(9, 1), np.array([5])) is not None


def test_lists_are_built_anew_where_the_catalogue_outgrew_them():
    index = thorough("ivf_pq", "float32")
    assert extended(index, unit_rows(ITEMS // 2, 1), np.arange(9)) is not None
    assert extended(index, unit_rows(2 * ITEMS, 1), np.arange(9)) is None
