"""The `model` section of a configuration."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.core.settings import Settings

Norm = Literal["none", "batch", "layer"]
Pooling = Literal["mean", "last", "recent", "attention"]


class AttentionConfig(Settings):
    """The causal self-attention of `history_pooling: [attention]`; see `recsys.attention`."""

    width: int = Field(64, ge=2, le=4096, description="Numbers for each history item.")
    layers: int = Field(2, ge=1, le=16)
    heads: int = Field(2, ge=1, le=64, description="Must divide the width.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Of its inputs, weights and layers.")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "AttentionConfig":
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, and {self.heads} does not {self.width}")
        return self


class ModelConfig(Settings):
    """The two towers, and how a query reads its history."""

    dim: int = Field(64, ge=2, le=4096, description="Length of query and item vectors.")
    item_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    query_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    activation: Literal["relu", "gelu"] = Field("relu", description="Of the hidden layers.")
    norm: Norm = Field(
        "none",
        description="Of the hidden layers: over a row's numbers (layer), or over the global "
        "batch's rows (batch; without ssl, whose rows are not those of serving).",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the towers' inputs and hidden layers.")
    residual: bool = Field(
        False, description="Adds a linear map of a tower's inputs to its output."
    )
    cross_layers: int = Field(
        0, ge=0, le=8, description="DCN-v2 layers before the hidden ones: products of inputs."
    )
    cross_rank: int | None = Field(
        None, ge=1, description="Of the cross layers' matrices; null: full."
    )
    history_pooling: tuple[Pooling, ...] = Field(
        ("mean",),
        min_length=1,
        description="How a query reads its history's item features; several are joined.",
    )
    history_half_life: float | None = Field(
        None,
        gt=0,
        description="Of recent: items back at which one weighs half; null: learned.",
    )
    attention: AttentionConfig = AttentionConfig()

    @model_validator(mode="after")
    def _settings_have_effect(self) -> "ModelConfig":
        poolings = self.history_pooling
        if len(set(poolings)) != len(poolings):
            raise ValueError("history_pooling lists the same pooling twice")
        if "recent" not in poolings and self.history_half_life is not None:
            raise ValueError("history_half_life has no effect without history_pooling recent")
        if "attention" not in poolings and self.attention != AttentionConfig():
            raise ValueError("attention has no effect without history_pooling attention")
        if not self.cross_layers and self.cross_rank is not None:
            raise ValueError("cross_rank has no effect with cross_layers: 0")
        hidden = self.item_tower + self.query_tower
        if not hidden and (self.norm, self.activation) != ("none", "relu"):
            raise ValueError("norm and activation have no effect on towers without hidden layers")
        return self
