"""The kind follows from the catalogue, and what cannot be served well is refused."""

import faiss
import numpy as np
import pytest

from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index.build import build_index, require_inner_product
from serving.index.flat import Flat
from serving.index.hnsw import Hnsw
from serving.index.index import ItemIndex
from serving.index.ivf_pq import IvfPq
from serving.index.kinds import KINDS, kind_for
from serving.index.report import IndexReport, SearchPoint
from tests.support.indexes import DIM, unit_rows


def test_the_kind_follows_from_the_size_of_the_catalogue():
    assert kind_for("auto", 1) is kind_for("auto", 50_000) is Flat
    assert kind_for("auto", 50_001) is IvfPq
    assert all(kind_for(name, 300) is kind for name, kind in KINDS.items())


def test_a_graph_that_cannot_reach_the_recall_is_refused(monkeypatch):
    monkeypatch.setattr(Hnsw, "links", 2)
    monkeypatch.setattr(Hnsw, "ef_construction", 2)
    vectors, queries = unit_rows(3000, 7), unit_rows(50, 8)
    sentence = r"the index finds 0\.\d+ of the exact 100 .* at least 1.0.*"
    with pytest.raises(UserError, match=sentence + "lower export.min_ann_recall"):
        build_index(vectors, queries, ExportConfig(index="hnsw", min_ann_recall=1.0))
    config = ExportConfig(index="flat", vectors="int8", min_ann_recall=1.0)
    with pytest.raises(UserError, match=sentence + "int8 vectors lose too much"):
        build_index(vectors, queries, config)


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
        require_inner_product(ItemIndex(Flat(distances)), vectors)


def report_of(kind, point):
    return IndexReport(
        kind=kind, vectors="float32", chosen=point, stored_recall=1.0, memory_bytes=1, curve=()
    )


def test_a_point_of_the_curve_is_closed():
    point = SearchPoint(ef=1, recall=1.0, median_us=1.0, p99_us=1.0)
    for kind in KINDS:
        with pytest.raises(ValueError, match=r"parameters .'ef'.*expected"):
            report_of(kind, point)
    exact = SearchPoint(recall=1.0, median_us=1.0, p99_us=1.0)
    assert report_of("flat", exact).chosen.model_dump() == {
        "recall": 1.0,
        "median_us": 1.0,
        "p99_us": 1.0,
    }
    with pytest.raises(ValueError, match=r"expected .'nprobe', 'refine_factor'"):
        report_of("ivf_pq", exact)
    with pytest.raises(ValueError, match="ef_search"):
        SearchPoint(ef_search="many", recall=1.0, median_us=1.0, p99_us=1.0)
