"""`prepare` on a log that grows, shrinks or has ids to be forgotten."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.forgotten import Forgotten
from pipelines.prepare.job import Job
from pipelines.prepare.prepare import prepare
from pipelines.prepare.scan import scan_piece
from pipelines.prepare.workspace import Workspace
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig
from tests.support.hostile.held_locks import held_by_another
from tests.support.prepare_logs import (
    FEATURES,
    IDS_ONLY,
    LOCAL,
    examples,
    items_table,
    queries_table,
    random_events,
    rejected_rows,
    run,
    write_log,
)


def write_partition(events: Path, day: int, table: pa.Table) -> None:
    path = events / f"date=2026-11-{day:02}" / "part.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)


def decoded(prepared: Prepared) -> dict[str, Any]:
    """Reads a prepared directory as ids, in an order that does not depend on rows."""
    items = prepared.item_encoder.ids
    frequency = pq.read_table(prepared.directory / "statistics" / "item_frequency.parquet")
    rows = [row for row in frequency.to_pylist() if row["item_id"] is not None]
    state = prepared.query_state
    query_ids = prepared.query_encoder.ids.tokens.to_pylist()
    known = {}
    for name in ("train", "validation", "test", "validation_history", "test_history"):
        column = getattr(state, name)
        for index, query in enumerate(query_ids):
            found = items.tokens.take(pa.array(column.take(np.array([index])).values)).to_pylist()
            known[name, query] = found if "history" in name else sorted(found)
    rejected = {
        table: Counter(str(sorted(row.items())) for row in rejected_rows(prepared, table))
        for table in ("events", "items", "queries")
    }
    return {
        "examples": Counter(map(str, examples(prepared))),
        "frequency": sorted(map(str, rows)),
        "known": known,
        "rejected": rejected,
        "counts": prepared.manifest.counts,
    }


@pytest.fixture
def scanned_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the rows of the pieces that are scanned, call by call."""
    found: list[int] = []
    run_tasks = Job.run_tasks

    def counted(job: Job, function: Any, tasks: Any, summaries: Any) -> Any:
        if function is scan_piece:
            missing = [t for t, path in zip(tasks, summaries, strict=True) if not path.exists()]
            found.append(sum(task.piece.rows for task in missing))
        return run_tasks(job, function, tasks, summaries)

    monkeypatch.setattr(Job, "run_tasks", counted)
    return found


@pytest.mark.parametrize("history", ["past", "others"])
def test_new_and_late_partitions_give_what_all_at_once_would(
    tmp_path: Path, scanned_rows: list[int], history: str
) -> None:
    tables = write_log(tmp_path / "log", items=items_table(), queries=queries_table())
    split = {"kind": "random_hash"} if history == "others" else {"kind": "leave_last_out"}
    settings = {"events": str(tmp_path / "events"), **tables}
    settings |= {"split": split, "history": {"kind": history, "max_length": 5}}
    days = {day: random_events(day, rows=200, items=40 + 10 * day) for day in (1, 2, 3)}
    write_partition(tmp_path / "events", 1, days[1])
    run(tmp_path / "grown", **settings)
    write_partition(tmp_path / "events", 3, days[3])
    before = run(tmp_path / "grown", **settings)
    old_items = before.item_encoder.ids.tokens
    write_partition(tmp_path / "events", 2, days[2])  # Late: its place is before a known one.
    pq.write_table(items_table(70), tmp_path / "log" / "items.parquet")
    grown = run(tmp_path / "grown", **settings)
    assert scanned_rows == [200, 200, 200]
    at_once = run(tmp_path / "at_once", **settings)
    assert decoded(grown) == decoded(at_once)
    assert grown.item_encoder.ids.tokens[: len(old_items)].equals(old_items)
    assert len(grown.item_encoder.ids) == 70


def test_partitions_that_are_gone_or_changed_are_not_remembered(
    tmp_path: Path, scanned_rows: list[int]
) -> None:
    settings = {"events": str(tmp_path / "events")}
    for day in (1, 2, 3):
        write_partition(tmp_path / "events", day, random_events(day, rows=100))
    features = FEATURES.model_copy(update={"item": FEATURES.item[:1], "query": ()})
    run(tmp_path / "prepared", features, **settings)
    (tmp_path / "events" / "date=2026-11-02" / "part.parquet").unlink()
    path = tmp_path / "events" / "date=2026-11-03" / "part.parquet"
    pq.write_table(random_events(9, rows=150), path)
    after = run(tmp_path / "prepared", features, **settings)
    assert scanned_rows == [300, 150]
    fresh = run(tmp_path / "fresh", features, **settings)
    assert decoded(after)["examples"] == decoded(fresh)["examples"]
    workspace = Workspace(tmp_path / "prepared")
    assert len(list(workspace.scans.glob("*.json"))) == 2


def test_an_event_of_the_future_is_there_when_its_time_has_come(
    tmp_path: Path, scanned_rows: list[int]
) -> None:
    features = FEATURES.model_copy(update={"item": FEATURES.item[:1], "query": ()})
    early = random_events(1, rows=100)
    late = early.set_column(2, "timestamp", pa.array(np.full(100, 1_600_000_000)))
    write_partition(tmp_path / "events", 1, early)
    write_partition(tmp_path / "events", 2, late)
    settings: dict[str, Any] = {"events": str(tmp_path / "events")}
    first = run(tmp_path / "prepared", features, as_of=datetime(2018, 1, 1), **settings)
    assert first.manifest.counts.rejected["events: future timestamp"] == 100
    run(tmp_path / "prepared", features, as_of=datetime(2019, 1, 1), **settings)
    second = run(tmp_path / "prepared", features, as_of=datetime(2022, 1, 1), **settings)
    assert scanned_rows == [200, 0, 100]
    assert "events: future timestamp" not in second.manifest.counts.rejected


def texts_of(directory: Path) -> str:
    """Reads all files below as text, Parquet and Arrow decoded."""
    found: list[str] = []
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        found.append(str(path.relative_to(directory)))
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            found.append(str(pq.read_table(path).to_pydict()))
        elif content[:6] == b"ARROW1":
            with pa.memory_map(str(path)) as source:
                found.append(str(pa.ipc.open_file(source).read_all().to_pydict()))
        else:
            found.append(content.decode("utf-8", errors="replace"))
    return "\n".join(found)


def test_after_a_forget_there_is_no_trace(tmp_path: Path, scanned_rows: list[int]) -> None:
    item = "item-to-be-forgotten"
    query = "query-to-be-forgotten"
    events = random_events(1, rows=300)
    extra = pa.table(
        {
            "query_id": [query, query, "q1", query, "q2", query],
            "item_id": ["i1", "i2", item, "no-such-item", item, "i4"],
            "timestamp": [1_500_000_003] * 5 + [None],
            "weight": np.ones(6, np.float32),
        }
    )
    write_partition(tmp_path / "events", 1, events)
    write_partition(tmp_path / "events", 2, pa.concat_tables([random_events(2, rows=50), extra]))
    row = items_table().slice(0, 1).to_pylist()[0]
    row |= {"item_id": item, "title": f"Unique{item} word"}
    items = pa.concat_tables([items_table(), pa.Table.from_pylist([row], items_table().schema)])
    user = pa.table({"query_id": [query], "country": ["onlyhere"]})
    queries = pa.concat_tables([queries_table(), user])
    tables = write_log(tmp_path / "log", items=items, queries=queries)
    settings = {"events": str(tmp_path / "events"), **tables}
    config = DataConfig.model_validate(settings)
    output = tmp_path / "out" / "prepared"
    before = run(output, **settings)
    assert all(text in texts_of(output.parent) for text in (item, query, "onlyhere"))
    forgotten = Forgotten().adding("query", [query]).adding("item", [item])
    prepare(config, FEATURES, output, executor=LOCAL, forgotten=forgotten)
    forgotten.save(tmp_path / "out" / "forgotten.json")
    found = texts_of(output.parent)
    for text in (item, query, "onlyhere", "unique"):
        assert text not in found
    after = Prepared(output)
    assert scanned_rows == [356, 56]
    assert after.manifest.counts.rejected["events: forgotten"] == 6
    assert after.manifest.counts.rejected["items: forgotten"] == 1
    # Nobody else has moved, and nobody gets the free row.
    old, new = before.item_encoder.ids.tokens.to_pylist(), after.item_encoder.ids.tokens.to_pylist()
    assert new == [None if token == item else token for token in old]
    assert after.item_encoder.ids.rows(pa.array([item, None]))[0] == -1
    again = run(tmp_path / "never", events=settings["events"], **tables)
    assert len(examples(again)) == len(examples(after)) + 4


def test_only_one_process_prepares_a_directory(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", events=random_events(0))
    output = tmp_path / "prepared"
    with held_by_another(output), pytest.raises(UserError, match="is being written by"):
        prepare(DataConfig(**log), IDS_ONLY, output, executor=LOCAL)


def test_a_process_that_ended_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    features = FEATURES.model_copy(update={"item": FEATURES.item[:1], "query": ()})
    log = write_log(tmp_path / "log", events=random_events(0))
    output = tmp_path / "prepared"
    run(output, features, **log)
    workspace = Workspace(output)
    old = workspace.root / "replaced" / "prepared"
    old.parent.mkdir()
    output.rename(old)  # The first rename was done and no new directory is there.
    with workspace.locked():
        assert (output / "manifest.json").exists()
    build = workspace.root / "build" / "0123" / "prepared"
    build.parent.mkdir(parents=True)
    output.rename(build)  # The new one is there.
    with workspace.locked():
        assert (output / "manifest.json").exists()
        assert not build.parent.exists()
