"""A training that goes on sees all new examples, and its share of the older ones."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from pipelines.prepared.reader import Prepared
from recsys.config.training import TrainingConfig
from recsys.data.builder import BatchBuilder
from recsys.data.plan import plan_training
from recsys.data.reader import read_steps
from recsys.data.replay import select_examples, selected_events, selected_files
from recsys.training.run import training_plan


@pytest.fixture(scope="module")
def prepared(planted):
    return Prepared(planted.prepared_dir)


def examples(files):
    columns = ["query", "item", "timestamp"]
    return pa.concat_tables(pq.read_table(file, columns=columns) for file in files)


def at(prepared, quantile):
    """Returns the time before which a part of the training examples are."""
    times = examples(prepared.examples("train"))["timestamp"].cast(pa.int64()).to_numpy()
    return datetime.fromtimestamp(np.sort(times)[int(quantile * len(times))] / 1e6, UTC)


@pytest.mark.parametrize(("share", "of_old"), [(0.0, 0.0), (0.5, 1.0), (0.8, 4.0)])
def test_older_examples_are_the_share_of_all(prepared, tmp_path, share, of_old):
    since = at(prepared, 0.9)
    selected = select_examples(prepared, tmp_path / "s", since=since, share=share, seed=0)
    every, chosen = examples(prepared.examples("train")), examples(selected_files(tmp_path / "s"))
    is_new = np.array(pa.compute.greater(every["timestamp"], since))
    assert selected.new == is_new.sum() > 100
    assert selected.new + selected.replayed == len(chosen)
    assert selected.replayed == pytest.approx(of_old * selected.new, rel=0.15)
    assert np.array(pa.compute.greater(chosen["timestamp"], since)).sum() == selected.new
    rows = {tuple(row.values()) for row in every.to_pylist()}
    assert {tuple(row.values()) for row in chosen.to_pylist()} <= rows


def test_all_older_examples_are_as_many_as_there_can_be(prepared, tmp_path):
    since = at(prepared, 0.4)
    selected = select_examples(prepared, tmp_path / "s", since=since, share=0.9, seed=0)
    assert sum(selected) == prepared.manifest.counts.train


def test_the_same_draw_is_the_same_and_a_later_training_draws_others(prepared, tmp_path):
    times = [at(prepared, 0.8), at(prepared, 0.9)]
    for name, since in zip("abc", [times[0], times[0], times[1]], strict=True):
        select_examples(prepared, tmp_path / name, since=since, share=0.5, seed=3)
    first, again, later = (examples(selected_files(tmp_path / name)) for name in "abc")
    assert first.equals(again)
    older = [
        {tuple(row.values()) for row in each.to_pylist() if row["timestamp"] <= times[0]}
        for each in (first, later)
    ]
    assert len(older[0] & older[1]) < 0.5 * len(older[1])


def test_nothing_new_selects_nothing(prepared, tmp_path):
    since = prepared.latest_training_event()
    assert select_examples(prepared, tmp_path / "s", since=since, share=0.5, seed=0) is None
    assert not (tmp_path / "s").exists()


def test_a_training_reads_the_selection_and_its_popularity(planted, prepared, tmp_path):
    since, directory = at(prepared, 0.7), tmp_path / "s"
    selected = select_examples(prepared, directory, since=since, share=0.3, seed=0)
    plan = training_plan(prepared, planted, selection=directory)
    assert plan.rows == sum(selected)
    assert plan.identity != training_plan(prepared, planted).identity
    items = examples(selected_files(directory))["item"].to_numpy()
    events = np.bincount(items, minlength=prepared.num_items)
    assert np.array_equal(selected_events(directory), events)
    builder = BatchBuilder(prepared, planted, directory)
    expected = np.log(np.maximum(events, 1) / events.sum()).astype(np.float32)
    read = builder.items(np.arange(prepared.num_items))
    np.testing.assert_array_equal(read.log_q, expected)


def test_replay_is_refused_where_examples_have_no_time():
    assert TrainingConfig(start="previous", replay=0.0).replay == 0
    assert TrainingConfig(start="scratch", replay=0.5).replay == 0.5  # Tuning begins from scratch.
    with pytest.raises(ValidationError, match="replay needs examples of kind events"):
        TrainingConfig(start="previous", replay=0.5, examples="sequences")
    # Identities of earlier versions' trainings stay.
    assert "replay" not in TrainingConfig(start="previous").model_dump(mode="json")


def test_a_file_that_was_written_again_is_read_as_it_is_now(prepared, tmp_path):
    """Writes a file in the place of another one, which a file system may give its inode."""
    for rows in (64, 32):
        path = tmp_path / "part-00000.parquet"
        table = pq.read_table(prepared.examples("train")[0])
        pq.write_table(table.slice(0, rows), path)
        plan = plan_training([path], batch_size=16, workers=1, epochs=1, seed=0)
        read = [local.item for local in read_steps(plan, 0, plan.total_steps, 0, 1)]
        assert sorted(np.concatenate(read)) == sorted(table["item"].to_numpy()[:rows])
