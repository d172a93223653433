"""A fit after its process died at one of many moments: it goes on, and the lists are the same."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.executor import LocalExecutor
from recsys.channels import fit as fitting
from recsys.channels.channel import ChannelData
from recsys.channels.fit import fit_channel
from recsys.channels.neighbours import Neighbours
from recsys.channels.transitions import Transitions
from tests.support.fused.pages_log import pages_data
from tests.support.kills import dies_before
from tests.support.prepare_logs import CountingExecutor


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ChannelData:
    return pages_data(tmp_path_factory.mktemp("pages"))


def fit(data: ChannelData, work_dir: Path, executor: LocalExecutor | None = None) -> Neighbours:
    executor = executor or LocalExecutor()
    return fit_channel(Transitions, data, neighbours=3, work_dir=work_dir, executor=executor)


def arrays(neighbours: Neighbours) -> list[list[float]]:
    lists = neighbours.lists
    return [each.tolist() for each in (lists.offsets, lists.values, neighbours.scores)]


def finished(work_dir: Path) -> int:
    return len(list(work_dir.glob("*/part-*/summary.json")))


def test_killed_at_some_moment_the_next_fit_goes_on_with_what_is_finished(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "_COST_OF_TASK", 1_800)
    counting = CountingExecutor()
    whole = arrays(fit(data, tmp_path / "whole", counting))
    assert 4 <= counting.tasks < 10
    killed = tmp_path / "killed"
    for change in itertools.count(0, 7):
        shutil.rmtree(killed, ignore_errors=True)
        has_died = dies_before(change, fit, data, killed, is_light=True)
        left = 0 if (killed / "lists").exists() else counting.tasks - finished(killed)
        resumed = CountingExecutor()
        assert arrays(fit(data, killed, resumed)) == whole, f"killed before change {change}"
        assert resumed.tasks == left, f"killed before change {change}: a finished task was redone"
        assert [path.name for path in killed.iterdir() if path.is_dir()] == ["lists"]
        if not has_died:
            break
    assert change > 40


def test_a_fit_that_is_done_asks_no_executor(data, tmp_path):
    before = arrays(fit(data, tmp_path))
    again = CountingExecutor()
    assert arrays(fit(data, tmp_path, again)) == before
    assert again.tasks == 0


def test_lists_are_mapped_files(data, tmp_path):
    neighbours = fit(data, tmp_path)
    for array in (neighbours.lists.values, neighbours.scores):
        assert not array.flags.writeable
        assert isinstance(array.base, np.memmap)
