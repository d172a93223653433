"""The order of examples: each once an epoch, the same for any number of ranks, read in parts."""

from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.core.errors import UserError
from pipelines.prepared.examples import EXAMPLE_SCHEMA
from recsys.data import lanes
from recsys.data.plan import TrainingPlan, plan_training, rank_rows
from recsys.data.reader import read_steps


def write_examples(directory, files, row_group_rows):
    """Writes files of examples; i has query i, item 7 i and a history of i mod 4 times i."""
    directory.mkdir(exist_ok=True)
    first, paths = 0, []
    for index, rows in enumerate(files):
        query = np.arange(first, first + rows)
        table = pa.table(
            {
                "query": query,
                "item": 7 * query,
                "history": [[i] * (i % 4) for i in query.tolist()],
                "timestamp": pa.nulls(rows),
                "weight": query / 2,
            }
        ).cast(EXAMPLE_SCHEMA)
        paths.append(directory / f"part-{index:05d}.parquet")
        pq.write_table(table, paths[-1], row_group_size=row_group_rows)
        first += rows
    return paths


def plan_of(paths, batch_size, seed=3, epochs=2, **settings):
    return plan_training(
        paths, batch_size=batch_size, workers=1, epochs=epochs, seed=seed, **settings
    )


# Lanes of few rows, so that small data have several.
narrow_plan = partial(plan_of, lane_rows=4)


def batches(plan, world_size, start=0, stop=None):
    """Returns the local batches of all ranks, for each step."""
    stop = plan.total_steps if stop is None else stop
    ranks = [list(read_steps(plan, start, stop, rank, world_size)) for rank in range(world_size)]
    return list(zip(*ranks, strict=True))


FILES = (70, 0, 33, 1, 96)
ROWS = sum(FILES)


@pytest.mark.parametrize("batch_size", [4, 16, 48, 1000])
def test_an_epoch_has_each_example_exactly_once(tmp_path, batch_size):
    plan = narrow_plan(write_examples(tmp_path, FILES, 16), batch_size)
    orders = []
    for epoch in range(plan.epochs):
        first = epoch * plan.steps_per_epoch
        parts = list(read_steps(plan, first, first + plan.steps_per_epoch, 0, 1))
        sizes = [len(local.query) for local in parts]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) < 2 * plan.lanes
        assert [plan.examples(first + i, first + i + 1) for i in range(len(sizes))] == sizes
        orders.append(np.concatenate([local.query for local in parts]))
        assert np.array_equal(np.sort(orders[-1]), np.arange(ROWS))
    assert not np.array_equal(*orders)
    assert plan.examples(0, plan.total_steps) == 2 * ROWS


def test_a_local_batch_is_whole_examples(tmp_path):
    plan = narrow_plan(write_examples(tmp_path, FILES, 16), 32)
    for parts in batches(plan, 3):
        for local in parts:
            assert np.array_equal(local.item, 7 * local.query)
            assert np.array_equal(local.weight, (local.query / 2).astype(np.float32))
            assert np.array_equal(local.history.lengths, local.query % 4)
            assert np.array_equal(local.history.values, np.repeat(local.query, local.query % 4))


@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
def test_batches_are_the_same_on_any_number_of_ranks(tmp_path, world_size):
    plan = narrow_plan(write_examples(tmp_path, FILES, 16), 32)
    assert plan.lanes == 8
    for parts, (whole,) in zip(batches(plan, world_size), batches(plan, 1), strict=True):
        assert np.array_equal(np.concatenate([s.query for s in parts]), whole.query)
        assert all(np.array_equal(local.global_items, whole.item) for local in parts)
        assert {local.step for local in parts} == {whole.step}
        rows = -(-len(whole.query) // world_size)
        assert all(len(part.query) == rows for part in parts[: len(whole.query) // rows])


@pytest.mark.parametrize("ranks", [(1, 2), (2, 3), (4, 1), (3, 5)])
def test_an_epoch_that_goes_on_with_other_ranks_has_each_example_once(tmp_path, ranks):
    paths = write_examples(tmp_path, FILES, 16)
    plan = narrow_plan(paths, 32)
    steps = plan.steps_per_epoch
    for stop in range(steps, 2 * steps + 1):
        before = batches(plan, ranks[0], steps, stop)
        after = batches(narrow_plan(paths, 32), ranks[1], stop, 2 * steps)
        seen = [s.query for parts in (*before, *after) for s in parts]
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(ROWS))


def test_a_rank_reads_its_lanes_alone(tmp_path, monkeypatch):
    plan = narrow_plan(write_examples(tmp_path, (512, 512), 16), 64, epochs=1)
    assert plan.lanes == 16
    read = Counter()
    whole = lanes._read_window

    def counted(window, names):
        read[window.file, window.group] += names is None
        return whole(window, names)

    monkeypatch.setattr(lanes, "_read_window", counted)
    groups = 64
    for world_size in (1, 2, 4, 3):
        totals = []
        for rank in range(world_size):
            read.clear()
            list(read_steps(plan, 0, plan.total_steps, rank, world_size))
            totals.append(read.total())
        # A group is read again only where lanes or the epoch's beginning cut it in two.
        aligned = 16 // world_size if 16 % world_size == 0 else 16 // world_size + 2
        assert max(totals) <= aligned * (groups // 16 + 1) + 1
        assert sum(totals) >= groups


def test_a_window_is_shuffled(tmp_path):
    plan = plan_of(write_examples(tmp_path, (4096,), 1024), 256, epochs=1)
    (first, *_) = read_steps(plan, 0, 1, 0, 1)
    each = np.split(first.query, plan.lanes)
    for rows in each:
        assert (np.diff(rows) < 0).mean() == pytest.approx(0.5, abs=0.2)
        assert np.ptp(rows) > 512
    assert len({int(rows.min()) // 1024 for rows in each}) > 1


def test_memory_for_windows_is_bounded(tmp_path):
    def lanes_of(history, rows=4096):
        table = pa.table(
            {
                "query": np.zeros(rows, np.int32),
                "item": np.zeros(rows, np.int32),
                "history": [[1] * history] * rows,
                "timestamp": pa.nulls(rows),
                "weight": np.ones(rows),
            }
        ).cast(EXAMPLE_SCHEMA)
        path = tmp_path / f"{history}.parquet"
        pq.write_table(table, path)
        return plan_of([path], 1 << 20).lanes

    assert lanes_of(1) == 64
    assert lanes_of(1024) == 8  # of 16 MB each: 16 would be more than 256 MiB


def test_the_order_has_an_identity(tmp_path):
    paths = write_examples(tmp_path / "a", FILES, 16)
    plan = plan_of(paths, 64)
    assert plan.identity == plan_of(write_examples(tmp_path / "b", FILES, 16), 64).identity
    others = [
        plan_of(paths, 32),
        plan_of(paths, 64, seed=4),
        plan_of(paths[1:], 64),
        plan_of(write_examples(tmp_path / "c", FILES, 8), 64),
    ]
    assert plan.identity not in {other.identity for other in others}


@given(
    rows=st.integers(2, 5000),
    batch_size=st.integers(2, 600),
    lanes=st.sampled_from([1, 2, 4, 8]),
)
@settings(deadline=None)
def test_lanes_share_out_every_batch(rows, batch_size, lanes):
    lanes = min(lanes, batch_size)
    plan = TrainingPlan((("file", rows),), batch_size, lanes, 1, epochs=1, seed=0)
    steps = plan.steps_per_epoch
    counts = np.diff(
        [[plan.lane_row(lane, batch) for lane in range(lanes)] for batch in range(steps + 1)],
        axis=0,
    )
    assert counts.sum() == rows
    assert counts.min() >= 0
    assert counts.sum(axis=1).max() <= batch_size
    assert (np.ptp(counts[1:], axis=1) == 0).all()
    assert [sum(p.stop - p.start for p in lane) for lane in plan.epoch_lanes(0)] == list(
        counts.sum(axis=0)
    )


def test_ranks_have_equally_many_rows_but_for_the_last():
    for size in range(1, 40):
        for world_size in range(1, 9):
            bounds = [rank_rows(size, rank, world_size) for rank in range(world_size)]
            assert bounds[0][0] == 0
            assert bounds[-1][1] == size
            assert all(a[1] == b[0] for a, b in pairwise(bounds))


def test_too_few_examples_are_the_users_error(tmp_path):
    paths = write_examples(tmp_path, (3,), 16)
    with pytest.raises(UserError, match="3 training examples are too few for 4 workers"):
        plan_training(paths, batch_size=8, workers=4, epochs=1, seed=0)
    plan = plan_training(paths, batch_size=8, workers=3, epochs=1, seed=0)
    assert [len(s.query) for (s,) in batches(plan, 1)] == [3]
