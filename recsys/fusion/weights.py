"""The weights of a fused ranking."""

from collections.abc import Sequence

from pydantic import Field

from feature_store.core.settings import Frozen


class Weights(Frozen):
    """Weights of the parts of a score.

    score(q, i) = model * q.v_i
                  + (1 + rare * rarity_i) * sum over channels of weight * f(q, i) / max_j f(q, j)
                  + trend * trend_i - dial * temperature * (log Q_i - mean log Q)

    rarity_i is 1 / (1 + (training events of i / 5)^2): of an item that the model has hardly seen,
    what channels say counts more.

    Attributes:
        model: Weight of the inner product of the towers' vectors.
        channels: Weight of each channel by name.
        rare: Additional weight of channels for an item without training events; 0: none.
        trend: Weight of the recent popularity.
        dial: Share of the popularity that is taken off; 0: none.
    """

    model: float = 1.0
    channels: dict[str, float] = Field(default_factory=dict)
    rare: float = 0.0
    trend: float = 0.0
    dial: float = 0.0

    def by_part(self, channels: Sequence[str]) -> dict[str, float]:
        """Returns the weight of each part by name, those of 0 too.

        Args:
            channels: Names of the fitted channels.
        """
        of_channels = {name: self.channels.get(name, 0.0) for name in channels}
        others = {"rare": self.rare, "trend": self.trend, "dial": self.dial}
        return {"model": self.model, **of_channels, **others}
