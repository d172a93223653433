"""The catalogue of items or queries: which ids there are, and their encoded features.

Ids, vocabularies and encoded features of a side are held in memory while they are put together;
the rows of its table are read and encoded by tasks, a piece at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.columns import Column, Dense, Floats, Ints, Jagged, read_columns, write_columns
from feature_store.encoding import (
    Scaling,
    SideEncoder,
    dense_moments,
    id_strings,
    tokens_of,
)
from feature_store.schema import (
    Feature,
    FeatureSchema,
    IdFeature,
    NumericFeature,
    Side,
    TokenFeature,
    VectorFeature,
)
from feature_store.vocabulary import Vocabulary, count_tokens, grow_vocabulary, merge_counts
from pipelines.cleaning import NULL_ID, REPEATED_ID, Rejections
from pipelines.sources import Piece, read_piece

Bools = npt.NDArray[np.bool_]


@lru_cache(maxsize=8)
def load_ids(path: Path) -> Vocabulary:
    """The ids of a catalogue; a worker process keeps them between tasks."""
    return Vocabulary.load(path)


@dataclass(frozen=True)
class ReadIds:
    """A task: write the ids of a piece of a side's table to `path`."""

    piece: Piece
    column: str
    path: Path


def read_ids(task: ReadIds) -> None:
    """Writes one string column, null where the table has null."""
    ids = id_strings(read_piece(task.piece, [task.column])[task.column])
    pq.write_table(pa.table({"id": ids}), task.path)


def rows_file(directory: Path, piece: int) -> Path:
    """Of NumPy: the rows of a piece that are kept."""
    return directory / f"rows-{piece:05d}.npy"


def kept_rows(parts: list[pa.Array]) -> list[Rejections]:
    """By piece, in order, the rejected rows: null ids, and all but the first row of an id."""
    ids = pa.concat_arrays(parts)
    codes = pc.fill_null(ids.dictionary_encode().indices, -1).to_numpy()
    is_first = np.zeros(len(ids), bool)
    is_first[np.unique(codes, return_index=True)[1]] = True
    found: list[Rejections] = []
    start = 0
    for part in parts:
        rejections = Rejections(len(part))
        rejections.reject(part.is_null(), NULL_ID)
        rejections.reject(~is_first[start : start + len(part)], REPEATED_ID)
        found.append(rejections)
        start += len(part)
    return found


def grow_ids(ids: pa.Array, previous: Vocabulary | None) -> Vocabulary:
    """The catalogue's ids, each counted once; those of an earlier run keep their place.

    Args:
        ids: Distinct ids of this run.
        previous: Of the earlier run; ids that are gone stay, with count 0.
    """
    counts = pa.table({"token": ids, "count": pa.array(np.ones(len(ids), np.int64))})
    return grow_vocabulary(counts, first_row=0, previous=previous)


@dataclass(frozen=True)
class CountFeatures:
    """A task: count tokens and moments of a piece of a side's table.

    Attributes:
        piece: Of the table.
        features: Of the side.
        rows: Of the piece, those that are kept; a file of NumPy.
        directory: For a file of token counts for each feature.
    """

    piece: Piece
    features: tuple[Feature, ...]
    rows: Path
    directory: Path


def counts_file(directory: Path, feature: int, piece: int) -> Path:
    """Token counts of the side's feature number `feature`, in a piece."""
    return directory / f"counts-{feature:03d}-{piece:05d}.parquet"


def count_features(task: CountFeatures) -> dict[str, Floats]:
    """Writes token counts, and returns the moments of dense features by name."""
    table = _kept_table(task.piece, task.features, task.rows)
    moments: dict[str, Floats] = {}
    for index, feature in enumerate(task.features):
        if isinstance(feature, NumericFeature | VectorFeature):
            moments[feature.name] = dense_moments(feature, table[feature.name])
        elif isinstance(feature, TokenFeature) and feature.hash_buckets is None:
            counts = count_tokens(tokens_of(feature, table[feature.name])[0])
            pq.write_table(counts, counts_file(task.directory, index, task.piece.index))
    return moments


def build_encoder(
    side: Side,
    features: tuple[Feature, ...],
    ids: Vocabulary,
    counted: list[CountFeatures],
    moments: list[dict[str, Floats]],
    previous: SideEncoder | None,
) -> SideEncoder:
    """Grows the vocabularies and scalings of a side from what `count_features` found."""
    vocabularies: dict[str, Vocabulary] = {}
    scalings: dict[str, Scaling] = {}
    for index, feature in enumerate(features):
        if isinstance(feature, NumericFeature | VectorFeature):
            scalings[feature.name] = Scaling.from_moments(
                np.sum([part[feature.name] for part in moments], axis=0)
            )
        elif isinstance(feature, TokenFeature) and feature.hash_buckets is None:
            files = [counts_file(task.directory, index, task.piece.index) for task in counted]
            vocabularies[feature.name] = grow_vocabulary(
                merge_counts([pq.read_table(file) for file in files]),
                first_row=1,
                previous=previous.vocabularies[feature.name] if previous is not None else None,
                min_count=feature.min_count,
                max_size=feature.max_vocabulary,
            )
    return SideEncoder(side, features, ids, vocabularies, scalings)


@dataclass(frozen=True)
class EncodeFeatures:
    """A task: encode the kept rows of a piece of a side's table.

    Attributes:
        piece: Of the table.
        side: Which.
        schema: The features of both sides.
        rows: Of the piece, those that are kept; a file of NumPy.
        vocabulary: The directory that `SideEncoder.save` wrote.
        path: For the encoded columns.
    """

    piece: Piece
    side: Side
    schema: FeatureSchema
    rows: Path
    vocabulary: Path
    path: Path


def encode_features(task: EncodeFeatures) -> None:
    """Writes the encoded features, one row a kept row."""
    encoder = _load_encoder(task.vocabulary, task.schema.model_dump_json(), task.side)
    table = _kept_table(task.piece, encoder.features, task.rows)
    write_columns(task.path, encoder.encode(table))


def join_features(
    encoder: SideEncoder, parts: list[Path], row_ids: pa.Array, current: Bools
) -> dict[str, Column]:
    """Brings encoded rows into the order of the catalogue.

    Args:
        encoder: Of the side.
        parts: Of `encode_features`, in order; none where there is no table.
        row_ids: The ids of all parts' rows.
        current: [ids] which ids are of this run; the others are absent in every feature.

    Returns:
        By feature name; ids without a row are absent in every feature but the id.
    """
    rows = np.full(len(encoder.ids), len(row_ids))  # The last row is empty.
    rows[encoder.ids.rows(row_ids)] = np.arange(len(row_ids))
    encoded = [*map(read_columns, parts), encoder.encode(_no_columns(1))]
    columns: dict[str, Column] = {}
    for feature in encoder.features:
        if isinstance(feature, IdFeature):
            own = np.flatnonzero(current).astype(np.int32)
            columns[feature.name] = Jagged.from_lengths(own, current.astype(np.int64))
        else:
            columns[feature.name] = _concatenated([part[feature.name] for part in encoded], rows)
    return columns


@lru_cache(maxsize=2)
def _load_encoder(vocabulary: Path, schema: str, side: Side) -> SideEncoder:
    return SideEncoder.load(vocabulary, FeatureSchema.model_validate_json(schema), side)


def _kept_table(piece: Piece, features: Sequence[Feature], rows: Path) -> pa.Table:
    """The features' raw values in the kept rows; the catalogue itself knows the ids."""
    names = [feature.name for feature in features if not isinstance(feature, IdFeature)]
    return read_piece(piece, names).take(pa.array(np.load(rows)))


def _no_columns(rows: int) -> pa.Table:
    """Rows without a feature; a table without any column would have no rows."""
    return pa.table({"": pa.nulls(rows)})


def _concatenated(columns: Sequence[Column], rows: Ints) -> Column:
    """Rows of all columns together, which are of one feature."""
    jagged = [column for column in columns if isinstance(column, Jagged)]
    if jagged:
        return Jagged.concatenate(jagged).take(rows)
    return Dense.concatenate([c for c in columns if isinstance(c, Dense)]).take(rows)
