"""The item vectors of a bundle: `item_vectors/part-*.parquet`, in the order of the index."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import Floats, Ints, from_arrow
from feature_store.core.documents import read_record
from feature_store.core.errors import UserError
from feature_store.core.files import write_atomically, write_parquet
from feature_store.schema import FeatureSchema
from serving.batch.parts import Counts, run_parts
from serving.bundle.ids import IdTable
from serving.bundle.manifest import IDS, INDEXED, ITEM_FEATURES, ITEM_VECTORS, SCHEMA
from serving.bundle.tower_files import read_item_tower

# Items of one file, all computed by one actor.
PART_ROWS = 500_000
# Items of one forward pass and one row group, so that an actor never holds a whole part.
_BLOCK = 16_384

_VECTOR = "vector"


def write_item_vectors(
    directory: Path, *, actors: int | None = None, part_rows: int = PART_ROWS
) -> None:
    """Computes the vectors of all items of the index, by the exported tower, in Ray actors.

    Neither features nor vectors need to fit in memory: actors map the features, and each writes
    files of its own. The vectors do not depend on how many actors there are.

    Args:
        directory: Directory of a bundle that has its items but for the vectors: schema, tower,
            features, ids and `INDEXED`. The actors' machines must see it, too.
        actors: Number of actors; None: one for each CPU of the cluster.
        part_rows: Items of a file.

    Raises:
        UserError: A vector is not finite.
    """
    items = len(np.load(directory / INDEXED, mmap_mode="r"))
    parts = math.ceil(items / part_rows)
    counts_of_parts = run_parts(_Encoder, (directory.resolve(), part_rows), parts, actors)
    bad = sum(counts["not_finite"] for counts in counts_of_parts)
    if bad:
        raise UserError(
            f"{bad} of {items} item vectors are not finite; lower training.sparse_learning_rate or "
            "training.dense_learning_rate and train again."
        )


def write_parts(directory: Path, ids: pa.Array, vectors: Floats) -> None:
    """Writes vectors that are in memory.

    Args:
        directory: Directory of the bundle.
        ids: [items] strings.
        vectors: [items, dim].
    """
    for part, start in enumerate(range(0, len(vectors), PART_ROWS)):
        block = vectors[start : start + PART_ROWS]
        column = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])
        table = pa.table({"item_id": ids[start : start + PART_ROWS], _VECTOR: column})
        write_parquet(directory / ITEM_VECTORS / f"part-{part:05d}.parquet", table)


def item_vector_batches(bundle: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """Yields a bundle's item vectors in order, with columns item_id and vector.

    Args:
        bundle: Directory of the bundle.
        rows: Most rows of a batch.
    """
    for part in item_vector_parts(bundle):
        with pq.ParquetFile(part, memory_map=True) as file:
            yield from file.iter_batches(rows)


def item_vector_parts(bundle: Path) -> list[Path]:
    """Lists the files of item vectors, in order."""
    return sorted((bundle / ITEM_VECTORS).glob("part-*.parquet"))


def vectors_of(batch: pa.RecordBatch) -> Floats:
    """Returns the vectors of a batch, [rows, dim]."""
    column = batch.column(_VECTOR)
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)


def map_item_vectors(bundle: Path, path: Path) -> Floats:
    """Writes all item vectors as one array, and maps it, [items, dim], read-only.

    Args:
        bundle: Directory of the bundle, with at least one part.
        path: `.npy` file to write, which must be gone when the bundle is sealed.
    """
    write_atomically(path, partial(_write_array, bundle=bundle))
    mapped: Floats = np.load(path, mmap_mode="r")
    return mapped


def _write_array(path: Path, bundle: Path) -> None:
    parts = item_vector_parts(bundle)
    items = sum(pq.read_metadata(part).num_rows for part in parts)
    dim = pq.read_schema(parts[0]).field(_VECTOR).type.list_size
    array = np.lib.format.open_memmap(path, "w+", np.float32, (items, dim))
    start = 0
    for batch in item_vector_batches(bundle, _BLOCK):
        array[start : start + len(batch)] = vectors_of(batch)
        start += len(batch)
    array.flush()


class _Encoder:
    """Writer of parts.

    Args:
        directory: Directory of the bundle.
        part_rows: Items of a part.
    """

    def __init__(self, directory: Path, part_rows: int) -> None:
        schema = read_record(directory / SCHEMA, FeatureSchema)
        self._directory = directory
        self._part_rows = part_rows
        self._tower = read_item_tower(directory, schema)
        self._ids = IdTable.read(directory / IDS, "item").ids
        self._indexed: Ints = np.load(directory / INDEXED, mmap_mode="r")
        with pa.memory_map(str(directory / ITEM_FEATURES)) as source:
            self._features = pa.ipc.open_file(source).read_all()

    def __call__(self, part: int) -> Counts:
        """Counts the vectors that are not finite."""
        start = part * self._part_rows
        items = self._indexed[start : start + self._part_rows]
        path = self._directory / ITEM_VECTORS / f"part-{part:05d}.parquet"
        bad = 0

        def write(temporary: Path) -> None:
            nonlocal bad
            writer: pq.ParquetWriter | None = None
            for first in range(0, len(items), _BLOCK):
                rows = items[first : first + _BLOCK]
                vectors = self._encode(rows)
                bad += int((~np.isfinite(vectors).all(axis=1)).sum())
                column = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), vectors.shape[1])
                table = pa.table({"item_id": self._ids.take(pa.array(rows)), _VECTOR: column})
                writer = writer or pq.ParquetWriter(
                    temporary, table.schema, compression="zstd", use_dictionary=False
                )
                writer.write_table(table)
            assert writer is not None
            writer.close()

        write_atomically(path, write)
        return {"not_finite": bad}

    def _encode(self, items: Ints) -> Floats:
        columns = from_arrow(self._features.take(pa.array(items)))
        return self._tower(columns, len(items))
