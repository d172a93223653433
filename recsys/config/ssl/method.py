"""The bases of the methods' settings."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from feature_store.core.bounds import LARGE, MANY
from feature_store.core.settings import Settings
from feature_store.schema import FeatureSchema
from recsys.config.ssl.view_plan import ItemSource, ViewPlan
from recsys.config.tuning import Dimension


class SslSettings(Settings):
    """Base of all methods.

    Everything that others ask of a method is here, so that nobody needs to know which one it is.

    Attributes:
        num_views: Number of views of each sampled item.
        search_space: Settings worth a search, by their names in this section.
    """

    method: str

    num_views: ClassVar[int] = 0
    search_space: ClassVar[Mapping[str, Dimension]] = {}

    @property
    def view_plan(self) -> ViewPlan | None:
        """The items that the method samples and their views; None: it has no loss of its own."""
        return None

    @property
    def main_dropout(self) -> float:
        """Probability that a candidate of the main task hides a feature."""
        return 0.0

    def fault(self, features: FeatureSchema) -> str | None:
        """Returns why the section does not fit the features, with what to do; None if it does."""
        return None


class SampledSettings(SslSettings):
    """Base of methods with a loss over sampled items, whose views hide nothing."""

    alpha: float = Field(0.1, gt=0, le=LARGE, description="Weight of the self-supervised loss.")
    batch_size: int | None = Field(
        None, ge=2, le=MANY, description="Sampled items a step; null: as many as examples."
    )
    items: ItemSource = Field(
        "uniform",
        description="Source of the sampled items. uniform: the whole corpus, which reaches the "
        "tail; frequency (experimental): by training events; training (experimental): the "
        "positives.",
    )

    num_views: ClassVar[int] = 1

    @property
    def view_plan(self) -> ViewPlan:
        """The items that the method samples, and their views."""
        return ViewPlan(self.num_views, self.items, self.batch_size)

    @model_validator(mode="after")
    def _batch_size_has_effect(self) -> "SampledSettings":
        if self.items == "training" and self.batch_size is not None:
            raise ValueError(
                "batch_size has no effect with items: training, which takes the batch's own "
                "positives; remove it"
            )
        return self
