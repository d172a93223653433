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
from feature_store.core.sorting import stable_order
from feature_store.schema import FeatureSchema, qualified
from pipelines.executor.shuffle import read_partitions
from pipelines.prepare.catalogue.item_index import keys_of, load_item_index
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
        item_index: Folder that `write_item_index` filled.
        queries: File with columns id and index, partitioned by bucket.
        vocabulary: Directory that `SideEncoder.save` wrote.
    """

    scans: tuple[Path, ...]
    buckets: int
    items: Path
    current: Path
    item_index: Path
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
        query: Position in the bucket's queries.
        item: Position in the bucket's items.
        time: Microseconds since 1970.
        weight: Weight in the loss.
        split: Split that the log gives, an index into `SPLITS`; -1 where it gives none.
        piece: Number of the event's piece.
        row: Row of the event in its piece.
        position: Position among all rows of the bucket, which are in the order of (piece, row).
    """

    query: Ints
    item: Ints
    time: Ints
    weight: npt.NDArray[np.float32]
    split: Ints
    piece: Ints
    row: Ints
    position: Ints

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: Ints) -> "Rows":
        """Returns the given rows, in that order."""
        return Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Entries:
    """The distinct queries or items of a bucket; every field is [entries].

    Attributes:
        ids: Ids.
        keys: Hashes of the ids.
        index: Index in the catalogue; -1 of an item that this run's catalogue does not have.
    """

    ids: pa.Array
    keys: Ints
    index: Ints

    def take(self, entries: Ints) -> "Entries":
        """Returns the given entries, in that order."""
        return Entries(self.ids.take(pa.array(entries)), self.keys[entries], self.index[entries])


@dataclass(frozen=True)
class BucketRows:
    """All rows of a bucket.

    Attributes:
        rows: The rows, in the order of the pieces.
        items: Items, those of the catalogue in code-point order of their ids, after all others.
        queries: Queries in the order of their indices.
        context: [rows] raw values of the context, as `context.<feature>`.
    """

    rows: Rows
    items: Entries
    queries: Entries
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
    query, queries = _queries(inventory, bucket, table["query"])
    item, items = _items(inventory, table["item"])
    rows = Rows(
        query=query,
        item=item,
        time=table["time"].to_numpy(),
        weight=table["weight"].to_numpy(),
        split=table["split"].to_numpy(),
        piece=np.concatenate(piece),
        row=table["row"].to_numpy(),
        position=np.arange(len(table)),
    )
    raw = table.select([qualified("context", f) for f in features.context_columns])
    return BucketRows(rows, items, queries, raw)


def _queries(inventory: Inventory, bucket: int, column: pa.ChunkedArray) -> tuple[Ints, Entries]:
    """Returns the position of each row's query in the distinct ones, and these."""
    encoded = column.combine_chunks().dictionary_encode()
    ids = encoded.dictionary
    batches = read_partitions(inventory.queries, [bucket], inventory.buckets)
    table = pa.Table.from_batches(batches)
    where = pc.index_in(ids, value_set=table["id"].combine_chunks())
    index = table["index"].to_numpy()[where.to_numpy()]
    return _sorted(encoded, Entries(ids, keys_of(ids), index), rank=index)


def _items(inventory: Inventory, column: pa.ChunkedArray) -> tuple[Ints, Entries]:
    """Returns the position of each row's item in the distinct ones, and these."""
    encoded = column.combine_chunks().dictionary_encode()
    ids = encoded.dictionary
    catalogue = load_item_index(inventory.item_index, inventory.items, inventory.current)
    keys = keys_of(ids)
    index = catalogue.find(ids, keys)
    return _sorted(encoded, Entries(ids, keys, index), rank=catalogue.rank_of(index))


def _sorted(encoded: pa.DictionaryArray, entries: Entries, rank: Ints) -> tuple[Ints, Entries]:
    """Sorts a column's dictionary by a rank.

    Args:
        encoded: Column of the rows.
        entries: Entries of its dictionary.
        rank: Rank of each of them.
    """
    order = stable_order(rank)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[encoded.indices.to_numpy()], entries.take(order)


def without_duplicates(rows: Rows, context: pa.Table) -> tuple[Rows, Rows]:
    """Sorts by (query, time, item), and returns the heaviest of equal events, and the others.

    Args:
        rows: Rows in the order of their positions.
        context: Raw values of the context by position.
    """
    rows = rows.take(stable_order(rows.query, rows.time, rows.item))
    repeats = np.zeros(len(rows), bool)
    repeats[1:] = (
        (rows.query[1:] == rows.query[:-1])
        & (rows.time[1:] == rows.time[:-1])
        & (rows.item[1:] == rows.item[:-1])
    )
    if not repeats.any():
        return rows, rows.take(np.empty(0, np.int64))
    equal = np.flatnonzero(repeats | np.append(repeats[1:], False))
    some = rows.take(equal)
    order = np.arange(len(rows))
    # Equal events are in the order of their positions, which stays where nothing else decides.
    keys: list[npt.NDArray[np.generic]] = [some.split, -some.weight, np.cumsum(~repeats)[equal]]
    if context.num_columns:
        keys.insert(0, context_order(context.take(pa.array(some.position))))
    order[equal] = equal[np.lexsort(keys)]
    return rows.take(order[~repeats]), rows.take(order[repeats])
