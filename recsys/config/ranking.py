"""The `ranking` section of a configuration."""

from typing import Literal

from pydantic import Field, field_validator

from feature_store.core.settings import Settings

ChannelName = Literal["co_occurrence", "transitions", "content", "own_content", "links", "linear"]


class RankingConfig(Settings):
    """The fused ranking: the model, retrieval channels, recent popularity and the popularity dial.

    Channels need no training and find what the model misses, rare items above all. Weights are
    found on validation; what adds nothing gets the weight 0. Raise `tail_weight` for more of the
    rare items.
    """

    channels: tuple[ChannelName, ...] = Field(
        ("co_occurrence", "transitions", "content", "own_content", "links", "linear"),
        description="Channels to fit, where the log has what they need; []: the model ranks alone.",
    )
    neighbours: int = Field(
        100, ge=1, le=1000, description="Sources that a channel keeps for each item."
    )
    tail_weight: float = Field(
        1.5,
        ge=0,
        le=100,
        description="Weight, in the search, of what is found beyond the head: of the torso, and of "
        "tail and cold items, half each. For each unit, it may cost 2 % of the overall recall, and "
        "no more than two standard errors. Above 0.3, it may cost some of the towers' head, too.",
    )

    @field_validator("channels")
    @classmethod
    def _each_once(cls, channels: tuple[ChannelName, ...]) -> tuple[ChannelName, ...]:
        if len(set(channels)) != len(channels):
            raise ValueError("channels lists the same one twice; keep one of them")
        return channels
