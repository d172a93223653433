"""The encoded features of items or queries, in the order of the catalogue's ids.

Ids, vocabularies and encoded features of a side are held in memory while they are put together;
the rows of its table are counted and encoded by tasks, a piece at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import (
    Bools,
    Column,
    Dense,
    Ints,
    Jagged,
    read_columns,
    write_columns,
)
from feature_store.core.files import write_array, write_parquet
from feature_store.encoding.encoder import SideEncoder, present_rows
from feature_store.encoding.fitting import partial_counts
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.kinds import AnyFeature, Feature, IdFeature
from feature_store.schema import FeatureSchema, Side
from pipelines.logs.tables import Piece, read_piece
from pipelines.prepare.catalogue.encoders import fit_encoder, load_encoder
from pipelines.prepare.catalogue.ids import (
    Catalogue,
    current_file,
    grow_ids,
    rows_file,
    without_forgotten,
)
from pipelines.prepare.catalogue.values import require_values, summarise_features
from pipelines.prepare.job import Run, count_of
from pipelines.prepare.uses import Uses
from pipelines.statistics.summaries import Summary, merge, summarise_column


@dataclass(frozen=True)
class CountFeatures:
    """A task: count what encoding learns from, in a piece of a side's table.

    Attributes:
        piece: Piece of the table.
        features: Features of the side.
        rows: NumPy file of the piece's kept rows.
        directory: Folder for the files of `counts_file`.
    """

    piece: Piece
    features: tuple[Feature, ...]
    rows: Path
    directory: Path


@dataclass(frozen=True)
class EncodeFeatures:
    """A task: encode the kept rows of a piece of a side's table.

    Attributes:
        piece: Piece of the table.
        side: Side of the table.
        schema: Features of both sides.
        rows: NumPy file of the piece's kept rows.
        vocabulary: Directory that `SideEncoder.save` wrote.
        path: File for the encoded columns.
    """

    piece: Piece
    side: Side
    schema: FeatureSchema
    rows: Path
    vocabulary: Path
    path: Path


def encode_catalogue(
    run: Run, catalogue: Catalogue, previous: SideEncoder | None, uses: Uses
) -> tuple[Vocabulary, Summary | None]:
    """Grows the vocabularies of a side, and encodes its features.

    Args:
        run: The run.
        catalogue: Items or queries of this run.
        previous: Encoder of the earlier run, whose tokens keep their rows.
        uses: Uses of values by events.

    Returns:
        The ids by index; and statistics of the columns of the side's table, if there is one.
    """
    side, source = catalogue.side, catalogue.source
    features = run.job.features.side(side)
    table = "items" if side == "item" else "queries"
    folder = run.folder(side)
    clear_unused = False
    if previous is not None:
        previous, clear_unused = without_forgotten(previous, side, run.job.forgotten)
    ids = grow_ids(catalogue.ids, previous.ids if previous is not None else None)
    run.job.progress.begin(f"encoding {len(ids):,} {table}, {count_of(len(features), 'feature')}")
    has_columns = any(not isinstance(feature, IdFeature) for feature in features)
    pieces = source.pieces if source is not None and has_columns else ()
    count_tasks = [
        CountFeatures(piece, features, rows_file(folder, piece.index), folder) for piece in pieces
    ]
    summaries = run.tasks(f"{side}-count", count_features, count_tasks)
    if summaries:
        require_values(table, features, merge(summaries))
    counted = partial(_counts, count_tasks)
    encoder = fit_encoder(
        run, side, features, ids, counted, previous, uses, clear_unused=clear_unused
    )
    encode_tasks = [
        EncodeFeatures(
            piece,
            side,
            run.job.features,
            rows_file(folder, piece.index),
            run.directory / "vocabulary",
            folder / f"encoded-{piece.index:05d}.arrow",
        )
        for piece in pieces
    ]
    run.tasks(f"{side}-encode", encode_features, encode_tasks)
    current = np.zeros(len(ids), bool)
    current[ids.rows(catalogue.ids)] = True
    write_array(current_file(folder), current)
    row_ids = catalogue.row_ids if pieces else catalogue.row_ids[:0]
    columns = _join_features(encoder, [task.path for task in encode_tasks], row_ids, current)
    write_columns(run.directory / table / "features.arrow", columns)
    return ids, _summary(run, catalogue, summaries)


def counts_file(directory: Path, feature: int, piece: int) -> Path:
    """Returns the file of a feature's `partial_counts` in a piece; both are given by number."""
    return directory / f"counts-{feature:03d}-{piece:05d}.parquet"


def count_features(task: CountFeatures) -> Summary:
    """Writes a file for each feature but the id, and returns statistics of the columns."""
    table = _kept_table(task.piece, task.features, task.rows)
    for index, feature in enumerate(task.features):
        if not isinstance(feature, IdFeature):
            counts = partial_counts(feature, table[feature.name])
            write_parquet(counts_file(task.directory, index, task.piece.index), counts)
    return summarise_features(table, task.features)


def encode_features(task: EncodeFeatures) -> None:
    """Writes the encoded features, one row for each kept row."""
    encoder = load_encoder(task.vocabulary, task.schema.model_dump_json(), task.side)
    table = _kept_table(task.piece, encoder.features, task.rows)
    write_columns(task.path, encoder.encode(table))


def _counts(tasks: list[CountFeatures], feature: int) -> Iterator[pa.Table]:
    """Yields what the finished tasks counted of a feature."""
    for task in tasks:
        yield pq.read_table(counts_file(task.directory, feature, task.piece.index))


def _join_features(
    encoder: SideEncoder, parts: list[Path], row_ids: pa.Array, current: Bools
) -> dict[str, Column]:
    """Brings encoded rows into the order of the catalogue.

    Args:
        encoder: Encoder of the side.
        parts: Files that `encode_features` wrote, in order; none where there is no table.
        row_ids: Ids of all parts' rows.
        current: [ids] whether an id is in this run's log; others are absent in every feature.

    Returns:
        Columns by feature name; ids without a row are absent in every feature but the id.
    """
    rows = np.full(len(encoder.ids), len(row_ids))  # The last row is empty.
    rows[encoder.ids.rows(row_ids)] = np.arange(len(row_ids))
    encoded = [*map(read_columns, parts), encoder.encode(_no_columns(1))]
    columns: dict[str, Column] = {}
    for feature in encoder.features:
        if isinstance(feature, IdFeature):
            own = encoder.rows_of_ids(encoder.ids.tokens)
            columns[feature.name] = present_rows(np.where(current, own, -1).astype(np.int32))
        else:
            columns[feature.name] = _concatenated([part[feature.name] for part in encoded], rows)
    return columns


def _summary(run: Run, catalogue: Catalogue, parts: list[Summary]) -> Summary | None:
    """Joins statistics of the pieces' columns, and adds those of the ids."""
    if catalogue.source is None:
        return None
    columns = {run.job.data.columns.key_of(catalogue.side): summarise_column(catalogue.row_ids)}
    if parts:
        columns |= merge(parts).columns
    return Summary(len(catalogue.row_ids), columns)


def _kept_table(piece: Piece, features: Sequence[AnyFeature], rows: Path) -> pa.Table:
    """Reads the features' raw values in the kept rows; the ids are in the catalogue already."""
    names = [feature.name for feature in features if not isinstance(feature, IdFeature)]
    return read_piece(piece, names).take(pa.array(np.load(rows)))


def _no_columns(rows: int) -> pa.Table:
    """Builds rows without a feature; a table without any column would have no rows."""
    return pa.table({"": pa.nulls(rows)})


def _concatenated(columns: Sequence[Column], rows: Ints) -> Column:
    """Takes rows of all columns together, which are of one feature."""
    jagged = [column for column in columns if isinstance(column, Jagged)]
    if jagged:
        return Jagged.concatenate(jagged).take(rows)
    return Dense.concatenate([c for c in columns if isinstance(c, Dense)]).take(rows)
