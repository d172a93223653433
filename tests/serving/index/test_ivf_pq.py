"""Lists suit a catalogue's size."""

import numpy as np
import pytest

from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index.build import build_index
from serving.index.ivf_pq import IvfPq
from tests.support.indexes import unit_rows

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
