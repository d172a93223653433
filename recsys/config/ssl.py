"""The `ssl` section of a configuration: each method's switches; defaults are the paper's.

"The paper" is Yao et al. (CIKM 2021), Self-supervised Learning for Large-scale Item
Recommendations.

A new method is a class here, listed in `SelfSupervisionConfig`, and a loss; see docs/extending.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from feature_store.core.settings import LARGE, MANY, Settings
from feature_store.schema import FeatureSchema
from recsys.config.tuning import Choices, Dimension, Range

ItemSource = Literal["uniform", "frequency", "training"]
IdUse = Literal["masked", "hidden", "shown"]


@dataclass(frozen=True)
class Masks:
    """Features that the views of an item hide.

    Attributes:
        group_size: Number of features in a drawn group; None: about half.
        are_complementary: Whether every second view hides what the view before it shows.
        id_feature: Whether the id takes part in the groups, or all views hide or show it.
        information: Name of the matrix of mutual information that groups are drawn by; None: groups
            are random.
    """

    group_size: int | None
    are_complementary: bool
    id_feature: IdUse
    information: str | None = None


@dataclass(frozen=True)
class ViewPlan:
    """Items that a method samples in each step, and their views.

    Attributes:
        count: Number of views of each item.
        items: Distribution that the items are drawn from.
        batch_size: Number of items of a global batch; None: as many as examples.
        masks: Features that the views hide; None: none.
        value_dropout: Probability that a view leaves out a value of a multi-valued feature.
        id_dropout: Probability that a view hides the id of its item, beside the masks.
        of_neighbours: Whether every second view shows a neighbour in the place of the item.
    """

    count: int
    items: ItemSource
    batch_size: int | None
    masks: Masks | None = None
    value_dropout: float = 0.0
    id_dropout: float = 0.0
    of_neighbours: bool = False


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


class SpreadOut(SampledSettings):
    """SO, a baseline: item vectors are pushed apart, without views (Zhang et al. 2017).

    It tells whether a gain of self-supervision comes from uniformity alone.
    """

    method: Literal["spread_out"] = "spread_out"
    alpha: float = Field(
        1.0, gt=0, le=LARGE, description="Weight of the regularisation in the loss."
    )

    search_space: ClassVar[Mapping[str, Dimension]] = {"alpha": Range(low=0.03, high=3.0, log=True)}


class PairedViews(SampledSettings):
    """Base of methods that compare two views of each sampled item."""

    value_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Probability that a view leaves out a value of a multi-valued feature: the "
        "second stage of augmentation, without which what both views show would be alike.",
    )

    num_views: ClassVar[int] = 2

    def fault(self, features: FeatureSchema) -> str | None:
        """Returns why the section does not fit the features, with what to do; None if it does."""
        default = type(self).model_fields["value_dropout"].default
        has_bags = any(feature.has_several_values for feature in features.item)
        if self.value_dropout not in (0, default) and not has_bags:
            return "ssl.value_dropout has no effect without an item feature of several values"
        return None


class RandomViews(PairedViews):
    """Base of methods whose views hide random groups of features; by default RFM's two halves."""

    group_size: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="Experimental: number of features that view A hides, the seed included; null: "
        "about half. Fewer make the task easier.",
    )
    views: Literal["complementary", "independent"] = Field(
        "complementary",
        description="Choice of the features that view B hides. complementary: the rest, so that no "
        "feature gives the item away; independent (experimental): a group of its own.",
    )
    id_feature: IdUse = Field(
        "masked",
        description="Use of the id in the views. masked: like any feature; hidden (experimental): "
        "in no view, so that content must do; shown (experimental): in both, which can solve the "
        "task.",
    )

    @property
    def information(self) -> str | None:
        """Name of the matrix that groups are drawn by; None: they are random."""
        return None

    @property
    def view_plan(self) -> ViewPlan:
        """The items that the method samples, and their views."""
        are_complementary = self.views == "complementary"
        masks = Masks(self.group_size, are_complementary, self.id_feature, self.information)
        return ViewPlan(self.num_views, self.items, self.batch_size, masks, self.value_dropout)

    def fault(self, features: FeatureSchema) -> str | None:
        """Returns why the section does not fit the features, with what to do; None if it does."""
        if (fault := super().fault(features)) is not None:
            return fault
        has_id = any(feature.is_id for feature in features.item)
        takes_part = self.id_feature == "masked"
        if not takes_part and not has_id:
            return (
                f"ssl.id_feature {self.id_feature} has no effect without an item feature of kind id"
            )
        split = [f for f in features.item if takes_part or not f.is_id]
        kind = "item features" if takes_part else "item features beside the id"
        if len(split) < 2:
            return f"ssl needs at least two {kind} to split; set ssl.method: none"
        if self.group_size is not None and self.group_size >= len(split):
            return (
                f"ssl.group_size is {self.group_size}, but there are {len(split)} {kind}, and one "
                f"must be left to show; set at most {len(split) - 1}"
            )
        return None


class CorrelatedViews(RandomViews):
    """Base of methods whose views hide correlated groups of features; by default CFM's."""

    mutual_information: Literal["raw", "normalised", "corrected"] = Field(
        "raw",
        description="Matrix that groups are drawn by. raw: the paper's, in which an id correlates "
        "with everything; normalised (experimental): divided by the smaller entropy; corrected "
        "(experimental): without what many values share by chance.",
    )

    @property
    def information(self) -> str:
        """Name of the matrix that groups are drawn by."""
        return self.mutual_information

    @model_validator(mode="after")
    def _information_has_effect(self) -> "CorrelatedViews":
        if self.group_size == 1 and self.mutual_information != "raw":
            raise ValueError(
                "mutual_information has no effect with group_size: 1, which masks the seed alone"
            )
        return self


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


class Noise(SampledSettings):
    """XSimGCL: two copies of an item's vector with different noise, without masks (Yu et al. 2023).

    It tells whether views need to hide anything.
    """

    method: Literal["noise"] = "noise"
    temperature: float = Field(0.2, gt=0, le=LARGE, description="Temperature of the softmax.")
    epsilon: float = Field(
        0.1, gt=0, le=1, description="Length of the noise that is added to a vector of length 1."
    )

    search_space: ClassVar[Mapping[str, Dimension]] = {
        "alpha": Range(low=0.03, high=1.0, log=True),
        "temperature": Range(low=0.05, high=0.5, log=True),
        "epsilon": Range(low=0.03, high=0.5, log=True),
    }


SelfSupervisionConfig = Annotated[
    NoSelfSupervision
    | FeatureDropout
    | SpreadOut
    | RandomMasking
    | CorrelatedMasking
    | Neighbours
    | Noise,
    Field(discriminator="method"),
]
# The same, by the value of `ssl.method`.
SSL_SETTINGS: Mapping[str, type[SslSettings]] = {
    settings.model_fields["method"].default: settings
    for settings in get_args(get_args(SelfSupervisionConfig)[0])
}
