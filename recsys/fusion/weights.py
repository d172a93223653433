"""The weights of a fused ranking."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from feature_store.core.bounds import LARGE
from feature_store.core.settings import Frozen

# With larger ones, sums in float32 are infinite.
Weight = Annotated[float, Field(ge=0, le=LARGE)]

# Ending of the name of a channel's additional weight for rare items.
OF_RARE = ", rare items"


class Weights(Frozen):
    """Weights of the parts of a score.

    score(q, i) = model * q.v_i
                  + sum over channels of (weight + rare * rarity_i) * f(q, i) / max_j f(q, j)
                  + trend * trend_i - dial * temperature * (log Q_i - mean log Q)

    rarity_i is 1 / (1 + (training events of i / 5)^2): of an item that the model has hardly seen,
    what some channels say counts more.

    Attributes:
        model: Weight of the inner product of the towers' vectors.
        channels: Weight of each channel by name.
        rare: Additional weight of each channel for an item without training events, by name.
        trend: Weight of the recent popularity.
        dial: Share of the popularity that is taken off; 0: none.
    """

    model: Weight = 1.0
    channels: dict[str, Weight] = Field(default_factory=dict)
    rare: dict[str, Weight] = Field(default_factory=dict)
    trend: Weight = 0.0
    dial: Weight = 0.0

    def used(self) -> dict[str, tuple[float, float]]:
        """Returns the two weights of each channel that has one, by name."""
        both = {
            name: (self.channels.get(name, 0.0), self.rare.get(name, 0.0))
            for name in {**self.channels, **self.rare}
        }
        return {name: weights for name, weights in both.items() if any(weights)}

    def by_part(self, channels: Sequence[str]) -> dict[str, float]:
        """Returns the weight of each part by name, those of 0 too.

        The additional weight of a channel for rare items is `NAME, rare items`, where it has one.

        Args:
            channels: Names of the fitted channels.
        """
        parts = {"towers": self.model}
        for name in channels:
            parts[name] = self.channels.get(name, 0.0)
            if self.rare.get(name):
                parts[name + OF_RARE] = self.rare[name]
        return {**parts, "trend": self.trend, "dial": self.dial}
