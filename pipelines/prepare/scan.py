"""The first pass over the events: clean each piece and hand its rows on by query.

A scan is kept as long as its piece is what it was, so that a log that grows is read once.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.arrow import id_strings
from feature_store.core.columns import Bools
from feature_store.core.files import write_parquet
from feature_store.core.hashing import crc32
from feature_store.core.manifests import fingerprint
from feature_store.core.times import microseconds
from feature_store.encoding.fitting import partial_counts
from feature_store.forgotten import Forgotten
from feature_store.kinds import ColumnFeature
from feature_store.schema import SIDES, Side, qualified
from pipelines.executor.shuffle import write_partitions
from pipelines.logs.tables import Piece, piece_identity, read_piece
from pipelines.prepare.cleaning import FORGOTTEN, FUTURE, clean_events, event_columns
from pipelines.settings import DataConfig, GivenSplit
from pipelines.statistics.summaries import Summary, summarise_events

# Of what a scan makes: raise it when the same piece and configuration give other content.
_VERSION = 3


@dataclass(frozen=True)
class Scan:
    """A task: clean a piece of the events and hand its rows on by bucket.

    Attributes:
        piece: Of the events.
        data: The configuration.
        context: Features of the events that are columns.
        as_of: Later events are of the future.
        forgotten: Ids whose events are dropped.
        buckets: How many.
        path: Of its files, without what their names end in.
    """

    piece: Piece
    data: DataConfig
    context: tuple[ColumnFeature, ...]
    as_of: datetime
    forgotten: Forgotten
    buckets: int
    path: Path

    @property
    def summary(self) -> Path:
        """Of a `Scanned`; written last."""
        return self.path.with_suffix(".json")

    @property
    def events(self) -> Path:
        """The kept events, partitioned by bucket."""
        return self.path.with_suffix(".events")

    def ids(self, side: Side) -> Path:
        """The distinct ids of all events but the forgotten ones."""
        return self.path.with_suffix(f".{side}.parquet")

    def counts(self, feature: int) -> Path:
        """Of a feature of the context, by its place; see `partial_counts`."""
        return self.path.with_suffix(f".context-{feature:03d}.parquet")

    @property
    def rejected(self) -> Path:
        """Rows that were rejected, and why."""
        return self.path.with_suffix(".rejected.parquet")


@dataclass(frozen=True)
class Scanned:
    """What became of a piece.

    Attributes:
        kept: Rows.
        first: Time of the first kept one, microseconds.
        last: Time of the last.
        rejected: Rows by reason.
        future: Time of the earliest one that was rejected because it is of the future.
        forgotten: Hashes of the ids whose events were dropped.
        checked: Fingerprint of the list of forgotten ids that the piece was compared with.
        content: Identifies what the scan wrote.
        summary: What the columns of the kept rows hold.
    """

    kept: int
    first: int
    last: int
    rejected: dict[str, int]
    future: int | None
    forgotten: list[str]
    checked: str
    content: str
    summary: Summary


def scan_key(
    piece: Piece, data: DataConfig, context: tuple[ColumnFeature, ...], buckets: int
) -> str:
    """Of a piece's scan: what it depends on, but for `as_of` and what is to be forgotten."""
    columns = data.columns.model_dump()
    split = data.split.column if isinstance(data.split, GivenSplit) else None
    of_training = {"dim", "min_count", "max_vocabulary"}
    features = [feature.model_dump(exclude=of_training) for feature in context]
    settings = [columns, data.min_rating, data.event_types, split, features]
    return fingerprint([_VERSION, piece_identity(piece), settings, buckets])


def scan_events(task: Scan) -> Scanned:
    """Cleans a piece of the events."""
    raw = read_piece(task.piece, event_columns(task.data, task.context))
    ids = {side: id_strings(raw[task.data.columns.id_of(side)]) for side in SIDES}
    forgotten, hashes = _forgotten(task.forgotten, ids)
    events, rejections, future = clean_events(
        raw, ids, task.data, task.as_of, forgotten, task.context
    )
    queries = events["query"].combine_chunks().dictionary_encode()
    partition = (crc32(queries.dictionary) % task.buckets)[queries.indices.to_numpy()]
    write_partitions(task.events, [(events, partition)], task.buckets)
    for side in SIDES:
        kept = pc.unique(events[side])
        # The others are only here to be found when they are to be forgotten.
        others = pc.unique(ids[side].filter(pa.array(~rejections.kept & ~forgotten)))
        others = others.drop_null().filter(pc.invert(pc.is_in(others.drop_null(), value_set=kept)))
        is_kept = np.arange(len(kept) + len(others)) < len(kept)
        found = pa.table({"id": pa.concat_arrays([kept, others]), "kept": is_kept})
        write_parquet(task.ids(side), found)
    for index, feature in enumerate(task.context):
        counts = partial_counts(feature, events[qualified("context", feature)])
        write_parquet(task.counts(index), counts)
    column = events.schema.get_field_index("query")
    encoded = events.set_column(column, "query", queries)
    summary = summarise_events(encoded, task.data, task.context)
    rejected = rejections.counts()
    if rejected.keys() - {FORGOTTEN}:
        write_parquet(task.rejected, rejections.table())
    times = events["time"].to_numpy()
    first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    return Scanned(
        kept=len(events),
        first=first,
        last=last,
        rejected=rejected,
        future=future,
        forgotten=hashes,
        checked=task.forgotten.fingerprint,
        # Of one piece, their number says which events are of the future.
        content=fingerprint([task.path.name, rejected.get(FUTURE, 0), hashes]),
        summary=summary,
    )


def kept_ids(task: Scan, side: Side) -> pa.Array:
    """The distinct ids of a piece's kept events."""
    return pq.read_table(task.ids(side), filters=pc.field("kept"))["id"].combine_chunks()


def checked_again(task: Scan, found: Scanned) -> Scanned | None:
    """The summary of an earlier scan of the same piece and configuration.

    None where it would come out differently today: other events are of the future, or are to be
    forgotten.
    """
    as_of = microseconds(task.as_of)
    if found.last > as_of or (found.future is not None and found.future <= as_of):
        return None
    if task.forgotten.fingerprint == found.checked:
        return found
    if not task.forgotten.query.union(task.forgotten.item).issuperset(found.forgotten):
        return None
    for side in SIDES:
        ids = pq.read_table(task.ids(side))["id"].combine_chunks()
        if task.forgotten.contains(side, ids).any():
            return None
    return replace(found, checked=task.forgotten.fingerprint)


def _forgotten(forgotten: Forgotten, ids: dict[Side, pa.Array]) -> tuple[Bools, list[str]]:
    """Which rows have an id that is to be forgotten, [rows], and the hashes of these ids."""
    dropped = np.zeros(len(ids["query"]), bool)
    hashes: set[str] = set()
    for side in SIDES:
        if not forgotten.of(side):
            continue
        encoded = ids[side].dictionary_encode()
        matches = forgotten.matches(side, encoded.dictionary)
        hashes.update(hashed for hashed in matches if hashed is not None)
        is_match = np.array([*(hashed is not None for hashed in matches), False])
        dropped |= is_match[pc.fill_null(encoded.indices, -1).to_numpy()]
    return dropped, sorted(hashes)
