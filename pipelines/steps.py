"""The steps of `prepare`: each hands tasks to Ray and puts together what they return."""

from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.columns import Ints, Jagged, write_columns
from feature_store.encoding import SideEncoder
from feature_store.errors import UserError
from feature_store.schema import IdFeature, Side
from feature_store.storage import write_json, write_parquet
from feature_store.vocabulary import Vocabulary
from pipelines import catalogue, examples, rejected, scan
from pipelines import mutual_information as information
from pipelines.cleaning import DUPLICATE
from pipelines.job import Job
from pipelines.prepared import SPLITS, QueryState
from pipelines.ray_session import ensure_ray
from pipelines.sources import Source
from pipelines.tasks import run_tasks


@dataclass(frozen=True)
class Catalogue:
    """What is known of a side.

    Attributes:
        side: Which.
        source: Its table, if there is one.
        row_ids: The ids of the table's kept rows.
        ids: All distinct ids of this run.
        rejected: Rows of the table by reason.
        rejected_pieces: Pieces of the table that have rejected rows.
    """

    side: Side
    source: Source | None
    row_ids: pa.Array
    ids: pa.Array
    rejected: dict[str, int]
    rejected_pieces: tuple[int, ...]


@dataclass(frozen=True)
class Scan:
    """What the first pass over the events found.

    Attributes:
        buckets: Of queries.
        first: Time of the first one, microseconds.
        last: Time of the last one.
        rejected: Rows by reason.
        rejected_pieces: Pieces that have rejected rows.
    """

    buckets: int
    first: int
    last: int
    rejected: dict[str, int]
    rejected_pieces: tuple[int, ...]


@dataclass(frozen=True)
class Examples:
    """What the examples' buckets hold.

    Attributes:
        buckets: How many.
        counts: [splits, ranges] examples.
        duplicates: [pieces] rows dropped as such.
    """

    buckets: int
    counts: Ints
    duplicates: Ints


def start_ray(job: Job) -> None:
    """Starts Ray where it is not running yet, which takes seconds."""
    import ray

    if not ray.is_initialized():
        job.progress.begin("starting Ray")
        ensure_ray()


def read_catalogue(job: Job, side: Side) -> Catalogue:
    """Reads the ids of a side's table, and finds the rows to be kept.

    Raises:
        UserError: None of the rows has an id.
    """
    source = job.sources.side(side)
    if source is None:
        nothing = pa.array([], pa.string())
        return Catalogue(side, None, nothing, nothing, {}, ())
    job.progress.begin(f"reading {_count(source.rows, 'row')} of {source.table}")
    folder = job.folder(side)
    column = job.data.columns.item_id if side == "item" else job.data.columns.query_id
    tasks = [
        catalogue.ReadIds(piece, column, folder / f"ids-{piece.index:05d}.parquet")
        for piece in source.pieces
    ]
    run_tasks(catalogue.read_ids, tasks, job.progress.advance)
    parts = [_column(pq.read_table(task.path), "id") for task in tasks]
    found = catalogue.kept_rows(parts)
    counts: Counter[str] = Counter()
    for piece, rejections in zip(source.pieces, found, strict=True):
        np.save(catalogue.rows_file(folder, piece.index), np.flatnonzero(rejections.kept))
        counts.update(rejections.counts())
        if not rejections.kept.all():
            pq.write_table(rejections.table(), scan.rejected_file(folder, piece.index))
    row_ids = pa.concat_arrays(
        [part.filter(pa.array(r.kept)) for part, r in zip(parts, found, strict=True)]
    )
    if not len(row_ids):
        raise UserError(
            f"{source.table}: all {_count(source.rows, 'row')} have a null id in column "
            f"{column!r}; mend the table, or set data.columns.{side}_id."
        )
    pieces = tuple(p.index for p, r in zip(source.pieces, found, strict=True) if not r.kept.all())
    return Catalogue(side, source, row_ids, row_ids, dict(counts), pieces)


def scan_events(job: Job, items: Catalogue) -> Scan:
    """Cleans the events and hands them on by query."""
    source = job.sources.events
    files = _count(len(source.files), "file")
    job.progress.begin(f"reading {_count(source.rows, 'event')} in {files}")
    folder = job.folder("events")
    known = None
    if items.source is not None:
        known = folder / "known_items.parquet"
        catalogue.grow_ids(items.row_ids, None).save(known)
    buckets = max(2, -(-source.rows // job.rows_of_task))
    tasks = [
        scan.Scan(piece, job.data, job.as_of, known, buckets, folder) for piece in source.pieces
    ]
    scanned = run_tasks(scan.scan_events, tasks, job.progress.advance)
    some = [part for part in scanned if part.kept]
    counts: Counter[str] = Counter()
    for part in scanned:
        counts.update(part.rejected)
    return Scan(
        buckets=buckets,
        first=min((part.first for part in some), default=0),
        last=max((part.last for part in some), default=0),
        rejected=dict(counts),
        rejected_pieces=tuple(i for i, part in enumerate(scanned) if part.rejected),
    )


def complete_catalogue(job: Job, found: Catalogue) -> Catalogue:
    """Adds ids that only the events have: of all queries, and of items without a table."""
    if found.side == "item" and found.source is not None:
        return found
    folder = job.folder("events")
    parts = [
        _column(pq.read_table(scan.ids_file(folder, found.side, piece.index)), "id")
        for piece in job.sources.events.pieces
    ]
    ids = pc.unique(pa.concat_arrays([found.row_ids, *parts]))
    return replace(found, ids=ids)


def encode_catalogue(job: Job, found: Catalogue, previous: SideEncoder | None) -> Vocabulary:
    """Grows the vocabularies of a side, and encodes its features.

    Returns:
        The ids, their place being the index.
    """
    side, source = found.side, found.source
    features = job.features.side(side)
    table = "items" if side == "item" else "queries"
    folder = job.folder(side)
    ids = catalogue.grow_ids(found.ids, previous.ids if previous is not None else None)
    job.progress.begin(f"encoding {len(ids):,} {table}, {_count(len(features), 'feature')}")
    has_columns = any(not isinstance(feature, IdFeature) for feature in features)
    pieces = source.pieces if source is not None and has_columns else ()
    count_tasks = [
        catalogue.CountFeatures(piece, features, catalogue.rows_file(folder, piece.index), folder)
        for piece in pieces
    ]
    moments = run_tasks(catalogue.count_features, count_tasks, job.progress.advance)
    encoder = catalogue.build_encoder(side, features, ids, count_tasks, moments, previous)
    encoder.save(job.directory / "vocabulary")
    encode_tasks = [
        catalogue.EncodeFeatures(
            piece,
            side,
            job.features,
            catalogue.rows_file(folder, piece.index),
            job.directory / "vocabulary",
            folder / f"encoded-{piece.index:05d}.arrow",
        )
        for piece in pieces
    ]
    run_tasks(catalogue.encode_features, encode_tasks, job.progress.advance)
    current = np.zeros(len(ids), bool)
    current[ids.rows(found.ids)] = True
    np.save(folder / "current.npy", current)
    row_ids = found.row_ids if pieces else found.row_ids[:0]
    columns = catalogue.join_features(
        encoder, [task.path for task in encode_tasks], row_ids, current
    )
    write_columns(job.directory / table / "features.arrow", columns)
    return ids


def build_examples(job: Job, scanned: Scan) -> Examples:
    """Splits the events, attaches history, and hands the examples on by the shuffle's hash."""
    job.progress.begin(f"building examples in {_count(scanned.buckets, 'part')}")
    pieces = job.sources.events.pieces
    ranges = max(1, -(-job.sources.events.rows // job.rows_of_task))
    tasks = [
        examples.Bucket(
            index=index,
            scans=job.folder("events"),
            data=job.data,
            vocabulary=job.directory / "vocabulary",
            ranges=ranges,
            pieces=len(pieces),
            directory=job.folder("examples"),
        )
        for index in range(scanned.buckets)
    ]
    built = run_tasks(examples.build_bucket, tasks, job.progress.advance)
    return Examples(
        buckets=scanned.buckets,
        counts=np.sum([part.examples for part in built], axis=0),
        duplicates=np.sum([part.duplicates for part in built], axis=0),
    )


def keep_rejected(
    job: Job, sides: list[Catalogue], scanned: Scan, built: Examples
) -> dict[str, int]:
    """Writes all rejected rows with their reasons, and counts them."""
    counts = {f"events: {reason}": n for reason, n in scanned.rejected.items()}
    if built.duplicates.any():
        counts[f"events: {DUPLICATE}"] = int(built.duplicates.sum())
    tasks: list[rejected.Keep] = []
    for piece in job.sources.events.pieces:
        has_duplicates = built.duplicates[piece.index] > 0
        is_found = piece.index in scanned.rejected_pieces
        if is_found or has_duplicates:
            file = scan.rejected_file(job.folder("events"), piece.index)
            tasks.append(
                rejected.Keep(
                    piece,
                    (file,) if is_found else (),
                    job.folder("examples") if has_duplicates else None,
                    _part(job.directory / "rejected" / "events", piece.index),
                )
            )
    for side in sides:
        if side.source is None:
            continue
        table = side.source.table
        counts |= {f"{table}: {reason}": n for reason, n in side.rejected.items()}
        for index in side.rejected_pieces:
            file = scan.rejected_file(job.folder(side.side), index)
            path = _part(job.directory / "rejected" / table, index)
            tasks.append(rejected.Keep(side.source.pieces[index], (file,), None, path))
    if tasks:
        job.progress.begin(f"putting {_count(sum(counts.values()), 'rejected row')} aside")
    run_tasks(rejected.keep_rejected, tasks, job.progress.advance)
    return dict(sorted(counts.items()))


def merge_examples(job: Job, built: Examples) -> None:
    """Writes the parts of each split, in the order of the shuffle's hash."""
    job.progress.begin(f"shuffling {_count(int(built.counts.sum()), 'example')}")
    folder, ranges = job.folder("examples"), built.counts.shape[1]
    tasks: list[examples.Merge] = []
    for index, split in enumerate(SPLITS):
        (job.directory / split).mkdir()
        part_of = np.cumsum(built.counts[index]) // (job.rows_of_task + 1)
        for part in np.unique(part_of):
            partitions = index * ranges + np.flatnonzero(part_of == part)
            path = _part(job.directory / split, int(part))
            tasks.append(examples.Merge(folder, built.buckets, tuple(partitions.tolist()), path))
    run_tasks(examples.merge_examples, tasks, job.progress.advance)


def write_query_state(job: Job, queries: int) -> None:
    """Joins what the buckets know of their queries, one column at a time."""
    files = sorted(job.folder("examples").glob("state-*"))
    parts = [examples.read_state(file) for file in files]
    index = np.concatenate([part["query"].values for part in parts])
    rows = np.full(queries, len(index))  # The last row is empty.
    rows[index] = np.arange(len(index))
    empty = Jagged(np.zeros(0, np.int32), np.zeros(2, np.int64))
    columns = {}
    for field in fields(QueryState):
        whole = Jagged.concatenate([*(part[field.name] for part in parts), empty])
        columns[field.name] = whole.take(rows)
    QueryState(**columns).save(job.directory / "queries" / "state.arrow")


def write_item_frequency(job: Job, ids: Vocabulary) -> int:
    """Adds up the buckets' events of each item, and returns how many items training has."""
    frequency = np.zeros(len(ids) * len(SPLITS), np.int64)
    for file in sorted(job.folder("examples").glob("frequency-*")):
        keys, counts = np.load(file)
        frequency[keys] += counts
    by_split = frequency.reshape(len(ids), len(SPLITS))
    columns = {split: by_split[:, index] for index, split in enumerate(SPLITS)}
    write_parquet(
        job.directory / "statistics" / "item_frequency.parquet",
        pa.table({"item_id": ids.tokens, **columns}),
    )
    return int((by_split[:, 0] > 0).sum())


def write_mutual_information(job: Job) -> None:
    """Between the item features, over the items of this run."""
    names = tuple(feature.name for feature in job.features.item)
    job.progress.begin(f"mutual information of {_count(len(names), 'item feature')}")
    tasks = information.pair_tasks(
        job.directory / "items" / "features.arrow", job.folder("item") / "current.npy", names
    )
    entropies = run_tasks(information.joint_entropies, tasks, job.progress.advance)
    found = information.mutual_information(names, entropies)
    path = job.directory / "statistics" / "mutual_information.json"
    write_json(path, found.model_dump(mode="json"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _part(directory: Path, index: int) -> Path:
    return directory / f"part-{index:05d}.parquet"


def _column(table: pa.Table, name: str) -> pa.Array:
    """One array, also of a table without rows."""
    return pa.concat_arrays([pa.array([], table.schema.field(name).type), *table[name].chunks])
