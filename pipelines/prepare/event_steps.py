"""The steps of `prepare` that make examples of events."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from feature_store.core.columns import Ints
from feature_store.core.files import write_text
from feature_store.core.hashing import crc32
from feature_store.core.times import moment_of
from feature_store.encoding.vocabulary import Vocabulary
from pipelines.executor.shuffle import write_partitions
from pipelines.prepare import examples, rejected, scan, sequences
from pipelines.prepare.bucket import Inventory
from pipelines.prepare.catalogue_ids import Catalogue
from pipelines.prepare.cleaning import FORGOTTEN
from pipelines.prepare.job import Job, Run, count_of
from pipelines.prepare.workspace import Workspace
from pipelines.prepared.reader import SEQUENCES, SPLITS
from pipelines.statistics.summaries import Summary, merge


@dataclass(frozen=True)
class Scans:
    """All pieces of the events, scanned.

    Attributes:
        buckets: Of queries.
        tasks: In the order of the pieces.
        scanned: What became of each.
    """

    buckets: int
    tasks: tuple[scan.Scan, ...]
    scanned: tuple[scan.Scanned, ...]

    @cached_property
    def rejected(self) -> Counter[str]:
        """Rows by reason."""
        counts: Counter[str] = Counter()
        for part in self.scanned:
            counts.update(part.rejected)
        return counts

    def summary(self) -> Summary:
        """What the columns of the kept rows hold."""
        return merge([part.summary for part in self.scanned])

    def moments(self) -> tuple[datetime, datetime]:
        """Of the first and the last event."""
        some = [part for part in self.scanned if part.kept]
        first = min((part.first for part in some), default=0)
        return moment_of(first), moment_of(max((part.last for part in some), default=0))


@dataclass(frozen=True)
class Examples:
    """What the examples' buckets hold.

    Attributes:
        buckets: How many.
        counts: [splits, ranges] examples.
        sequences: [ranges] of the training's examples; all 0 where there are none.
        rejected: By reason, rows of each piece, [pieces].
    """

    buckets: int
    counts: Ints
    sequences: Ints
    rejected: dict[str, Ints]


def scan_events(job: Job, workspace: Workspace) -> Scans:
    """Cleans the events and hands them on by query; pieces that are as they were are left alone."""
    source, context = job.sources.events, job.features.context_columns
    buckets = workspace.buckets(max(2, -(-source.rows // job.rows_of_task)))
    tasks = [
        scan.Scan(
            piece,
            job.data,
            context,
            job.as_of,
            job.forgotten,
            buckets,
            workspace.scans / scan.scan_key(piece, job.data, context, buckets),
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
    summaries = [task.summary for task in tasks]
    scanned = job.run_tasks(scan.scan_events, tasks, summaries)
    return Scans(buckets, tuple(tasks), tuple(scanned))


def discard_other_scans(workspace: Workspace, scans: Scans) -> None:
    """Removes what is known of pieces that the log no longer has."""
    used = {task.path.name for task in scans.tasks}
    for path in workspace.scans.iterdir():
        if path.name.partition(".")[0] not in used:
            path.unlink()


def _is_scanned(task: scan.Scan) -> bool:
    """Whether there is a scan that still holds; any other is removed."""
    if not task.summary.exists():
        return False
    adapter = TypeAdapter(scan.Scanned)
    before = adapter.validate_json(task.summary.read_bytes())
    found = scan.checked_again(task, before)
    if found is None:
        task.summary.unlink()
        return False
    if found != before:
        write_text(task.summary, adapter.dump_json(found).decode())
    return True


def build_examples(run: Run, scans: Scans, items: Vocabulary, queries: Vocabulary) -> Examples:
    """Splits the events, attaches history, and hands the examples on by the shuffle's hash."""
    run.job.progress.begin(f"building examples in {count_of(scans.buckets, 'part')}")
    folder = run.folder("examples")
    indices = pa.table({"id": queries.tokens, "index": pa.array(np.arange(len(queries)))})
    indices = indices.filter(pa.array(queries.tokens.is_valid()))
    inventory = Inventory(
        scans=tuple(task.events for task in scans.tasks),
        buckets=scans.buckets,
        items=run.directory / "vocabulary" / "item_id.parquet",
        known=run.folder("item") / "current.npy",
        queries=folder / "queries.arrow",
        vocabulary=run.directory / "vocabulary",
    )
    bucket_of = crc32(indices["id"].combine_chunks()) % scans.buckets
    write_partitions(inventory.queries, [(indices, bucket_of)], scans.buckets)
    path = folder / "inventory.json"
    write_text(path, TypeAdapter(Inventory).dump_json(inventory).decode())
    rows, pieces = run.job.rows_of_task, len(scans.tasks)
    ranges = max(1, -(-run.job.sources.events.rows // rows))
    tasks = [
        examples.Bucket(index, path, run.job.data, run.job.features, ranges, rows, folder)
        for index in range(scans.buckets)
    ]
    built = run.tasks("build", examples.build_bucket, tasks)
    counts = np.sum([part.examples for part in built], axis=0)
    put_aside: dict[str, Ints] = {}
    for part in built:
        for reason, by_piece in part.rejected.items():
            total = put_aside.setdefault(reason, np.zeros(pieces, np.int64))
            total[list(by_piece)] += list(by_piece.values())
    in_sequences = np.zeros(ranges, np.int64)
    for part in built:
        in_sequences[: len(part.sequences)] += np.asarray(part.sequences, np.int64)
    counts = counts.reshape(len(SPLITS), ranges)
    return Examples(scans.buckets, counts, in_sequences, put_aside)


def keep_rejected(
    run: Run, sides: list[Catalogue], scans: Scans, built: Examples
) -> dict[str, int]:
    """Writes all rejected rows with their reasons, and counts them."""
    by_reason = scans.rejected + Counter({k: int(n.sum()) for k, n in built.rejected.items()})
    counts = {f"events: {reason}": n for reason, n in by_reason.items()}
    late = np.sum(list(built.rejected.values()), axis=0) if built.rejected else None
    tasks: list[rejected.Keep] = []
    for index, (task, scanned) in enumerate(zip(scans.tasks, scans.scanned, strict=True)):
        found = (task.rejected,) if scanned.rejected.keys() - {FORGOTTEN} else ()
        buckets = run.folder("examples") if late is not None and late[index] else None
        if found or buckets:
            path = _part(run.directory / "rejected" / "events", index)
            tasks.append(rejected.Keep(task.piece, found, buckets, len(scans.tasks), path))
    for side in sides:
        if side.source is None:
            continue
        table, pieces = side.source.table, side.source.pieces
        counts |= {f"{table}: {reason}": n for reason, n in side.rejected.items()}
        for index, file in side.rejected_rows.items():
            path = _part(run.directory / "rejected" / table, index)
            tasks.append(rejected.Keep(pieces[index], (file,), None, len(pieces), path))
    if tasks:
        kept = sum(n for reason, n in counts.items() if not reason.endswith(f": {FORGOTTEN}"))
        run.job.progress.begin(f"putting {count_of(kept, 'rejected row')} aside")
    run.tasks("rejected", rejected.keep_rejected, tasks)
    return dict(sorted(counts.items()))


def merge_examples(run: Run, built: Examples) -> None:
    """Writes the parts of each split, in the order of the shuffle's hash."""
    run.job.progress.begin(f"shuffling {count_of(int(built.counts.sum()), 'example')}")
    folder, ranges = run.folder("examples"), built.counts.shape[1]
    tasks: list[examples.Merge] = []
    for index, split in enumerate(SPLITS):
        (run.directory / split).mkdir(exist_ok=True)
        part_of = np.cumsum(built.counts[index]) // (run.job.rows_of_task + 1)
        for part in np.unique(part_of):
            chosen = index * ranges + np.flatnonzero(part_of == part)
            path = _part(run.directory / split, int(part))
            tasks.append(
                examples.Merge(
                    directory=folder,
                    features=run.job.features,
                    buckets=built.buckets,
                    partitions=tuple(chosen.tolist()),
                    count=built.counts.size,
                    path=path,
                )
            )
    run.tasks("merge", examples.merge_examples, tasks)


def merge_sequences(run: Run, built: Examples) -> None:
    """Writes the parts of the training examples in sequences, where they can be."""
    total = int(built.sequences.sum())
    if not total:
        return
    run.job.progress.begin(f"shuffling {count_of(total, 'sequence')}")
    (run.directory / SEQUENCES).mkdir(exist_ok=True)
    part_of = np.cumsum(built.sequences) // (run.job.rows_of_task + 1)
    tasks = [
        sequences.MergeSequences(
            directory=run.folder("examples"),
            buckets=built.buckets,
            ranges=tuple(np.flatnonzero(part_of == part).tolist()),
            count=len(built.sequences),
            path=_part(run.directory / SEQUENCES, int(part)),
        )
        for part in np.unique(part_of)
    ]
    run.tasks("sequences", sequences.merge_sequences, tasks)


def _part(directory: Path, index: int) -> Path:
    return directory / f"part-{index:05d}.parquet"
