"""The recent histories of queries: events to a snapshot, and to rows of the online store."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Ints
from feature_store.core.hashing import hash64, hash_of_ids, hash_strings
from feature_store.core.rows import encode_rows
from feature_store.history import HISTORY_SCHEMA, MAX_STRETCH
from feature_store.offline.snapshots import write_history_snapshot
from pipelines.executor.shuffle import read_partitions, write_partitions
from pipelines.materialize.job import Catalogue, Job, WaitingRows, Written, load_ids, write_rows
from pipelines.prepared.examples import SPLITS
from pipelines.settings import History

_PART_EVENTS = 1_000_000
# Seed of the choice among more events than a history of `others` holds.
_SEED = 6


@dataclass(frozen=True)
class CutEvents:
    """A task: cut a file of examples by the part of their query.

    Attributes:
        examples: File of the examples.
        queries: Ids of the queries; events of others are left out.
        parts: Number of parts.
        path: File for columns query, item and time, partitioned.
    """

    examples: Path
    queries: Catalogue
    parts: int
    path: Path


@dataclass(frozen=True)
class WriteHistories:
    """A task: write the recent histories of a part's queries for the online store.

    Attributes:
        part: Number of the part.
        parts: Number of parts.
        inputs: Files that `cut_events` wrote.
        queries: Ids of the queries.
        items: Ids of the items; events of others are left out.
        settings: Settings of a history.
        as_of: Time of the snapshot.
        snapshot: File of the snapshot; see `write_history_snapshot`.
        path: File for the rows; see `write_rows`.
    """

    part: int
    parts: int
    inputs: tuple[Path, ...]
    queries: Catalogue
    items: Catalogue
    settings: History
    as_of: datetime
    snapshot: Path
    path: Path


def write_histories(job: Job) -> WaitingRows:
    """Writes the recent histories of all queries; the rows for the online store wait in files."""
    counts = job.prepared.manifest.counts
    events = counts.train + counts.validation + counts.test
    job.say(f"reading {events:,} events")
    parts = max(1, -(-events // _PART_EVENTS))
    folder = job.work / "history"
    offline = job.directory / "offline" / "query_history"
    files = [file for split in SPLITS for file in job.prepared.examples(split)]
    cuts = [
        CutEvents(
            examples=file.absolute(),
            queries=job.catalogue("query"),
            parts=parts,
            path=folder / f"cut-{index:05d}.arrow",
        )
        for index, file in enumerate(files)
    ]
    job.run_tasks("history-cut", cut_events, cuts, events)
    writes = [
        WriteHistories(
            part=part,
            parts=parts,
            inputs=tuple(cut.path for cut in cuts),
            queries=job.catalogue("query"),
            items=job.catalogue("item"),
            settings=job.prepared.manifest.data.history,
            as_of=datetime.fromisoformat(job.prepared.manifest.as_of),
            snapshot=offline / f"part-{part:05d}-of-{parts:05d}.parquet",
            path=folder / f"rows-{part:05d}.arrow",
        )
        for part in range(parts)
    ]
    written = job.run_tasks("history-write", write_part, writes, events)
    # Other files are of another number of parts.
    for file in set(offline.glob("*.parquet")) - {write.snapshot for write in writes}:
        file.unlink()
    rows = sum(part.rows for part in written)
    return WaitingRows("query_history", [write.path for write in writes], rows, 0)


def cut_events(task: CutEvents) -> int:
    """Writes the events of current queries, and returns their number."""
    table = pq.read_table(task.examples, columns=["query", "item", "timestamp"])
    times = pc.fill_null(table["timestamp"].cast(pa.int64()), 0)
    events = pa.table([table["query"], table["item"], times], names=["query", "item", "time"])
    part = _parts_of_queries(task.queries, task.parts)[events["query"].to_numpy()]
    events = events.filter(pa.array(part >= 0))
    write_partitions(task.path, [(events, part[part >= 0])], task.parts)
    return len(events)


def write_part(task: WriteHistories) -> Written:
    """Keeps the newest events of each query; a choice of them where order means nothing."""
    batches = [read_partitions(path, [task.part], task.parts) for path in task.inputs]
    table = pa.Table.from_batches([batch for some in batches for batch in some])
    query, item, time = (table[name].to_numpy() for name in ("query", "item", "time"))
    query_ids, _ = load_ids(task.queries)
    item_ids, current = load_ids(task.items)
    kept = current[item] if len(current) else np.zeros(len(item), bool)
    rows = np.flatnonzero(kept)
    rows = rows[np.lexsort((_ranks(task.items)[item[rows]], time[rows], query[rows]))]
    query, item, time = query[rows], item[rows], time[rows]
    choice = None
    if task.settings.kind == "others":
        keys = _item_keys(task.items)[item]
        choice = hash64(_SEED, hash_strings(_SEED, query_ids.take(pa.array(query))), keys)
    chosen = recent_events(query, item, choice, task.settings)
    query, item, time = query[chosen], item[chosen], time[chosen]
    queries, first = np.unique(query, return_index=True)
    offsets = pa.array(np.append(first, len(query)), pa.int32())
    items = pa.ListArray.from_arrays(offsets, item_ids.take(pa.array(item)))
    times = pa.array(time).cast(HISTORY_SCHEMA.field("timestamps").type.value_type)
    columns = [items, pa.ListArray.from_arrays(offsets, times)]
    histories = pa.table(
        [column.cast(kind) for column, kind in zip(columns, HISTORY_SCHEMA.types, strict=True)],
        schema=HISTORY_SCHEMA,
    )
    ids = query_ids.take(pa.array(queries))
    write_history_snapshot(task.snapshot, ids, histories, task.as_of)
    write_rows(task.path, ids, encode_rows(histories))
    return Written(len(queries), 0)


def recent_events(query: Ints, item: Ints, choice: Ints | None, settings: History) -> Ints:
    """Returns the positions of the events in the queries' recent histories, ascending.

    Args:
        query: Queries' indices, [events], ascending.
        item: Items' indices, [events], oldest first within a query.
        choice: Keys, [events], if order means nothing: events with the highest key are kept.
        settings: Settings with `max_length` and `distinct`.
    """
    chosen: Ints = np.arange(len(query))
    if settings.distinct:
        chosen = _latest(query, chosen, MAX_STRETCH * settings.max_length)
        width = int(item.max(initial=0)) + 1
        keys = query[chosen].astype(np.int64) * width + item[chosen]
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        chosen = chosen[np.sort(last)]
    if choice is not None:
        chosen = chosen[np.lexsort((choice[chosen], query[chosen]))]
    return np.sort(_latest(query, chosen, settings.max_length))


def _latest(query: Ints, chosen: Ints, length: int) -> Ints:
    """Returns the last `length` of each query's positions, which are sorted by query."""
    owner = query[chosen]
    after = np.searchsorted(owner, owner, side="right") - np.arange(len(owner))
    return chosen[after <= length]


@lru_cache(maxsize=1)
def _ranks(catalogue: Catalogue) -> Ints:
    """Returns the position of each id in code-point order, [ids]."""
    ids, _ = load_ids(catalogue)
    ranks = np.empty(len(ids), np.int64)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    return ranks


@lru_cache(maxsize=1)
def _item_keys(catalogue: Catalogue) -> Ints:
    return hash_strings(_SEED, load_ids(catalogue)[0])


@lru_cache(maxsize=1)
def _parts_of_queries(queries: Catalogue, parts: int) -> Ints:
    """Returns the part of each query, [queries]; -1 where it is not current."""
    ids, current = load_ids(queries)
    return np.where(current, hash_of_ids(ids.fill_null("")) * parts >> 32, -1)
