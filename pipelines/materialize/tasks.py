"""What the workers of `materialize` do: raw rows and events to snapshots and to rows of the store.

All is partitioned by ranges of the ids' hash, so that no worker holds more than one of them, and
what they write is in the order in which the online store is loaded.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import Bools, Ints
from feature_store.core.files import write_atomically
from feature_store.core.hashing import hash64, hash_of_ids, hash_strings
from feature_store.core.rows import encode_rows
from feature_store.encoding.encoder import id_strings
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.forgotten import Forgotten
from feature_store.history import HISTORY_SCHEMA, MAX_STRETCH
from feature_store.offline.snapshots import Snapshots, write_history_snapshot
from feature_store.schema import Side
from pipelines.executor.shuffle import read_partitions, write_partitions
from pipelines.logs.tables import Piece, read_piece
from pipelines.settings import History

# Of the choice among more events than a history of `others` holds.
_SEED = 6


@dataclass(frozen=True)
class Catalogue:
    """The ids of a side.

    Attributes:
        side: Which.
        path: Of its `Vocabulary`.
        forgotten: Ids that are none any more, whether or not `prepare` ran since.
    """

    side: Side
    path: Path
    forgotten: Forgotten


@lru_cache(maxsize=2)
def load_ids(catalogue: Catalogue) -> tuple[pa.Array, Bools]:
    """[ids] the ids, by index, and which of them are current."""
    ids = Vocabulary.load(catalogue.path)
    current = (ids.counts.to_numpy() > 0) & ids.tokens.is_valid().to_numpy(zero_copy_only=False)
    current &= ~catalogue.forgotten.contains(catalogue.side, ids.tokens)
    return ids.tokens, current


@dataclass(frozen=True)
class CutRows:
    """A task: cut the rows of a piece of a side's table by part.

    Attributes:
        piece: Of the table.
        id_column: Its ids.
        catalogue: Rows of other ids are left out.
        snapshots: What the rows are for.
        path: Of columns id and the features, partitioned.
    """

    piece: Piece
    id_column: str
    catalogue: Catalogue
    snapshots: Snapshots
    path: Path


def cut_rows(task: CutRows) -> int:
    """Writes the rows of current ids, and returns how many."""
    features = task.snapshots.view.columns
    names = [name for name in features.names if name != task.id_column]
    raw = read_piece(task.piece, [task.id_column, *names])
    ids = id_strings(raw[task.id_column])
    tokens, current = load_ids(task.catalogue)
    kept = pc.is_in(ids, value_set=tokens.filter(pa.array(current)).drop_null())
    columns = [ids, *(raw[name] for name in features.names)]
    # By place, for a feature may be called anything.
    table = pa.table(columns, names=[str(index) for index in range(len(columns))]).filter(kept)
    part = task.snapshots.part_of(table["0"].combine_chunks())
    write_partitions(task.path, [(table, part)], task.snapshots.parts)
    return len(table)


@dataclass(frozen=True)
class Materialized:
    """What became of a part.

    Attributes:
        rows: For the online store.
        changed: Rows that were added to the snapshots.
    """

    rows: int
    changed: int


@dataclass(frozen=True)
class WriteFeatures:
    """A task: write the snapshot of a part, and its rows for the online store.

    Attributes:
        part: Which.
        inputs: Of `cut_rows`, in the order of the pieces.
        snapshots: To be added to.
        as_of: Time of the snapshot.
        forgotten: Ids of which no row stays.
        path: Of the rows; see `write_rows`.
    """

    part: int
    inputs: tuple[Path, ...]
    snapshots: Snapshots
    as_of: datetime
    forgotten: Forgotten
    path: Path


def write_features(task: WriteFeatures) -> Materialized:
    """Of each id the first row counts."""
    snapshots = task.snapshots
    parts = [read_partitions(path, [task.part], snapshots.parts) for path in task.inputs]
    table = pa.Table.from_batches([batch for batches in parts for batch in batches])
    ids = table["0"].combine_chunks()
    codes = ids.dictionary_encode().indices.to_numpy()
    table = table.take(pa.array(np.sort(np.unique(codes, return_index=True)[1])))
    ids = table["0"].combine_chunks()
    features = pa.table(table.columns[1:], schema=snapshots.view.columns)
    changed = snapshots.write(task.part, ids, features, task.as_of, task.forgotten)
    write_rows(task.path, ids, encode_rows(features))
    return Materialized(len(ids), changed)


def write_rows(path: Path, ids: pa.Array, rows: pa.Array) -> None:
    """Writes columns id and row, in the order of the ids' hash."""
    order = pa.array(np.argsort(hash_of_ids(ids), kind="stable"))
    table = pa.table({"id": ids.take(order), "row": rows.take(order)})
    options = pa.ipc.IpcWriteOptions(compression="lz4")

    def write(temporary: Path) -> None:
        with (
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            writer.write_table(table)

    write_atomically(path, write)


@dataclass(frozen=True)
class CutEvents:
    """A task: cut a file of examples by their queries' part.

    Attributes:
        examples: The file.
        queries: Events of other queries are left out.
        parts: How many.
        path: Of columns query, item and time, partitioned.
    """

    examples: Path
    queries: Catalogue
    parts: int
    path: Path


def cut_events(task: CutEvents) -> int:
    """Writes the events, and returns how many."""
    table = pq.read_table(task.examples, columns=["query", "item", "timestamp"])
    times = pc.fill_null(table["timestamp"].cast(pa.int64()), 0)
    events = pa.table([table["query"], table["item"], times], names=["query", "item", "time"])
    part = _parts_of_queries(task.queries, task.parts)[events["query"].to_numpy()]
    events = events.filter(pa.array(part >= 0))
    write_partitions(task.path, [(events, part[part >= 0])], task.parts)
    return len(events)


@lru_cache(maxsize=1)
def _parts_of_queries(queries: Catalogue, parts: int) -> Ints:
    """[queries] the part of each one, -1 where it is not current."""
    ids, current = load_ids(queries)
    return np.where(current, hash_of_ids(ids.fill_null("")) * parts >> 32, -1)


@dataclass(frozen=True)
class WriteHistories:
    """A task: write the recent histories of a part's queries for the online store.

    Attributes:
        part: Which.
        parts: How many.
        inputs: Of `cut_events`.
        queries: Their ids.
        items: Their ids; events of others are left out.
        settings: What a history is.
        as_of: Time of the snapshot.
        snapshot: See `write_history_snapshot`.
        path: Of the rows; see `write_rows`.
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


def write_histories(task: WriteHistories) -> Materialized:
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
    return Materialized(len(queries), 0)


def recent_events(query: Ints, item: Ints, choice: Ints | None, settings: History) -> Ints:
    """Positions of the events that the queries' recent histories hold, ascending.

    Args:
        query: [events] ascending.
        item: [events], oldest first within a query.
        choice: [events] where order means nothing: those with the highest value are kept.
        settings: `max_length` and `distinct`.
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
    """Of positions that are sorted by query, the last `length` of each query."""
    owner = query[chosen]
    after = np.searchsorted(owner, owner, side="right") - np.arange(len(owner))
    return chosen[after <= length]


@lru_cache(maxsize=1)
def _ranks(catalogue: Catalogue) -> Ints:
    """[ids] places in code-point order."""
    ids, _ = load_ids(catalogue)
    ranks = np.empty(len(ids), np.int64)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    return ranks


@lru_cache(maxsize=1)
def _item_keys(catalogue: Catalogue) -> Ints:
    return hash_strings(_SEED, load_ids(catalogue)[0])
