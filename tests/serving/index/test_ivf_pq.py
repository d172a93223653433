"""Lists suit a catalogue's size."""

import numpy as np
import pytest

from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index.build import build_index
from serving.index.ivf_pq import IvfPq
from tests.support.indexes import bags, unit_rows

LISTS = ExportConfig(index="ivf_pq", min_ann_recall=0.1)


def test_lists_are_built_anew_where_the_catalogue_outgrew_them():
    index, _ = build_index(unit_rows(600, 0), unit_rows(5, 1), LISTS)
    assert index.extended(unit_rows(300, 1), np.arange(9)) is not None
    assert index.extended(unit_rows(1200, 1), np.arange(9)) is None


def test_more_effort_finds_more(monkeypatch):
    monkeypatch.setattr(IvfPq, "refine_factors", (1, 4))
    _, report = build_index(unit_rows(3000, 5), unit_rows(100, 6), LISTS)
    recall = {tuple(point.effort.values()): point.recall for point in report.curve}
    assert recall[8, 1] < recall[8, 4] < recall[16, 4] < recall[32, 4]
    assert recall[32, 4] > 0.95


def test_too_few_items_for_lists_are_refused():
    with pytest.raises(UserError, match=r"ivf_pq needs at least 256 items .* are 255"):
        build_index(unit_rows(255, 0), unit_rows(5, 1), LISTS)


def test_excluded_items_are_passed_over_alike_in_both_ways(monkeypatch):
    vectors = unit_rows(3000, 5)
    index, _ = build_index(vectors, unit_rows(100, 6), LISTS)
    near = index.kind.near
    used = []

    def noted(*arguments):
        used.append(near(*arguments))
        return used[-1]

    for query in unit_rows(8, 7):
        nearest = np.argsort(-(vectors @ query))
        for excluded in ([], nearest[:30].tolist(), nearest[:300].tolist()):
            found = []
            for way in (noted, lambda *_: None):
                monkeypatch.setattr(index.kind, "near", way)
                items, scores = index.search(query[None], 10, bags([excluded]))
                assert not set(excluded) & set(items.values.tolist())
                found.append((items.values.tolist(), scores.tolist()))
            assert found[0] == found[1]
    assert [each is None for each in used] == [False, False, True] * 8
