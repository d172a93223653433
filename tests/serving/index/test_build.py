"""The index is chosen by what was measured, and what was measured is what it says."""

import faiss
import numpy as np
import pytest

from feature_store.core.columns import Jagged
from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index import build as index_build
from serving.index.build import ExactTop, build_index, recall_by_slice, require_inner_product
from serving.index.index import ItemIndex, SearchPoint

DIM = 16


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def unit_rows(rows, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


class Fixed:
    """Answers every query with the same items."""

    def __init__(self, items):
        self.items = np.array(items)

    def search(self, queries, k, excluded):
        lengths = np.full(len(queries), len(self.items))
        return Jagged.from_lengths(np.tile(self.items, len(queries)), lengths), np.empty(0)


def test_the_kind_follows_from_the_size_of_the_catalogue(monkeypatch):
    monkeypatch.setattr(index_build, "_FLAT_UP_TO", 300)
    config = ExportConfig(min_ann_recall=0.1)
    for items, kind in ((300, "flat"), (301, "ivf_pq")):
        index, report = build_index(unit_rows(items, 0), unit_rows(5, 1), config)
        assert index.kind == report.kind == kind


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
@pytest.mark.parametrize("stored", ["float32", "float16", "int8"])
def test_the_report_says_what_the_written_index_does(kind, stored, tmp_path, monkeypatch):
    monkeypatch.setattr(index_build, "_BLOCK", 170)
    vectors, queries = unit_rows(600, 0), unit_rows(40, 1)
    config = ExportConfig(index=kind, vectors=stored, min_ann_recall=0.9)
    built, report = build_index(vectors, queries, config)
    built.write(tmp_path / "index.faiss")
    index = ItemIndex.read(tmp_path / "index.faiss")
    assert report.vectors == stored
    assert report.memory_bytes == (tmp_path / "index.faiss").stat().st_size
    measured = recall_by_slice(index, vectors, queries, {"all": np.ones(600, np.bool_)})
    assert measured["all"] == report.recall >= 0.9
    reaching = [point for point in report.curve if point.recall >= 0.9]
    assert report.chosen == min(reaching, key=lambda point: point.median_us)
    assert all(0 < point.median_us <= point.p99_us for point in report.curve)
    assert report.stored_recall == 1.0 if stored == "float32" else 0.97 < report.stored_recall <= 1
    if kind == "flat":
        assert report.recall == report.stored_recall
        assert report.chosen.model_dump(exclude_none=True).keys() == {
            "recall",
            "median_us",
            "p99_us",
        }


def test_more_effort_finds_more(monkeypatch):
    monkeypatch.setattr(index_build, "_LINKS", 4)
    monkeypatch.setattr(index_build, "_EF_CONSTRUCTION", 8)
    monkeypatch.setattr(index_build, "_REFINE_FACTOR", (1, 4))
    vectors, queries = unit_rows(3000, 5), unit_rows(100, 6)
    _, graph = build_index(vectors, queries, ExportConfig(index="hnsw", min_ann_recall=0.1))
    recalls = [point.recall for point in graph.curve]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < recalls[-1]
    _, lists = build_index(vectors, queries, ExportConfig(index="ivf_pq", min_ann_recall=0.1))
    recall = {(point.nprobe, point.refine_factor): point.recall for point in lists.curve}
    assert recall[8, 1] < recall[8, 4] < recall[16, 4] < recall[32, 4]
    assert recall[32, 4] > 0.95


def test_vectors_may_be_mapped(tmp_path):
    np.save(tmp_path / "vectors.npy", unit_rows(600, 0))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index, _ = build_index(mapped, unit_rows(5, 1), ExportConfig(index="hnsw"))
    np.testing.assert_array_equal(index.vectors_of(np.arange(600)), mapped)


def test_an_index_that_cannot_reach_the_recall_is_refused(monkeypatch):
    monkeypatch.setattr(index_build, "_LINKS", 2)
    monkeypatch.setattr(index_build, "_EF_CONSTRUCTION", 2)
    vectors, queries = unit_rows(3000, 7), unit_rows(50, 8)
    sentence = r"the index finds 0\.\d+ of the exact 100 .* at least 1.0.*"
    with pytest.raises(UserError, match=sentence + "lower export.min_ann_recall"):
        build_index(vectors, queries, ExportConfig(index="hnsw", min_ann_recall=1.0))
    config = ExportConfig(index="flat", vectors="int8", min_ann_recall=1.0)
    with pytest.raises(UserError, match=sentence + "int8 vectors lose too much"):
        build_index(vectors, queries, config)


def test_too_few_items_for_lists_are_refused():
    with pytest.raises(UserError, match=r"ivf_pq needs at least 256 items .* are 255"):
        build_index(unit_rows(255, 0), unit_rows(5, 1), ExportConfig(index="ivf_pq"))


def test_the_exact_top_is_a_full_sorts(monkeypatch):
    monkeypatch.setattr(index_build, "_BLOCK", 7)
    vectors, queries = unit_rows(100, 0), unit_rows(9, 1)
    top = ExactTop.of(vectors, queries, 20)
    np.testing.assert_array_equal(top.items, np.argsort(-queries @ vectors.T, axis=1)[:, :20])
    assert ExactTop.of(vectors, queries, 1000).items.shape == (9, 100)


def test_recall_is_of_the_nearest_items_that_are_of_the_slice():
    """Two of the four nearest items of the first query are found, one of them of the slice."""
    angle = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    queries = vectors[[0, 5]]  # Exact: 0 1 2 3 and 5 4 3 2.
    slices = {
        "even": np.arange(6) % 2 == 0,
        "odd": np.arange(6) % 2 == 1,
        "none": np.zeros(6, np.bool_),
    }
    found = recall_by_slice(Fixed([0, 1, 4, 5]), vectors, queries, slices, k=4)
    assert found == {"even": 2 / 4, "odd": 2 / 4}
    found = recall_by_slice(Fixed([0, 2, 4]), vectors, queries, slices, k=4)
    assert found == {"even": 4 / 4, "odd": 0.0}


def test_equal_items_stand_in_for_each_other():
    vectors = np.zeros((6, 2), np.float32)
    vectors[:, 0] = [1, 0, 0, 0, 0, 1]  # The third nearest is any of four.
    vectors[1:5, 1] = 1
    slices = {"all": np.ones(6, np.bool_)}
    query = np.array([[1, 0]], np.float32)
    for items in ([0, 5, 1], [0, 5, 4]):
        assert recall_by_slice(Fixed(items), vectors, query, slices, k=3) == {"all": 1.0}
    # Two of the four cannot stand in for a nearer one.
    assert recall_by_slice(Fixed([0, 1, 4]), vectors, query, slices, k=3) == {"all": 2 / 3}


def test_only_unit_vectors_and_the_inner_product_are_accepted():
    vectors = unit_rows(50, 0)
    index, _ = build_index(vectors, vectors[:1], ExportConfig())
    require_inner_product(index, vectors)
    with pytest.raises(UserError, match=r"differs by 0\.1 from 1, expected at most 0\.001"):
        require_inner_product(index, vectors * np.float32(1.1))
    with pytest.raises(UserError, match="differs by nan"):
        require_inner_product(index, vectors * np.float32("nan"))
    distances = faiss.IndexFlatL2(DIM)
    distances.add(vectors)
    with pytest.raises(UserError, match="metric 1, expected the inner product"):
        require_inner_product(ItemIndex(distances), vectors)


def test_a_point_of_the_curve_is_closed():
    with pytest.raises(ValueError, match="ef"):
        SearchPoint(ef=1, recall=1.0, median_us=1.0, p99_us=1.0)
