"""Number of tasks of `prepare`, each of which costs milliseconds to seconds on Ray."""

from tests.support.prepare_logs import (
    CountingExecutor,
    items_table,
    queries_table,
    random_events,
    run,
    write_log,
)

# Tasks of a log that is one part of every step.
MOST_TASKS = 18


def test_a_small_log_is_prepared_in_few_tasks(tmp_path):
    log = write_log(
        tmp_path / "log", events=random_events(0), items=items_table(), queries=queries_table()
    )
    executor = CountingExecutor()
    run(tmp_path / "prepared", executor=executor, **log)
    assert executor.tasks <= MOST_TASKS
