"""The `model` section of a configuration."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.core.settings import Settings

Norm = Literal["none", "layer"]
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


class CrossConfig(Settings):
    """Cross layers of DCN-v2 (Wang et al. 2021): products of a tower's inputs."""

    layers: int = Field(1, ge=1, le=8, description="Experimental: number of cross layers.")
    rank: int | None = Field(
        None, ge=1, description="Experimental: rank of the cross layers' matrices; null: full."
    )


class ModelConfig(Settings):
    """The two towers, and how a query reads its history.

    `dim` is the length of the vectors that are served, and decides their memory and speed. Tune
    `dropout` for your data, and set `history` to more than the mean where the order of events means
    something. Wider towers than the default rarely help.
    """

    dim: int = Field(
        64, ge=2, le=4096, description="Length of query and item vectors, which the index stores."
    )
    item_tower: tuple[int, ...] = Field(
        (128,), description="Widths of the item tower's hidden layers; []: a linear map."
    )
    query_tower: tuple[int, ...] = Field(
        (128,), description="Widths of the query tower's hidden layers; []: a linear map."
    )
    norm: Norm = Field("none", description="Normalisation after each hidden layer: none or layer.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout of the towers' inputs and hidden layers."
    )
    residual: bool = Field(
        False,
        description="Linear map of a tower's inputs, added to its output; it generalises to the "
        "tail.",
    )
    cross: CrossConfig | None = Field(
        None, description="Cross layers before the hidden ones; null: none."
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
        if self.norm != "none" and not self.item_tower + self.query_tower:
            raise ValueError("norm has no effect on towers without hidden layers; remove it")
        return self
