"""Golden answers of the trained model, to requests of some queries of the snapshot."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from feature_store.core.columns import Ints
from feature_store.core.times import microseconds
from feature_store.encoding.context import NO_TIME, request_table
from recsys.channels.sources import Sources
from recsys.data.builder import BatchBuilder
from recsys.evaluation.task import known_to_channels
from recsys.model.encode import encode_queries
from serving.exporting.golden import FusedRequests, golden_queries
from serving.exporting.trained import Trained
from serving.index.index import ItemIndex
from serving.recommend.golden import Golden
from serving.recommend.load import read_snapshot

_CPU = torch.device("cpu")
# Queries of the sample that are asked through every path.
_GOLDEN = 20


def golden_answers(
    directory: Path, trained: Trained, builder: BatchBuilder, index: ItemIndex, indexed: Ints
) -> list[Golden]:
    """Computes answers of the trained model itself.

    Args:
        directory: Bundle, with the snapshot.
        trained: Trained model.
        builder: Builder of its batches.
        index: Index of the bundle.
        indexed: Item at each position of the index.
    """
    prepared = trained.prepared
    sample = trained.sample(prepared.num_queries)
    names = prepared.query_encoder.ids.tokens
    queries = sample[:: max(1, len(sample) // _GOLDEN)]
    queries = queries[names.take(pa.array(queries)).is_valid().to_numpy(zero_copy_only=False)]
    snapshot = read_snapshot(directory)
    at = datetime.fromisoformat(prepared.manifest.as_of)
    encoder = prepared.context_encoder
    latest = np.full(len(queries), NO_TIME)
    if snapshot.latest is not None:
        latest = snapshot.latest[queries]
    raw = request_table(encoder.features, {}, microseconds(at), latest)
    history = snapshot.history.take(queries)
    known = known_to_channels(prepared, "test").take(queries)
    sources = Sources(history, known, prepared.own_items.take(queries))
    vectors = encode_queries(trained.model, builder, queries, history, encoder.encode(raw), _CPU)
    return golden_queries(
        [(name, at) for name in names.take(pa.array(queries)).to_pylist()],
        vectors,
        snapshot.evaluated(queries, prepared.manifest.data.repeats),
        index,
        indexed,
        prepared.item_encoder.ids.tokens,
        None if trained.fused is None else FusedRequests(trained.fused, sources),
    )
