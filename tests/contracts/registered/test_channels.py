"""Every channel gives one contract: training alone, no item for itself, and restarts.

A channel that is added to `CHANNELS` is tested by being there.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_store.core.columns import Jagged
from pipelines.executor.local import LocalExecutor
from pipelines.prepared.reader import Prepared
from recsys.channels import fit as fitting
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.fit import fit_channel
from recsys.channels.kinds import CHANNELS
from recsys.channels.log import TrainingLog
from recsys.channels.neighbours import Neighbours
from tests.support.fused.pages_log import PAGES, pages_data

COUNT = 5
every_channel = pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ChannelData:
    return pages_data(tmp_path_factory.mktemp("pages"))


def fit(channel: type[Channel], data: ChannelData, work_dir: Path) -> Neighbours:
    return fit_channel(channel, data, neighbours=COUNT, work_dir=work_dir, executor=LocalExecutor())


def entries(neighbours: Neighbours) -> list[tuple[int, int, float]]:
    lists = neighbours.lists
    columns = lists.row_of_value(), lists.values, neighbours.scores
    return list(zip(*(column.tolist() for column in columns), strict=True))


@every_channel
class TestChannel:
    def test_a_candidate_keeps_few_sources_of_positive_score_and_never_itself(
        self, channel, data, tmp_path
    ):
        assert channel.why_not(data) is None
        neighbours = fit(channel, data, tmp_path)
        assert len(neighbours) == PAGES
        assert (neighbours.scores != 0).all()
        assert (neighbours.scores > 0).all() or channel.keeps_all(data)
        assert np.isfinite(neighbours.scores).all()
        assert all(source != candidate for source, candidate, _ in entries(neighbours))
        most = PAGES if channel.keeps_all(data) else COUNT
        assert np.bincount(neighbours.lists.values).max() <= most

    def test_a_fit_that_is_cut_in_tasks_and_killed_equals_one_that_is_not(
        self, channel, data, tmp_path, monkeypatch
    ):
        whole = fit(channel, data, tmp_path / "whole")
        monkeypatch.setattr(fitting, "_COST_OF_TASK", 40)
        if channel.keeps_all(data):
            pytest.skip("fitted at once")

        class Killed(LocalExecutor):
            def run(self, function, tasks):
                for done, result in enumerate(super().run(function, tasks)):
                    yield result
                    if done == 1:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_channel(
                channel, data, neighbours=COUNT, work_dir=tmp_path / "cut", executor=Killed()
            )
        assert entries(fit(channel, data, tmp_path / "cut")) == entries(whole)

    def test_no_event_of_another_split_is_read(self, channel, data, tmp_path):
        """Tests that a log without its held-out events, as in a new catalogue, fits the same."""
        prepared = data.prepared
        tables = [
            pq.read_table(path, columns=["query", "item"])
            for split in ("validation", "test")
            for path in prepared.examples(split)
        ]
        held_out = {tuple(row.values()) for table in tables for row in table.to_pylist()}
        assert held_out
        training = set(
            zip(data.log.items.row_of_value().tolist(), data.log.items.values.tolist(), strict=True)
        )
        assert not training & held_out
        blind = replace(prepared.query_state, validation=none(), test=none())
        other = Prepared(prepared.directory)
        other.__dict__["query_state"] = blind
        again = fit(channel, ChannelData(other, TrainingLog.read(other)), tmp_path / "blind")
        assert entries(again) == entries(fit(channel, data, tmp_path / "seen"))

    def test_what_is_saved_is_read_again(self, channel, data, tmp_path):
        neighbours = fit(channel, data, tmp_path / "work")
        neighbours.save(tmp_path / "lists")
        assert entries(Neighbours.read(tmp_path / "lists")) == entries(neighbours)


def none() -> Jagged:
    return Jagged(np.zeros(0, np.int32), np.zeros(PAGES + 1, np.int64))
