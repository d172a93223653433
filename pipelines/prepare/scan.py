"""The first pass over the events: each piece is checked, and its rows cut by query.

The scan of a piece is kept as long as the piece is the same, so that a log that grows is read once.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from feature_store.core.columns import Bools
from feature_store.core.files import write_parquet, write_text
from feature_store.core.hashing import crc32
from feature_store.core.manifests import fingerprint
from feature_store.core.times import microseconds, moment_of
from feature_store.encoding.fitting import partial_counts
from feature_store.forgotten import FORGOTTEN, Forgotten
from feature_store.kinds import ColumnFeature
from feature_store.schema import SIDES, Side, qualified
from pipelines.executor.shuffle import write_partitions
from pipelines.logs.clock import Clock
from pipelines.logs.tables import Piece, piece_identity, read_piece
from pipelines.prepare.cleaning.cleaning import FUTURE, clean_events, event_columns
from pipelines.prepare.cleaning.clock import find_clock
from pipelines.prepare.cleaning.ids import ids_of, note_on_share, note_on_texts
from pipelines.prepare.job import Job, count_of
from pipelines.prepare.workspace import Workspace
from pipelines.settings import DataConfig, GivenSplit
from pipelines.statistics.summaries import Summary, merge, summarise_events

# Version of what a scan writes: raise it when the same piece and configuration give other content.
_VERSION = 6


@dataclass(frozen=True)
class Scan:
    """A task: check a piece of the events, and cut its rows by bucket.

    Attributes:
        piece: Piece of the events.
        data: The configuration.
        clock: Reading of the times.
        context: Features of the events that are columns.
        as_of: Time after which events are rejected as future ones.
        forgotten: Ids whose events are dropped.
        buckets: Number of buckets.
        path: Path of the scan's files, without their suffixes.
    """

    piece: Piece
    data: DataConfig
    clock: Clock
    context: tuple[ColumnFeature, ...]
    as_of: datetime
    forgotten: Forgotten
    buckets: int
    path: Path

    @property
    def summary(self) -> Path:
        """JSON file of the `Scanned`; written last."""
        return self.path.with_suffix(".json")

    @property
    def events(self) -> Path:
        """File of the kept events, partitioned by bucket."""
        return self.path.with_suffix(".events")

    def ids(self, side: Side) -> Path:
        """Returns the file of the distinct ids of all events but the forgotten ones."""
        return self.path.with_suffix(f".{side}.parquet")

    def counts(self, feature: int) -> Path:
        """Returns the file of the `partial_counts` of a context feature, given by its position."""
        return self.path.with_suffix(f".context-{feature:03d}.parquet")

    @property
    def rejected(self) -> Path:
        """File of the rejected rows and their reasons."""
        return self.path.with_suffix(".rejected.parquet")


@dataclass(frozen=True)
class Scanned:
    """The outcome of a scan.

    Attributes:
        kept: Number of kept rows.
        first: Time of the first kept event, microseconds.
        last: Time of the last kept event, microseconds.
        rejected: Number of rejected rows by reason.
        future: Time of the earliest event that was rejected as a future one.
        forgotten: Hashes of the ids whose events were dropped.
        checked: Fingerprint of the list of forgotten ids that the piece was compared with.
        content: Identity of what the scan wrote.
        texts: Number of rows by the text that stands for a missing id, by side; see `Ids`.
        summary: Statistics of the columns of the kept rows.
    """

    kept: int
    first: int
    last: int
    rejected: dict[str, int]
    future: int | None
    forgotten: list[str]
    checked: str
    content: str
    texts: dict[Side, dict[str, int]]
    summary: Summary


@dataclass(frozen=True)
class Scans:
    """The scans of all pieces of the events.

    Attributes:
        buckets: Number of buckets into which queries are divided.
        tasks: Scans in the order of the pieces.
        scanned: Outcomes, in the same order.
    """

    buckets: int
    tasks: tuple[Scan, ...]
    scanned: tuple[Scanned, ...]

    @cached_property
    def rejected(self) -> Counter[str]:
        """Number of rejected rows by reason."""
        counts: Counter[str] = Counter()
        for part in self.scanned:
            counts.update(part.rejected)
        return counts

    @cached_property
    def summary(self) -> Summary:
        """Statistics of the columns of all kept rows."""
        return merge([part.summary for part in self.scanned])

    def moments(self) -> tuple[datetime, datetime]:
        """Returns the times of the first and of the last event."""
        some = [part for part in self.scanned if part.kept]
        first = min((part.first for part in some), default=0)
        return moment_of(first), moment_of(max((part.last for part in some), default=0))

    def latest_until(self, moment: datetime, enough: datetime) -> datetime:
        """Returns the time of the latest event up to a moment, or of any that is after `enough`.

        Args:
            moment: Time, not before the first event.
            enough: Time after which any event will do, so that few files are read.
        """
        until, after, latest = microseconds(moment), microseconds(enough), None
        some = [pair for pair in zip(self.tasks, self.scanned, strict=True) if pair[1].kept]
        for task, part in sorted(some, key=lambda pair: pair[1].last > until):
            if part.first > until:
                continue
            found = part.last if part.last <= until else _latest_until(task, until)
            latest = found if latest is None else max(latest, found)
            if latest > after:
                break
        assert latest is not None
        return moment_of(latest)


def scan_events(job: Job, workspace: Workspace) -> Scans:
    """Scans the pieces of the events that no earlier run has scanned."""
    source, context = job.sources.events, job.features.context_columns
    clock = find_clock(job)
    buckets = workspace.buckets(max(2, -(-source.rows // job.rows_of_task)))
    tasks = [
        Scan(
            piece,
            job.data,
            clock,
            context,
            job.as_of,
            job.forgotten,
            buckets,
            workspace.scans / scan_key(piece, job.data, clock, context, buckets),
        )
        for piece in source.pieces
    ]
    earlier = [task for task in tasks if _is_scanned(task)]
    rows = source.rows - sum(task.piece.rows for task in earlier)
    if rows:
        job.executor.start(job.progress.begin)
        files = {task.piece.file for task in tasks} - {task.piece.file for task in earlier}
        text = f"reading {count_of(rows, 'event')} in {count_of(len(files), 'file')}"
        if earlier:
            text += f"; {count_of(source.rows - rows, 'event')} are read already"
        job.progress.begin(text)
    scanned = job.run_tasks(scan_piece, tasks, [task.summary for task in tasks])
    scans = Scans(buckets, tuple(tasks), tuple(scanned))
    for note in _notes(job.data, scans):
        job.progress.note(note)
    return scans


def _notes(data: DataConfig, scans: Scans) -> Iterator[str]:
    columns = scans.summary.columns
    for side in SIDES:
        yield from note_on_texts(f"events: {side} id", (part.texts[side] for part in scans.scanned))
    for side in SIDES:
        yield from note_on_share(side, columns[data.columns.id_of(side)])


def _latest_until(task: Scan, until: int) -> int:
    """Returns the time of a piece's latest event up to a moment, in microseconds."""
    with pa.memory_map(str(task.events)) as source:
        schema = pa.ipc.open_file(source).schema
        options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index("time")])
        times = pa.ipc.open_file(source, options=options).read_all()["time"].to_numpy()
    return int(times[times <= until].max())


def discard_other_scans(workspace: Workspace, scans: Scans) -> None:
    """Removes the scans of pieces that the log no longer has."""
    used = {task.path.name for task in scans.tasks}
    for path in workspace.scans.iterdir():
        if path.name.partition(".")[0] not in used:
            path.unlink()


def scan_key(
    piece: Piece,
    data: DataConfig,
    clock: Clock,
    context: tuple[ColumnFeature, ...],
    buckets: int,
) -> str:
    """Identifies what a scan depends on, but for `as_of` and the forgotten ids."""
    columns = data.columns.model_dump()
    split = data.split.column if isinstance(data.split, GivenSplit) else None
    of_training = {"dim", "min_count", "max_vocabulary", "max_idle_days"}
    features = [feature.model_dump(exclude=of_training) for feature in context]
    settings = [columns, asdict(clock), data.min_rating, data.event_types, split, features]
    return fingerprint([_VERSION, piece_identity(piece), settings, buckets])


def scan_piece(task: Scan) -> Scanned:
    """Checks a piece of the events, and writes the files of its scan."""
    raw = read_piece(task.piece, event_columns(task.data, task.context))
    read = {side: ids_of(raw[task.data.columns.id_of(side)]) for side in SIDES}
    ids = {side: read[side].strings for side in SIDES}
    forgotten, hashes = _forgotten(task.forgotten, ids)
    events, rejections, future = clean_events(
        raw, read, task.data, task.clock, task.as_of, forgotten, task.context
    )
    encoded = {side: events[side].combine_chunks().dictionary_encode() for side in SIDES}
    queries = encoded["query"]
    partition = (crc32(queries.dictionary) % task.buckets)[queries.indices.to_numpy()]
    write_partitions(task.events, [(events, partition)], task.buckets)
    # Ids of rejected rows are only listed to notice when they are to be forgotten.
    is_other = pa.array(~rejections.kept & ~forgotten)
    for side in SIDES:
        kept = encoded[side].dictionary
        others = pc.unique(ids[side].filter(is_other)).drop_null()
        if len(others):
            others = others.filter(pc.invert(pc.is_in(others, value_set=kept)))
        is_kept = np.arange(len(kept) + len(others)) < len(kept)
        table = pa.table({"id": pa.concat_arrays([kept, others]), "kept": is_kept})
        write_parquet(task.ids(side), table)
    for index, feature in enumerate(task.context):
        counts = partial_counts(feature, events[qualified("context", feature)])
        write_parquet(task.counts(index), counts)
    for side in SIDES:
        events = events.set_column(events.schema.get_field_index(side), side, encoded[side])
    summary = summarise_events(events, task.data, task.context)
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
        # Within one piece, the number of future events tells which ones they are.
        content=fingerprint([task.path.name, rejected.get(FUTURE, 0), hashes]),
        texts={side: read[side].texts for side in SIDES},
        summary=summary,
    )


def kept_ids(task: Scan, side: Side) -> pa.Array:
    """Returns the distinct ids of a piece's kept events."""
    return pq.read_table(task.ids(side), filters=pc.field("kept"))["id"].combine_chunks()


def _is_scanned(task: Scan) -> bool:
    """Returns whether an earlier scan is still valid; removes its summary if it is not."""
    if not task.summary.exists():
        return False
    adapter = TypeAdapter(Scanned)
    before = adapter.validate_json(task.summary.read_bytes())
    checked = _checked_again(task, before)
    if checked is None:
        task.summary.unlink()
        return False
    if checked != before:
        write_text(task.summary, adapter.dump_json(checked).decode())
    return True


def _checked_again(task: Scan, scanned: Scanned) -> Scanned | None:
    """Returns the outcome of an earlier scan of the same piece and configuration.

    None where a scan would come out differently today: other events are future ones, or are to be
    forgotten.
    """
    as_of = microseconds(task.as_of)
    if scanned.last > as_of or (scanned.future is not None and scanned.future <= as_of):
        return None
    if task.forgotten.fingerprint == scanned.checked:
        return scanned
    if not task.forgotten.query.union(task.forgotten.item).issuperset(scanned.forgotten):
        return None
    for side in SIDES:
        ids = pq.read_table(task.ids(side))["id"].combine_chunks()
        if task.forgotten.contains(side, ids).any():
            return None
    return replace(scanned, checked=task.forgotten.fingerprint)


def _forgotten(forgotten: Forgotten, ids: dict[Side, pa.Array]) -> tuple[Bools, list[str]]:
    """Returns which rows have an id that is to be forgotten, [rows], and these ids' hashes."""
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
