"""The first pass over the events: clean each file and hand its rows on by query."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.catalogue import load_ids
from pipelines.cleaning import clean_events, event_columns
from pipelines.settings import DataConfig
from pipelines.sources import Piece, read_piece
from pipelines.splits import crc32
from pipelines.tasks import write_partitions


@dataclass(frozen=True)
class Scan:
    """A task: clean a piece of the events and hand its rows on by bucket.

    Attributes:
        piece: Of the events.
        data: The configuration.
        as_of: Later events are of the future.
        item_ids: The catalogue's file; None where it is made of the events.
        buckets: How many.
        directory: For `events-*`, `ids-*` and `rejected-*` of the piece.
    """

    piece: Piece
    data: DataConfig
    as_of: datetime
    item_ids: Path | None
    buckets: int
    directory: Path


@dataclass(frozen=True)
class Scanned:
    """What became of a piece: rows kept, their first and last time, and rejected rows by reason."""

    kept: int
    first: int
    last: int
    rejected: dict[str, int]


def events_file(directory: Path, piece: int) -> Path:
    """The kept events of a piece, partitioned by bucket."""
    return directory / f"events-{piece:05d}.arrow"


def ids_file(directory: Path, side: str, piece: int) -> Path:
    """The distinct ids of a piece's kept events."""
    return directory / f"{side}-ids-{piece:05d}.parquet"


def rejected_file(directory: Path, piece: int) -> Path:
    """Rows of a piece that were rejected while it was scanned."""
    return directory / f"rejected-{piece:05d}.parquet"


def scan_events(task: Scan) -> Scanned:
    """Cleans a piece of the events."""
    items = load_ids(task.item_ids) if task.item_ids is not None else None
    raw = read_piece(task.piece, event_columns(task.data))
    events, rejections = clean_events(raw, task.data, task.as_of, items)
    number = pa.array(np.full(len(events), task.piece.index, np.int32))
    events = events.append_column("piece", number)
    queries = events["query"].combine_chunks().dictionary_encode()
    partition = (crc32(queries.dictionary) % task.buckets)[queries.indices.to_numpy()]
    directory, index = task.directory, task.piece.index
    write_partitions(events_file(directory, index), events, partition, task.buckets)
    pq.write_table(pa.table({"id": queries.dictionary}), ids_file(directory, "query", index))
    if items is None:
        ids = pc.unique(events["item"])
        pq.write_table(pa.table({"id": ids}), ids_file(directory, "item", index))
    rejected = rejections.counts()
    if rejected:
        pq.write_table(rejections.table(), rejected_file(directory, index))
    times = events["time"].to_numpy()
    first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    return Scanned(len(events), first, last, rejected)
