"""The bases of methods with two views of each item, by what the views hide."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from feature_store.core.bounds import MANY
from feature_store.schema import FeatureSchema
from recsys.config.ssl.method import SampledSettings
from recsys.config.ssl.view_plan import IdUse, Masks, ViewPlan


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
