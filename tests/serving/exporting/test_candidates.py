"""Losses by candidates, measured in cases made by hand of which the loss is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from feature_store.core.columns import Jagged
from recsys.channels.neighbours import Neighbours
from recsys.channels.sources import Sources
from recsys.evaluation.task import Task
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo
from recsys.fusion.weights import Weights
from serving.bundle.manifest import MAX_LOSS, FusionReport
from serving.exporting import bundling
from serving.exporting.candidates import Validation, measure_candidates
from serving.index.flat import Flat
from serving.index.index import ItemIndex
from tests.support.fused.tiny_fusion import WEIGHTS, export_fused, write_fused_prepared
from tests.support.indexes import bags, unit_rows

ITEMS = 1500
NOTHING = np.zeros(ITEMS, np.float32)
EVERYTHING = np.arange(ITEMS)


class Forgetful(Flat):
    """Finds every item but some, and these only where many are wanted, as wider searches do."""

    is_exact = False
    missing = frozenset()
    found_from = ITEMS  # More than any search asks for.

    def search(self, queries, wanted, breadth, selector):
        """Compares all items, and drops the missing ones."""
        scores, items = super().search(queries, len(self.vectors), breadth, selector)
        kept = [
            [place for place, item in enumerate(row) if self.finds(item, wanted)][:wanted]
            for row in items
        ]
        return tuple(np.take_along_axis(each, np.array(kept), axis=1) for each in (scores, items))

    def finds(self, item, wanted):
        """Tells whether a search finds an item."""
        return wanted >= self.found_from or item not in self.missing


def measured(queries, missing, *, found_from=ITEMS, named=(), gone=()):
    """Measures candidates for queries of which each holds out the item that is nearest to it.

    Query q has the vector of item q, and item q is what is held out. Its history is the last item,
    whose list names some items, to which the only channel gives all that it has.
    """
    indexed = np.setdiff1d(EVERYTHING, gone)
    vectors = unit_rows(ITEMS, 3)
    kind = Forgetful.build(vectors[indexed], "Flat")
    kind.missing, kind.found_from = frozenset(np.searchsorted(indexed, missing)), found_from
    lengths = np.zeros(ITEMS, np.int64)
    lengths[-1] = len(named)
    of_last = Jagged.from_lengths(np.array(named, np.int32), lengths)
    lists = Neighbours(of_last, np.ones(len(named), np.float32))
    info = FusionInfo(
        weights=Weights(channels={"links": 1.5}),
        channels={"links": ChannelInfo(lists="links", reads="history")},
        neighbours=5,
    )
    fused = Fused(info, {"links": lists}, NOTHING, NOTHING, NOTHING)
    rows = np.arange(queries)
    no_items, held_out = bags([[]] * queries), bags([[row] for row in rows])
    history = bags([[ITEMS - 1]] * queries)
    task = Task("validation", rows, held_out, history, no_items, history, 0, 0, 0)
    validation = Validation(task, Sources(history, history, no_items), vectors[:queries])
    is_current = np.isin(EVERYTHING, indexed)
    prepared = SimpleNamespace(num_items=ITEMS, is_current_item=is_current)
    return measure_candidates(prepared, validation, fused, ItemIndex(kind), indexed)


def test_the_loss_is_the_share_of_pairs_whose_items_are_no_candidates():
    report = measured(100, missing=[3, 14, 15])
    assert (report.exact_recall, report.recall) == (1.0, 0.97)
    assert report.loss == pytest.approx(0.03)
    assert report.candidates == 1000  # The most there are: no number was enough.
    assert report.warning.startswith("candidates cost 3.0% of recall@50, expected less than 0.5%")
    assert "export.index: flat" in report.warning


def test_items_that_a_channel_names_are_candidates_though_the_index_misses_them():
    report = measured(100, missing=[3, 14, 15], named=[3, 14, 15])
    assert (report.exact_recall, report.recall, report.candidates) == (1.0, 1.0, 32)
    assert report.warning is None
    assert measured(100, missing=[3, 14, 15], named=[3, 15]).loss == pytest.approx(0.01)


def test_the_fewest_candidates_that_cost_little_are_taken():
    # The best 50 are wanted beside them, and the index looks for a few more than it is asked for.
    assert measured(50, missing=[7], found_from=50 + 32).candidates == 32
    assert measured(50, missing=[7], found_from=50 + 100).candidates == 100
    assert measured(50, missing=[7], found_from=50 + 300).candidates == 300


def test_a_loss_of_half_a_percent_warns_and_one_below_does_not():
    assert MAX_LOSS == 0.005
    at, below = measured(200, missing=[5]), measured(201, missing=[5])
    assert at.loss == pytest.approx(0.005)
    assert at.warning is not None
    assert 0.004 < below.loss < 0.005
    assert below.warning is None


def test_items_that_are_gone_are_no_loss():
    # The first items of the catalogue are among them, so positions in the index are not items.
    report = measured(100, missing=[30], gone=[0, 1, 2, 50])
    assert report.exact_recall == 0.96
    assert report.recall == 0.95


def test_without_validation_queries_nothing_is_measured():
    report = measured(0, missing=[5])
    assert (report.exact_recall, report.recall, report.candidates) == (None, None, 1000)
    assert (report.loss, report.warning) == (0.0, None)


def test_an_export_says_what_candidates_cost(tmp_path, monkeypatch, capsys):
    measurement = FusionReport(weights=WEIGHTS, candidates=1000, exact_recall=0.5, recall=0.49)
    monkeypatch.setattr(bundling, "measure_candidates", lambda *_: measurement)
    config = write_fused_prepared(tmp_path, export={"index": "hnsw"})
    assert export_fused(config, monkeypatch).fusion == measurement
    assert "candidates cost 2.0% of recall@50" in " ".join(capsys.readouterr().out.split())
    page = (config.bundle_dir / "report.html").read_text()
    assert "is 0.4900, and 0.5000 where all items are scored" in page
