"""The rows of a bucket, which holds all events of some queries, before they become examples."""

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from feature_store.core.columns import Ints
from feature_store.schema import FeatureSchema, qualified
from pipelines.executor.shuffle import read_partitions
from pipelines.prepare.examples.context import context_order


@dataclass(frozen=True)
class Inventory:
    """The files that every bucket reads.

    Attributes:
        scans: Files of the events of each piece, in order.
        buckets: Number of buckets.
        items: File of the items' ids.
        current: NumPy file, [items]: which items are in this run's log; events of others are put
            aside.
        queries: File with columns id and index, partitioned by bucket.
        vocabulary: Directory that `SideEncoder.save` wrote.
    """

    scans: tuple[Path, ...]
    buckets: int
    items: Path
    current: Path
    queries: Path
    vocabulary: Path


@lru_cache(maxsize=1)
def load_inventory(path: Path) -> Inventory:
    """Reads an inventory from JSON; a worker process keeps it between tasks."""
    return TypeAdapter(Inventory).validate_json(path.read_bytes())


@dataclass(frozen=True)
class Rows:
    """Rows of events; every field is [rows].

    Attributes:
        query: Position of the query's id in code-point order.
        item: Position of the item's id in code-point order.
        time: Microseconds since 1970.
        weight: Weight in the loss.
        split: Split that the log gives, an index into `SPLITS`; -1 where it gives none.
        piece: Number of the event's piece.
        row: Row of the event in its piece.
        context: Key of the event's context, see `context_order`.
        position: Position among all rows of the bucket.
    """

    query: Ints
    item: Ints
    time: Ints
    weight: npt.NDArray[np.float32]
    split: Ints
    piece: Ints
    row: Ints
    context: Ints
    position: Ints

    def take(self, rows: Ints) -> "Rows":
        """Returns the given rows, in that order."""
        return Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class BucketRows:
    """All rows of a bucket.

    Attributes:
        rows: The rows, in the order of the pieces.
        item_ids: Distinct ids of the items, in code-point order.
        query_ids: Distinct ids of the queries, in code-point order.
        context: [rows] raw values of the context, as `context.<feature>`.
    """

    rows: Rows
    item_ids: pa.Array
    query_ids: pa.Array
    context: pa.Table


def read_bucket(inventory: Inventory, bucket: int, features: FeatureSchema) -> BucketRows:
    """Gathers the rows of a bucket from all scans.

    Args:
        inventory: Files to read.
        bucket: Number of the bucket.
        features: Schema whose context is read.
    """
    batches: list[pa.RecordBatch] = []
    piece: list[Ints] = []
    for index, path in enumerate(inventory.scans):
        of_piece = read_partitions(path, [bucket], inventory.buckets)
        batches.extend(of_piece)
        piece.append(np.full(sum(len(batch) for batch in of_piece), index))
    table = pa.Table.from_batches(batches).combine_chunks()
    query, query_ids = _codes(table["query"])
    item, item_ids = _codes(table["item"])
    raw = table.select([qualified("context", f) for f in features.context_columns])
    rows = Rows(
        query=query,
        item=item,
        time=table["time"].to_numpy(),
        weight=table["weight"].to_numpy(),
        split=table["split"].to_numpy(),
        piece=np.concatenate(piece),
        row=table["row"].to_numpy(),
        context=context_order(raw) if raw.num_columns else np.zeros(len(table), np.int64),
        position=np.arange(len(table)),
    )
    return BucketRows(rows, item_ids, query_ids, raw)


def query_index(inventory: Inventory, bucket: int, query_ids: pa.Array) -> Ints:
    """Returns the index of each of the bucket's queries, [queries]."""
    batches = read_partitions(inventory.queries, [bucket], inventory.buckets)
    table = pa.Table.from_batches(batches)
    position = pc.index_in(query_ids, value_set=table["id"].combine_chunks())
    return table["index"].to_numpy()[position.to_numpy()]


def without_duplicates(rows: Rows) -> tuple[Rows, Rows]:
    """Sorts by (query, time, item), and returns the heaviest of equal events, and the others."""
    keys = (rows.row, rows.piece, rows.context, rows.split, -rows.weight)
    order = np.lexsort((*keys, rows.item, rows.time, rows.query))
    rows = rows.take(order)
    repeats = np.zeros(len(order), bool)
    repeats[1:] = (
        (rows.query[1:] == rows.query[:-1])
        & (rows.time[1:] == rows.time[:-1])
        & (rows.item[1:] == rows.item[:-1])
    )
    return rows.take(np.flatnonzero(~repeats)), rows.take(np.flatnonzero(repeats))


def _codes(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Returns the distinct values in code-point order, and each row's position in them, first."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order))
