"""Recommendations for many queries at once, as Parquet.

manifest.json            written last
part-*.parquet           answers of `Recommender.recommend_batch`, in the order of the queries
"""

import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    require_replaceable,
    write_parquet,
)
from feature_store.core.locks import reading
from feature_store.core.manifests import write_manifest, written_as
from feature_store.core.settings import Frozen
from pipelines.logs.needs import is_id_type
from pipelines.logs.tables import open_source, read_piece
from serving.batch.parts import Counts, run_parts
from serving.bundle.ids import IdTable
from serving.bundle.manifest import IDS, verify
from serving.recommend.display import snapshot_note
from serving.recommend.options import RecommendOptions
from serving.recommend.recommender import MAX_K
from serving.recommend.store import Store, load_for_command

# Queries of a part: seconds of work for an actor.
BATCH_SIZE = 10_000

_QUERY_ID = "query_id"
_QUERIES = "queries.parquet"
# Lines of progress.
_LINES = 10


class BulkManifest(Frozen):
    """The record of a run.

    Attributes:
        fingerprint: Fingerprint of the bundle: the version of the model.
        schema_fingerprint: Fingerprint of its features.
        k: Most items of a query.
        at: Time of the requests, ISO 8601.
        online: Whether an online store gave histories and features.
        histories_to: Time of the last event that the bundle's histories may hold, ISO 8601; None:
            its log has no times.
        queries: Number of queries.
        fallbacks: Number of queries that popularity answered.
        recommendations: Rows in all parts.
        parts: Number of files.
        seconds: Duration of the run.
        tail: Place between the ranking as evaluated, 0, and the one with the most rare items, 1.
    """

    fingerprint: str
    schema_fingerprint: str
    k: int
    at: str
    online: bool
    histories_to: str | None
    queries: int
    fallbacks: int
    recommendations: int
    parts: int
    seconds: float
    tail: float = 0.0


def recommend_all(
    bundle: Path,
    output: Path,
    *,
    k: int = 10,
    queries: Sequence[str] | Path | None = None,
    at: datetime | None = None,
    tail: float = 0.0,
    online: Store | None = None,
    batch_size: int = BATCH_SIZE,
    concurrency: int | None = None,
    console: Console | None = None,
) -> BulkManifest:
    """Writes the k best items of every query, by actors of Ray Data.

    The files do not depend on how many actors there are. All are written, or none.

    Args:
        bundle: Directory of the bundle; the actors' machines must see it and the output.
        output: Directory to write; one that an earlier call wrote is replaced.
        k: Number of items, 1 to `MAX_K`.
        queries: Ids, or Parquet with a column query_id: a file, directory or glob; None: all of
            the bundle.
        at: Time of the requests; None: now. No time zone means UTC.
        tail: Place between the ranking as evaluated, 0, and the one with the most rare items, 1.
        online: Online store with histories and features since the export, which the actors'
            machines must reach; None: there is none.
        batch_size: Queries of a file.
        concurrency: Number of actors; None: one for each CPU of the cluster.
        console: Console of progress.

    Raises:
        UserError: It is not a bundle, k is out of range, the queries cannot be read, the online
            store does not answer, or the output holds something else.
    """
    started = time.monotonic()
    console = console or Console()
    at = at or datetime.now(UTC)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    if not 1 <= k <= MAX_K:
        raise UserError(f"k is {k}, expected 1 to {MAX_K}; ask for fewer items.")
    with reading(bundle):
        exported = verify(bundle)
        is_own, asked = written_as(BulkManifest), [queries] if isinstance(queries, Path) else []
        require_replaceable(output, is_own, [bundle, *asked])
        if online is None:
            note = snapshot_note(exported)
            console.print(f"recommend: {note}", highlight=False, soft_wrap=True)
        with directory_written_atomically(output, is_own) as directory:
            blocks = _query_ids(bundle, queries, batch_size)
            total, parts = _write_queries(directory / _QUERIES, blocks)
            totals = {"queries": 0, "fallbacks": 0, "recommendations": 0}
            arguments = (bundle.resolve(), directory.resolve(), k, at, tail, online)
            every = math.ceil(parts / _LINES)
            for number, counts in enumerate(run_parts(_Answerer, arguments, parts, concurrency), 1):
                totals = {name: totals[name] + counts[name] for name in totals}
                if number % every == 0 and number < parts:
                    console.print(f"recommend: {totals['queries']:,} of {total:,} queries")
            (directory / _QUERIES).unlink()
            manifest = BulkManifest(
                fingerprint=exported.fingerprint,
                schema_fingerprint=exported.schema_fingerprint,
                k=k,
                at=at.isoformat(),
                tail=tail,
                online=online is not None,
                histories_to=exported.data_window.histories_to,
                parts=parts,
                seconds=round(time.monotonic() - started, 1),
                **totals,
            )
            write_manifest(directory, manifest)
    console.print(
        f"recommend: {manifest.recommendations:,} items for {total:,} queries, "
        f"{manifest.fallbacks:,} of them by popularity, to {output} ({manifest.seconds:.0f} s)"
    )
    return manifest


def _query_ids(
    bundle: Path, queries: Sequence[str] | Path | None, batch_size: int
) -> Iterator[pa.Array]:
    """Yields ids in blocks of at most the batch size."""
    if isinstance(queries, Path):
        tables = _read_ids(queries)
    elif queries is not None:
        tables = iter([pa.array(queries, pa.string())])
    else:  # The id of a forgotten query is null.
        tables = iter([IdTable.read(bundle / IDS, "query").ids])
    for ids in tables:
        for start in range(0, len(ids), batch_size):
            yield ids.slice(start, batch_size).drop_null()


def _read_ids(path: Path) -> Iterator[pa.Array]:
    source = open_source(str(path), "queries")
    names = source.schema.names
    if _QUERY_ID not in names:
        raise UserError(
            f"{path} has no column {_QUERY_ID!r}; it has: {', '.join(names)}; rename the one with "
            "the ids."
        )
    kind = source.schema.field(_QUERY_ID).type
    if not is_id_type(kind):
        raise UserError(
            f"{_QUERY_ID!r} of {path} is {kind}, expected string or integer; convert it."
        )
    for piece in source.pieces:
        ids = id_strings(read_piece(piece, [_QUERY_ID])[_QUERY_ID])
        if ids.null_count:
            raise UserError(
                f"{ids.null_count} ids of {path} are null or invalid; leave these rows out."
            )
        yield ids


def _write_queries(path: Path, blocks: Iterator[pa.Array]) -> tuple[int, int]:
    """Writes a row group for each part, and returns the numbers of queries and parts."""
    schema = pa.schema({_QUERY_ID: pa.string()})
    total = parts = 0
    with pq.ParquetWriter(path, schema) as writer:
        for ids in blocks:
            if len(ids):
                writer.write_table(pa.table([ids], schema), row_group_size=len(ids))
                total, parts = total + len(ids), parts + 1
    return total, parts


class _Answerer:
    """Writer of the answers of a part.

    Args:
        bundle: Directory of the bundle.
        directory: Directory of the queries and the answers.
        k: Number of items.
        at: Time of the requests.
        tail: Place between the ranking as evaluated, 0, and the one with the most rare items, 1.
        online: Online store, if there is one.
    """

    def __init__(
        self,
        bundle: Path,
        directory: Path,
        k: int,
        at: datetime,
        tail: float,
        online: Store | None,
    ) -> None:
        self._recommender = load_for_command(bundle, online)
        self._queries = pq.ParquetFile(directory / _QUERIES)
        self._directory = directory
        self._k = k
        self._options = RecommendOptions(at=at, tail=tail)

    def __call__(self, part: int) -> Counts:
        """Counts queries and recommendations."""
        ids = self._queries.read_row_group(part)[_QUERY_ID].to_pylist()
        table = self._recommender.recommend_batch(ids, self._k, self._options)
        write_parquet(self._directory / f"part-{part:05d}.parquet", table)
        firsts = table.filter(pc.equal(table["rank"], 1))
        return {
            "queries": len(ids),
            "fallbacks": pc.sum(firsts["fallback"]).as_py() or 0,
            "recommendations": table.num_rows,
        }
