"""Settings of export and tracking."""

from typing import Literal

from pydantic import Field

from feature_store.core.settings import Settings


class ExportConfig(Settings):
    """The bundle and its gate."""

    min_ann_recall: float = Field(
        0.98, gt=0, le=1, description="Recall@100 of the index against exact search."
    )
    index: Literal["auto", "flat", "hnsw", "pq", "ivf_pq"] = Field(
        "auto",
        description="Kind of index: flat is exact; pq scans 4-bit codes of all items and scores "
        "the best again; ivf_pq scans lists of them; auto: flat up to 50,000 items, else ivf_pq. "
        "Experimental: hnsw, a graph, slower than pq and ivf_pq.",
    )
    vectors: Literal["float32", "float16", "int8"] = Field(
        "float32", description="How the index stores vectors: in whole, a half or a quarter."
    )
    vector_actors: int | None = Field(
        None,
        ge=1,
        description="Ray actors that compute item vectors, for catalogues whose features or "
        "vectors do not fit in memory; null: this process.",
    )
    min_slice_recall: float = Field(
        0.95,
        gt=0,
        le=1,
        description="The same of the items of each slice: the tail must be found, too.",
    )
    filters: tuple[str, ...] | None = Field(
        None,
        description="Item features that requests can filter by; null: all categorical and "
        "multi-valued ones.",
    )
    tolerance: float = Field(
        0.05,
        ge=0,
        le=1,
        description="By how much of its value recall@50 of a slice may be worse than the "
        "champion's, beyond its interval, before the export fails.",
    )
    registered_model: str | None = Field(
        None, min_length=1, description="In MLflow's registry; null: named as the experiment."
    )


class TrackingConfig(Settings):
    """MLflow."""

    experiment: str = Field("recsys", min_length=1)
    uri: str | None = Field(
        None, description="null: MLFLOW_TRACKING_URI, else SQLite beside the output."
    )
