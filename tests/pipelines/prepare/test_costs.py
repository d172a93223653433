"""Costs of `prepare` as a log grows, in numbers that do not depend on the clock."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.encoding import vocabulary
from pipelines.prepare import job
from pipelines.prepare import prepare as steps
from pipelines.prepare.examples import queries
from tests.support.prepare_logs import (
    IDS_ONLY,
    CountingExecutor,
    items_table,
    queries_table,
    random_events,
    run,
    write_log,
)

# Tasks of a log that is one part of every step; each costs milliseconds to seconds on Ray.
MOST_TASKS = 18


def test_a_small_log_is_prepared_in_few_tasks(tmp_path):
    log = write_log(
        tmp_path / "log", events=random_events(0), items=items_table(), queries=queries_table()
    )
    executor = CountingExecutor()
    run(tmp_path / "prepared", executor=executor, **log)
    assert executor.tasks <= MOST_TASKS


def test_the_items_of_all_queries_are_never_in_memory_at_once(tmp_path, monkeypatch):
    log = write_log(tmp_path / "log", events=_pairs(queries=100, items=400))
    monkeypatch.setattr(queries, "_MOST_ITEMS", 2000)
    peaks = []

    def joined(*arguments):
        tracemalloc.start()
        queries.write_query_state(*arguments)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    monkeypatch.setattr(steps, "write_query_state", joined)
    prepared = run(tmp_path / "prepared", IDS_ONLY, **log)
    state = prepared.query_state
    size = sum(getattr(state, split).values.nbytes for split in ("train", "validation", "test"))
    assert size == 100 * 400 * 4
    assert max(peaks) < size


def test_no_bucket_hashes_the_whole_catalogue(tmp_path, monkeypatch):
    events = random_events(0, queries=300, items=3000, rows=3000)
    log = write_log(tmp_path / "log", events=events, items=items_table(3000))
    hashed = []

    def counted(values, *, value_set, **options):
        hashed.append(len(value_set))
        return index_in(values, value_set=value_set, **options)

    index_in = pc.index_in
    monkeypatch.setattr(pc, "index_in", counted)
    monkeypatch.setattr(vocabulary, "_SMALL_LOOKUP", 0)
    monkeypatch.setattr(job, "_TASK_ROWS", 200)
    run(tmp_path / "prepared", IDS_ONLY, **log)
    # A few times for the whole log, and the queries of each of the 15 buckets.
    assert sum(hashed) < 6 * 3000


def _pairs(queries: int, items: int) -> pa.Table:
    """Builds events of all pairs, each once."""
    query, item = np.divmod(np.arange(queries * items), items)
    return pa.table(
        {
            "query_id": pa.array(query).cast(pa.string()),
            "item_id": pa.array(item).cast(pa.string()),
            "timestamp": 1_500_000_000 + item,
        }
    )
