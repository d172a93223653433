"""The `export` section of a configuration."""

from typing import Literal

from pydantic import Field

from feature_store.core.bounds import MANY
from feature_store.core.settings import Settings


class ExportConfig(Settings):
    """The bundle: its index, and the gate that a model must pass before it is registered.

    Set `filters` to what requests will ask for. Change the rest where the index is too large, too
    slow, or refused by the gate.
    """

    min_ann_recall: float = Field(
        0.98,
        gt=0,
        le=1,
        description="Lowest recall@100 of the index against exact search; export fails below it.",
    )
    min_slice_recall: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Lowest recall@100 of the index for the items of each slice: the tail must be "
        "found, too.",
    )
    index: Literal["auto", "flat", "hnsw", "pq", "ivf_pq"] = Field(
        "auto",
        description="Kind of index. flat: exact; pq: 4-bit codes of all items, whose best are "
        "scored again; ivf_pq: lists of them; auto: flat up to 50,000 items, else ivf_pq. "
        "Experimental: hnsw, a graph, slower than pq and ivf_pq.",
    )
    vectors: Literal["float32", "float16", "int8"] = Field(
        "float32",
        description="Number format of the index's vectors; half and a quarter of the memory.",
    )
    vector_actors: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="Ray actors that compute item vectors, for catalogues whose features or "
        "vectors do not fit in memory; null: this process.",
    )
    filters: tuple[str, ...] | None = Field(
        None,
        description="Item features that requests can filter by; null: all with named values "
        "(categorical, multi_valued), numbers or dates.",
    )
    refit: bool | None = Field(
        None,
        description="Whether the exported model is trained once more, on all events, for as many "
        "steps as the evaluated one; null: with data.split.kind time.",
    )
    registered_model: str | None = Field(
        None,
        min_length=1,
        description="Name in MLflow's model registry; null: that of tracking.experiment.",
    )
