"""The `model` section of a configuration."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.schema import Settings


class ModelConfig(Settings):
    """The two towers."""

    dim: int = Field(64, ge=2, le=4096, description="Length of query and item vectors.")
    item_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    query_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    history_pooling: tuple[Literal["mean", "last"], ...] = Field(
        ("mean",), description="How a query reads its history's item features; several are joined."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the towers' inputs and hidden layers.")

    @model_validator(mode="after")
    def _poolings_are_distinct(self) -> "ModelConfig":
        if len(set(self.history_pooling)) != len(self.history_pooling):
            raise ValueError("history_pooling lists the same pooling twice")
        return self
