"""The `model` section of a configuration."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from feature_store.core.bounds import EVENTS
from feature_store.core.settings import Settings

Norm = Literal["none", "layer"]
_Width = Annotated[int, Field(ge=1, le=65_536)]


class HistorySettings(Settings):
    """Base of the encoders of a history.

    Attributes:
        needs_order: Whether the order of a history's items has a meaning to the encoder.
    """

    kind: str

    needs_order: ClassVar[bool] = True


class MeanHistory(HistorySettings):
    """The mean of the items' features."""

    kind: Literal["mean"] = "mean"

    needs_order: ClassVar[bool] = False


class LastHistory(HistorySettings):
    """The features of the last item."""

    kind: Literal["last"] = "last"


class RecentHistory(HistorySettings):
    """A mean in which an item weighs half as much as one that is `half_life` items later."""

    kind: Literal["recent"] = "recent"
    half_life: float | None = Field(
        None,
        gt=0,
        le=EVENTS,
        description="Number of items back at which one weighs half; null: learned.",
    )


class AttentionHistory(HistorySettings):
    """Causal self-attention; see `recsys.model.history.attention`."""

    kind: Literal["attention"] = "attention"
    width: int = Field(64, ge=2, le=4096, description="Numbers for each history item.")
    layers: int = Field(2, ge=1, le=16, description="Number of layers.")
    heads: int = Field(2, ge=1, le=64, description="Number of heads; must divide the width.")
    dropout: float = Field(
        0.2, ge=0, lt=1, description="Dropout of the inputs, the attention weights and the layers."
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "AttentionHistory":
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, and {self.heads} does not {self.width}")
        return self


HistoryConfig = Annotated[
    MeanHistory | LastHistory | RecentHistory | AttentionHistory, Field(discriminator="kind")
]
# The same, by their kind.
HISTORY_SETTINGS: Mapping[str, type[HistorySettings]] = {
    settings.model_fields["kind"].default: settings
    for settings in get_args(get_args(HistoryConfig)[0])
}


class ModelConfig(Settings):
    """The two towers, and how a query reads its history.

    `dim` is the length of the vectors that are served, and decides their memory and speed. Tune
    `dropout` for your data, and set `history` to more than the mean where the order of events means
    something. Wider towers than the default rarely help.
    """

    dim: int = Field(
        64, ge=2, le=4096, description="Length of query and item vectors, which the index stores."
    )
    item_tower: tuple[_Width, ...] = Field(
        (128,),
        max_length=32,
        description="Widths of the item tower's hidden layers; []: a linear map.",
    )
    query_tower: tuple[_Width, ...] = Field(
        (128,),
        max_length=32,
        description="Widths of the query tower's hidden layers; []: a linear map.",
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
    history: tuple[HistoryConfig, ...] = Field(
        (MeanHistory(),),
        min_length=1,
        description="Encoders of a query's history of items, whose outputs are joined.",
    )

    @model_validator(mode="after")
    def _settings_have_effect(self) -> "ModelConfig":
        kinds = [encoder.kind for encoder in self.history]
        if len(set(kinds)) != len(kinds):
            raise ValueError("history lists the same kind twice; keep one of them")
        if self.norm != "none" and not self.item_tower + self.query_tower:
            raise ValueError("norm has no effect on towers without hidden layers; remove it")
        return self
