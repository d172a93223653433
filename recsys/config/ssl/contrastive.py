"""Settings of the methods whose loss is the batch softmax of view A against view B."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from feature_store.core.bounds import LARGE
from feature_store.schema import FeatureSchema
from recsys.config.ssl.method import SampledSettings
from recsys.config.ssl.view_plan import ViewPlan
from recsys.config.ssl.views import CorrelatedViews, PairedViews, RandomViews
from recsys.config.tuning import Choices, Dimension, Range


class ContrastiveSettings(SampledSettings):
    """Base of methods whose loss is a softmax over the views of items."""

    temperature: float = Field(
        0.1,
        gt=0,
        le=LARGE,
        description="Temperature of the softmax; a lower one lays the weight on the most similar "
        "items.",
    )
    projection: int | None = Field(
        None,
        ge=2,
        le=4096,
        description="Experimental: width of a head on the views' vectors, which is not served, so "
        "that served vectors need not be invariant (Chen et al. 2020); null: none.",
    )
    shared_layers: Literal["all", "inputs"] = Field(
        "all",
        description="Layers that the views share with the main task. all: the item tower; inputs: "
        "the embeddings alone, so that the tasks do not compete for the tower's layers.",
    )


_MASKING_SPACE: Mapping[str, Dimension] = {
    "alpha": Range(low=0.03, high=1.0, log=True),
    "temperature": Range(low=0.05, high=0.5, log=True),
    "value_dropout": Choices(choices=(0.0, 0.1, 0.3)),
}


class RandomMasking(ContrastiveSettings, RandomViews):
    """RFM: a random half of the features is masked in view A, the other half in view B."""

    method: Literal["rfm"] = "rfm"

    search_space: ClassVar[Mapping[str, Dimension]] = _MASKING_SPACE


class CorrelatedMasking(ContrastiveSettings, CorrelatedViews):
    """CFM: a seed feature and its most correlated features are masked together."""

    method: Literal["cfm"] = "cfm"

    search_space: ClassVar[Mapping[str, Dimension]] = _MASKING_SPACE


class Neighbours(ContrastiveSettings, PairedViews):
    """Two views that are an item and one near it, without masks (Wang et al. 2017).

    The near one has co-occurred with the item, or, where the item has few events, with an item of
    like content. So a rare item is drawn to where items like it are.
    """

    method: Literal["neighbours"] = "neighbours"
    alpha: float = Field(0.3, gt=0, le=LARGE, description="Weight of the self-supervised loss.")
    id_dropout: float = Field(
        0.3, ge=0, lt=1, description="Probability that a view hides the id, so that content counts."
    )

    search_space: ClassVar[Mapping[str, Dimension]] = {
        "alpha": Range(low=0.03, high=1.0, log=True),
        "temperature": Range(low=0.05, high=0.5, log=True),
        "id_dropout": Choices(choices=(0.1, 0.3, 0.5)),
    }

    @property
    def view_plan(self) -> ViewPlan:
        """The items that the method samples, and their views."""
        return ViewPlan(
            self.num_views,
            self.items,
            self.batch_size,
            value_dropout=self.value_dropout,
            id_dropout=self.id_dropout,
            of_neighbours=True,
        )

    def fault(self, features: FeatureSchema) -> str | None:
        """Returns why the section does not fit the features, with what to do; None if it does."""
        default = type(self).model_fields["id_dropout"].default
        if self.id_dropout not in (0, default) and not any(f.is_id for f in features.item):
            return "ssl.id_dropout has no effect without an item feature of kind id"
        return super().fault(features)
