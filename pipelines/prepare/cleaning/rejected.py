"""Rejected rows, kept with the source's own columns and the reason; whether enough are left."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.files import write_parquet
from feature_store.forgotten import FORGOTTEN
from feature_store.schema import SIDES
from pipelines.executor.shuffle import read_partitions
from pipelines.logs.columns import take_rows
from pipelines.logs.left_out import LEFT_OUT
from pipelines.logs.rejected_files import RefusedLogError
from pipelines.logs.tables import Piece, read_piece
from pipelines.prepare.catalogue.ids import Catalogue
from pipelines.prepare.cleaning.cleaning import FUTURE
from pipelines.prepare.examples.examples import Examples
from pipelines.prepare.job import Job, Run, count_of
from pipelines.prepare.scan import Scans
from pipelines.prepared.examples import part_file


@dataclass(frozen=True)
class KeepRows:
    """A task: write the rejected rows of a piece.

    Attributes:
        piece: Piece of a table.
        rejected: Files with columns row and reason.
        buckets: Folder of more such files, `rejected-*`, which are partitioned by piece.
        pieces: Number of pieces of the table.
        path: File for the rows.
    """

    piece: Piece
    rejected: tuple[Path, ...]
    buckets: Path | None
    pieces: int
    path: Path


def keep_rejected(
    run: Run, catalogues: list[Catalogue], scans: Scans, examples: Examples
) -> dict[str, int]:
    """Writes all rejected rows with their reasons, and counts them.

    Returns:
        Number of rows by `<table>: <reason>`.
    """
    by_reason = scans.rejected + Counter({k: int(n.sum()) for k, n in examples.rejected.items()})
    counts = {f"events: {reason}": n for reason, n in by_reason.items()}
    tasks = _tasks_of_events(run, scans, examples)
    for catalogue in catalogues:
        if catalogue.source is None:
            continue
        table, pieces = catalogue.source.table, catalogue.source.pieces
        counts |= {f"{table}: {reason}": n for reason, n in catalogue.rejected.items()}
        for index, file in catalogue.rejected_rows.items():
            path = part_file(run.directory / "rejected" / table, index)
            tasks.append(KeepRows(pieces[index], (file,), None, len(pieces), path))
    if tasks:
        kept = sum(n for reason, n in counts.items() if not reason.endswith(f": {FORGOTTEN}"))
        run.job.progress.begin(f"putting {count_of(kept, 'rejected row')} aside")
    run.tasks("rejected", keep_rows, tasks)
    return dict(sorted(counts.items()))


def _tasks_of_events(run: Run, scans: Scans, examples: Examples) -> list[KeepRows]:
    """Returns a task for each piece that scanning or building examples rejected rows of."""
    late = np.sum(list(examples.rejected.values()), axis=0) if examples.rejected else None
    tasks: list[KeepRows] = []
    for index, (task, scanned) in enumerate(zip(scans.tasks, scans.scanned, strict=True)):
        # Events after a given time wait for their day, and are not written to wait here.
        waiting = {FUTURE} if run.job.split_end is not None else set()
        rejected = (task.rejected,) if scanned.rejected.keys() - {FORGOTTEN, *waiting} else ()
        buckets = run.folder("examples") if late is not None and late[index] else None
        if rejected or buckets:
            path = part_file(run.directory / "rejected" / "events", index)
            tasks.append(KeepRows(task.piece, rejected, buckets, len(scans.tasks), path))
    return tasks


def keep_rows(task: KeepRows) -> None:
    """Writes all columns of the rows and a last column, `reason`."""
    tables = [pq.read_table(file) for file in task.rejected]
    if task.buckets is not None:
        for file in sorted(task.buckets.glob("rejected-*")):
            batches = read_partitions(file, [task.piece.index], task.pieces)
            tables.append(pa.Table.from_batches(batches))
    rejected = pa.concat_tables(tables).sort_by("row")
    rows = take_rows(read_piece(task.piece), rejected["row"])
    name = "reason"
    while name in rows.column_names:  # The log's own column of that name stays what it is.
        name = f"_{name}"
    write_parquet(task.path, rows.append_column(name, rejected["reason"]))


def require_training(job: Job, examples: int, rejected: dict[str, int]) -> None:
    """Checks that there is a training example."""
    if examples:
        return
    sources = job.sources
    for side in SIDES:
        if rejected.get(f"events: invalid {side} id") == sources.events.rows:
            name = job.data.columns.id_of(side)
            raise UserError(
                f"events column {name!r} is {sources.events.schema.field(name).type}; expected "
                "string or integer, which no value is. Convert it, or set "
                f"data.columns.{side}_id to another column."
            )
    raise UserError(
        f"no training example is left of {sources.events.rows:,} events "
        f"(rejected rows: {by_reason(rejected)}); fix the log, or change data.columns, "
        "data.min_rating or data.split."
    )


def require_weights(job: Job, examples: int, weightless: int) -> None:
    """Checks that some example has a weight, and tells how many have none."""
    columns = job.data.columns
    if weightless == examples:
        raise UserError(
            f"all {examples:,} training examples have weight 0 in column {columns.weight!r}, so "
            "nothing can be learnt; fix the log, or change data.columns.weight."
        )
    if weightless:
        job.progress.note(
            f"{weightless:,} of {examples:,} training examples have weight 0: they are in "
            "histories and statistics, but nothing is learnt from them"
        )


def require_quality(job: Job, events: int, rejected: dict[str, int]) -> None:
    """Checks that the log is what `data.quality` asks for."""
    quality, read = job.data.quality, job.sources.events.rows
    if events < quality.min_events:
        raise RefusedLogError(
            f"{events:,} of {read:,} events are left, expected at least {quality.min_events:,}; "
            "fix the log, or lower data.quality.min_events.",
            [],
        )
    # After a given time, events wait for their day.
    waiting = (FUTURE,) if job.split_end is not None else ()
    left_out = {f"events: {reason}" for reason in (*LEFT_OUT, *waiting)}
    faulty = {
        reason: n
        for reason, n in rejected.items()
        if reason.startswith("events: ") and reason not in left_out
    }
    if sum(faulty.values()) > quality.max_rejected_fraction * read:
        raise RefusedLogError(
            f"{sum(faulty.values()) / read:.2%} of {read:,} events were rejected "
            f"({by_reason(faulty)}), expected at most {quality.max_rejected_fraction:.2%}; fix "
            "the log, or raise data.quality.max_rejected_fraction.",
            [],
        )


def by_reason(rejected: dict[str, int]) -> str:
    """Formats numbers of rows by reason, the largest first."""
    return ", ".join(f"{reason} {n:,}" for reason, n in Counter(rejected).most_common()) or "none"
