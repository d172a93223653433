"""Opens a bundle."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.columns import Jagged, read_columns
from feature_store.encoding import SideEncoder
from feature_store.schema import FeatureSchema
from feature_store.vocabulary import Vocabulary
from serving.index import ItemIndex
from serving.programs import TowerProgram
from serving.recommender import QuerySnapshot, Recommender
from serving.seal import (
    INDEX,
    ITEM_TITLES,
    QUERY_FEATURES,
    QUERY_LATEST,
    QUERY_STATE,
    QUERY_TOWER,
    SCHEMA,
    VOCABULARY,
    verify,
)


def load(path: str | Path) -> Recommender:
    """A recommender that answers from the bundle alone.

    Vectors, features and histories are memory-mapped; the tower is a torch.export program, and no
    pickled code is run.

    Args:
        path: A directory that `recsys export` wrote.

    Raises:
        UserError: It is no bundle, of another version, or not as it was exported.
    """
    directory = Path(path)
    manifest = verify(directory)
    schema = FeatureSchema.model_validate_json((directory / SCHEMA).read_text(encoding="utf-8"))
    item_ids = Vocabulary.load(directory / VOCABULARY / "item_id.parquet")
    return Recommender(
        manifest,
        query_ids=Vocabulary.load(directory / VOCABULARY / "query_id.parquet"),
        item_ids=item_ids.tokens,
        indexed=np.flatnonzero(item_ids.counts.to_numpy()),
        titles=_titles(directory / ITEM_TITLES),
        snapshot=read_snapshot(directory),
        query_tower=TowerProgram(directory / QUERY_TOWER, schema.query, schema.context),
        context_encoder=SideEncoder.load(directory / VOCABULARY, schema, "context"),
        index=ItemIndex.read(directory / INDEX),
    )


def read_snapshot(directory: Path) -> QuerySnapshot:
    """Memory-maps what a bundle knows of its queries."""
    state = read_columns(directory / QUERY_STATE)
    history, excluded = state["history"], state["excluded"]
    assert isinstance(history, Jagged)
    assert isinstance(excluded, Jagged)
    latest = directory / QUERY_LATEST
    return QuerySnapshot(
        read_columns(directory / QUERY_FEATURES),
        history,
        excluded,
        np.load(latest, mmap_mode="r") if latest.exists() else None,
    )


def _titles(path: Path) -> pa.Array | None:
    if not path.exists():
        return None
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()["title"].combine_chunks()
