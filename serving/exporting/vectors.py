"""Vectors of the trained model: in the bundle, and beside those of the exported towers."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from feature_store.core.columns import Floats, Ints, read_columns, take_rows
from feature_store.core.files import write_array
from recsys.data.builder import BatchBuilder
from recsys.model.encode import encode_items, encode_queries
from serving.batch.item_vectors import map_item_vectors, write_item_vectors, write_parts
from serving.bundle.manifest import ITEM_FEATURES, QUERY_VECTORS
from serving.bundle.tower_files import read_item_tower, read_query_tower
from serving.exporting.gate import difference, require_finite
from serving.exporting.trained import Trained
from serving.recommend.load import read_snapshot

_CPU = torch.device("cpu")


def item_vectors(directory: Path, trained: Trained, builder: BatchBuilder, indexed: Ints) -> Floats:
    """Computes the vectors of indexed items, [positions, dim], and writes them for others."""
    actors = trained.config.export.vector_actors
    if actors is not None:
        write_item_vectors(directory, actors=actors)
        file = directory / "vectors.npy"
        vectors = map_item_vectors(directory, file)
        file.unlink()  # It stays mapped, for as long as this process runs.
        return vectors
    vectors = encode_items(trained.model, builder, _CPU, indexed)
    require_finite(vectors, "item")
    ids = trained.prepared.item_encoder.ids.tokens.take(pa.array(indexed))
    write_parts(directory, ids, vectors)
    return vectors


def compare_items(
    directory: Path, trained: Trained, builder: BatchBuilder, vectors: Floats, indexed: Ints
) -> float:
    """Runs the written tower on the written features, and returns the largest difference."""
    positions = trained.sample(len(indexed))
    items = indexed[positions]
    expected = encode_items(trained.model, builder, _CPU, items)
    columns = take_rows(read_columns(directory / ITEM_FEATURES), items)
    exported = read_item_tower(directory, trained.prepared.features)(columns, len(items))
    return max(
        difference(exported, expected, "item"), difference(vectors[positions], expected, "item")
    )


def compare_queries(
    directory: Path, trained: Trained, builder: BatchBuilder
) -> tuple[Floats, float]:
    """Runs the written tower on the written snapshot.

    Returns:
        Vectors of the sample by the trained model, and the largest difference from these.
    """
    schema = trained.prepared.features
    queries = trained.sample(trained.prepared.num_queries)
    snapshot = read_snapshot(directory)
    history = snapshot.history.take(queries)
    context = trained.prepared.context_of(queries, "test")
    expected = encode_queries(trained.model, builder, queries, history, context, _CPU)
    require_finite(expected, "query")
    tower = read_query_tower(directory, schema)
    exported = tower(take_rows(snapshot.columns, queries), len(queries), history, context)
    return expected, difference(exported, expected, "query")


def write_query_vectors(directory: Path, trained: Trained, builder: BatchBuilder) -> None:
    """Writes vectors of the snapshot's queries, for answers without the tower."""
    prepared = trained.prepared
    if prepared.features.context:
        return
    queries = np.arange(prepared.num_queries)
    history = read_snapshot(directory).history
    vectors = encode_queries(trained.model, builder, queries, history, {}, _CPU)
    require_finite(vectors, "query")
    write_array(directory / QUERY_VECTORS, vectors)
