"""A graph keeps the nodes of removed items, up to a fifth."""

import numpy as np

from recsys.config.export import ExportConfig
from serving.index.build import build_index
from serving.index.hnsw import Hnsw
from tests.support.indexes import unit_rows


def test_a_graph_is_built_anew_where_a_fifth_is_removed():
    none = unit_rows(0, 0)
    index, _ = build_index(unit_rows(600, 0), unit_rows(5, 1), ExportConfig(index="hnsw"))
    assert index.extended(none, np.arange(121)) is None
    most = index.extended(none, np.arange(120))
    assert len(most) == 480
    assert most.extended(none, np.array([5])) is None
    assert most.extended(unit_rows(9, 1), np.array([5])) is not None


def test_more_effort_finds_more(monkeypatch):
    monkeypatch.setattr(Hnsw, "links", 4)
    monkeypatch.setattr(Hnsw, "ef_construction", 8)
    config = ExportConfig(index="hnsw", min_ann_recall=0.1)
    _, report = build_index(unit_rows(3000, 5), unit_rows(100, 6), config)
    recalls = [point.recall for point in report.curve]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9 < recalls[-1]
