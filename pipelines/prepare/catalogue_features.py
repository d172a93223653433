"""The catalogue of items or queries: which ids there are, and their encoded features.

Ids, vocabularies and encoded features of a side are held in memory while they are put together;
the rows of its table are read and encoded by tasks, a piece at a time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import starmap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.arrow import id_strings
from feature_store.core.columns import (
    Bools,
    Column,
    Dense,
    Ints,
    Jagged,
    read_columns,
    write_columns,
)
from feature_store.core.files import write_json, write_parquet
from feature_store.encoding.collisions import collision_warning
from feature_store.encoding.encoder import SideEncoder, present_rows
from feature_store.encoding.fitting import (
    fit_scaling,
    fit_vocabulary,
    hash_collisions,
    partial_counts,
)
from feature_store.encoding.scaling import Scaling
from feature_store.encoding.vocabulary import Vocabulary, grow_vocabulary
from feature_store.forgotten import Forgotten
from feature_store.kinds import (
    AnyFeature,
    Feature,
    IdFeature,
    NumericFeature,
    TokenFeature,
    VectorFeature,
)
from feature_store.schema import FeatureGroup, FeatureSchema, Side, qualified
from pipelines.logs.tables import Piece, read_piece
from pipelines.prepare.cleaning import FORGOTTEN, NULL_ID, REPEATED_ID, Rejections
from pipelines.statistics.summaries import Summary, summarise

# Of a feature, by its place: `partial_counts` of all pieces.
Counted = Callable[[int], Iterable[pa.Table]]


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
    write_parquet(task.path, pa.table({"id": ids}))


def rows_file(directory: Path, piece: int) -> Path:
    """Of NumPy: the rows of a piece that are kept."""
    return directory / f"rows-{piece:05d}.npy"


def kept_rows(parts: list[pa.Array], side: Side, forgotten: Forgotten) -> list[Rejections]:
    """By piece, in order, the rejected rows.

    They are null ids, ids to be forgotten, and all but the first row of an id.
    """
    encoded = pa.concat_arrays(parts).dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    is_first = np.zeros(len(codes), bool)
    is_first[np.unique(codes, return_index=True)[1]] = True
    is_forgotten = np.append(forgotten.contains(side, encoded.dictionary), False)[codes]
    found: list[Rejections] = []
    start = 0
    for part in parts:
        rejections = Rejections(len(part))
        end = start + len(part)
        rejections.reject(part.is_null(), NULL_ID)
        rejections.reject(is_forgotten[start:end], FORGOTTEN)
        rejections.reject(~is_first[start:end], REPEATED_ID)
        found.append(rejections)
        start = end
    return found


def without_forgotten(
    encoder: SideEncoder, side: Side, forgotten: Forgotten
) -> tuple[SideEncoder, bool]:
    """An earlier run's encoder with null in place of ids to be forgotten; and whether it had any.

    Their rows stay, so that others do not move.
    """
    ids = encoder.ids
    is_forgotten = forgotten.contains(side, ids.tokens)
    if not is_forgotten.any():
        return encoder, False
    tokens = pc.if_else(pa.array(is_forgotten), None, ids.tokens)
    cleared = Vocabulary(tokens, ids.counts, ids.first_row)
    return SideEncoder(
        side, encoder.features, cleared, encoder.vocabularies, encoder.scalings, encoder.items
    ), True


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
    """A task: count what encoding learns from, in a piece of a side's table.

    Attributes:
        piece: Of the table.
        features: Of the side.
        rows: Of the piece, those that are kept; a file of NumPy.
        directory: For the files of `counts_file`.
    """

    piece: Piece
    features: tuple[Feature, ...]
    rows: Path
    directory: Path


def counts_file(directory: Path, feature: int, piece: int) -> Path:
    """Of the side's feature number `feature` in a piece; see `partial_counts`."""
    return directory / f"counts-{feature:03d}-{piece:05d}.parquet"


def read_counts(counted: list[CountFeatures], feature: int) -> Iterator[pa.Table]:
    """Of one feature, by piece; `count_features` is done."""
    for task in counted:
        yield pq.read_table(counts_file(task.directory, feature, task.piece.index))


def count_features(task: CountFeatures) -> Summary:
    """Writes a file for each feature but the id, and sums up the columns."""
    table = _kept_table(task.piece, task.features, task.rows)
    for index, feature in enumerate(task.features):
        if not isinstance(feature, IdFeature):
            counts = partial_counts(feature, table[feature.name])
            write_parquet(counts_file(task.directory, index, task.piece.index), counts)
    return summarise(table)


def build_encoder(
    side: FeatureGroup,
    features: tuple[AnyFeature, ...],
    ids: Vocabulary,
    counted: Counted,
    previous: SideEncoder | None,
    items: SideEncoder | None = None,
    *,
    clear_unused: bool = False,
) -> SideEncoder:
    """Grows the vocabularies and scalings of a side or the context from what was counted.

    With `clear_unused`, tokens that are no longer in use are cleared: they may be of a row that is
    to be forgotten. `items` is the items' encoder, whose vocabularies features may share.
    """
    vocabularies: dict[str, Vocabulary] = {}
    scalings: dict[str, Scaling] = {}
    for index, feature in enumerate(features):
        if isinstance(feature, NumericFeature | VectorFeature):
            scalings[feature.name] = fit_scaling(feature, counted(index))
        elif isinstance(feature, TokenFeature) and feature.has_vocabulary:
            vocabularies[feature.name] = fit_vocabulary(
                feature,
                counted(index),
                previous.vocabularies[feature.name] if previous is not None else None,
                clear_unused=clear_unused,
            )
    return SideEncoder(side, features, ids, vocabularies, scalings, items)


def shared_encoder(
    vocabulary: Path, schema: FeatureSchema, side: FeatureGroup
) -> SideEncoder | None:
    """The items' encoder, which is saved already, where features of a side share its tables."""
    if all(feature.shared_table is None for feature in schema.of(side)):
        return None
    return SideEncoder.load(vocabulary, schema, "item")


def write_hashing_statistics(
    path: Path, side: FeatureGroup, features: tuple[AnyFeature, ...], counted: Counted
) -> list[str]:
    """Writes how many tokens of each hashed feature share a row, where a side has such features.

    Args:
        path: For JSON: by `<side>.<feature>` the fields of `Collisions`.
        side: Which.
        features: Of the side, or the context.
        counted: What was counted.

    Returns:
        A sentence for each feature with many collisions.
    """
    found = {
        qualified(side, feature): hash_collisions(feature, counted(index))
        for index, feature in enumerate(features)
        if isinstance(feature, TokenFeature) and feature.hash_buckets is not None
    }
    if found:
        write_json(path, {name: asdict(collisions) for name, collisions in found.items()})
    return [text for text in starmap(collision_warning, found.items()) if text is not None]


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
    encoder = load_encoder(task.vocabulary, task.schema.model_dump_json(), task.side)
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
            own = encoder.rows_of_ids(encoder.ids.tokens)
            columns[feature.name] = present_rows(np.where(current, own, -1).astype(np.int32))
        else:
            columns[feature.name] = _concatenated([part[feature.name] for part in encoded], rows)
    return columns


@lru_cache(maxsize=4)
def load_encoder(vocabulary: Path, schema: str, side: FeatureGroup) -> SideEncoder:
    """As it was saved; a worker process keeps it between tasks."""
    return SideEncoder.load(vocabulary, FeatureSchema.model_validate_json(schema), side)


def _kept_table(piece: Piece, features: Sequence[AnyFeature], rows: Path) -> pa.Table:
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
