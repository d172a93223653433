"""Methods without a loss of their own: the main task, as it is or with hidden features."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from recsys.config.ssl.method import SslSettings
from recsys.config.tuning import Choices, Dimension


class NoSelfSupervision(SslSettings):
    """The main task alone."""

    method: Literal["none"] = "none"


class FeatureDropout(SslSettings):
    """FD, a baseline: the main task's items hide features at random; there is no other loss.

    It tells whether a gain of self-supervision comes from the masks alone (Volkovs et al. 2017,
    DropoutNet).
    """

    method: Literal["feature_dropout"] = "feature_dropout"
    rate: float = Field(0.1, gt=0, lt=1, description="Probability that a positive hides a feature.")

    search_space: ClassVar[Mapping[str, Dimension]] = {
        "rate": Choices(choices=(0.05, 0.1, 0.2, 0.4))
    }

    @property
    def main_dropout(self) -> float:
        """Probability that a candidate of the main task hides a feature."""
        return self.rate
