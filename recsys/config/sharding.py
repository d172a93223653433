"""The `sharding` section of a configuration."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from feature_store.core.bounds import EVENTS
from feature_store.core.settings import Settings
from feature_store.kinds import AnyFeature
from feature_store.schema import FeatureGroup, FeatureSchema, qualified

ShardingKind = Literal[
    "data_parallel",
    "table_wise",
    "row_wise",
    "column_wise",
    "table_row_wise",
    "table_column_wise",
    "grid_shard",
]
Precision = Literal["fp32", "fp16", "bf16"]


class TableSharding(Settings):
    """Sharding of one table, in place of the rule's."""

    type: ShardingKind | None = Field(
        None,
        description="Placement. data_parallel: a copy on each rank; table_wise: whole on one; "
        "row_wise, column_wise: in parts on all; table_row_wise, table_column_wise, grid_shard: in "
        "parts on the ranks of one machine (GPUs only); null: by the rule.",
    )
    precision: Precision | None = Field(
        None, description="Number format of the table; null: sharding.precision."
    )
    kernel: Literal["fused", "fused_uvm", "fused_uvm_caching"] | None = Field(
        None,
        description="Memory of a GPU's table. fused: the GPU's; fused_uvm: the machine's; "
        "fused_uvm_caching: the machine's, with a cache on the GPU; null: fused.",
    )

    @model_validator(mode="after")
    def _has_effect(self) -> "TableSharding":
        if self.type == "data_parallel" and self.kernel is not None:
            raise ValueError("kernel has no effect with type data_parallel; remove it")
        return self


class ShardingConfig(Settings):
    """Placement of the embedding tables' rows on ranks. It does not change what is learnt.

    The exceptions are `precision`, and row-wise Adagrad on tables that are split by columns, where
    each part of a row has a learning rate of its own. Touch it where `recsys plan` says that tables
    do not fit, or to halve their memory.
    """

    row_wise_from: int = Field(
        1_000,
        ge=1,
        le=EVENTS,
        description="Rows from which a table is split by rows over all ranks (the rule); smaller "
        "ones are whole on one rank each.",
    )
    precision: Precision = Field(
        "fp32", description="Number format of the tables; bf16 needs a GPU."
    )
    tables: dict[str, TableSharding] = Field(
        {}, description="Exceptions from the rule by feature, such as item.genres."
    )

    @field_validator("tables", mode="before")
    @classmethod
    def _flat(cls, tables: Any) -> Any:
        """Joins nested names, so that `--set sharding.tables.item.genres.type=...` works."""
        if not isinstance(tables, dict):
            return tables
        joined: dict[str, Any] = {}
        for name, value in _flat(tables, ""):
            earlier = joined.get(name)
            if isinstance(value, dict) and isinstance(earlier, dict):
                value = {**earlier, **value}
            joined[name] = value
        return joined

    @field_validator("tables")
    @classmethod
    def _have_effect(cls, tables: dict[str, TableSharding]) -> dict[str, TableSharding]:
        for name, table in tables.items():
            if table == TableSharding():
                raise ValueError(f"{name} sets nothing; set type, precision or kernel")
        return tables

    def table(self, feature: str) -> TableSharding:
        """Returns the settings of a feature's table."""
        return self.tables.get(feature, TableSharding())

    def precision_of(self, feature: str) -> Precision:
        """Returns the number format of a feature's table."""
        return self.table(feature).precision or self.precision


def _flat(tables: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        is_nested = isinstance(value, dict) and any(isinstance(v, dict) for v in value.values())
        if is_nested:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sharding_fault(sharding: ShardingConfig, features: FeatureSchema) -> str | None:
    """Returns what is wrong with the names of tables, or None."""
    sides: dict[FeatureGroup, Sequence[AnyFeature]] = {
        "item": features.item,
        "query": features.query,
        "context": features.context,
    }
    tables = [
        qualified(side, feature)
        for side, entries in sides.items()
        for feature in entries
        if feature.is_sparse and feature.shared_table is None
    ]
    for name in sharding.tables:
        if name not in tables:
            near = get_close_matches(name, tables, n=1, cutoff=0.0)
            hint = f"; the nearest is {near[0]}" if near else ""
            return f"sharding.tables.{name}: no feature with a table has this name{hint}"
    return None
