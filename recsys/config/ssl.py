"""The `ssl` section of a configuration: each method's switches; defaults are the paper's.

"The paper" is Yao et al. (CIKM 2021), Self-supervised Learning for Large-scale Item
Recommendations.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from feature_store.core.settings import Settings
from feature_store.schema import FeatureSchema, IdFeature, takes_several_values


class NoSelfSupervision(Settings):
    """The main task alone."""

    method: Literal["none"] = "none"


class FeatureDropout(Settings):
    """FD, a baseline: the main task's items hide features at random; there is no other loss.

    It tells whether a gain of self-supervision comes from the masks alone (Volkovs et al. 2017,
    DropoutNet).
    """

    method: Literal["feature_dropout"] = "feature_dropout"
    rate: float = Field(
        0.1, gt=0, lt=1, description="How often a positive hides each of its features."
    )


class _SampledConfig(Settings):
    batch_size: int | None = Field(
        None, ge=2, description="Sampled items a step; null: as many as examples."
    )
    items: Literal["uniform", "frequency", "training"] = Field(
        "uniform",
        description="Which items: uniform over the corpus reaches the tail, which labels do not; "
        "frequency: by training events; training: the batch's own positives.",
    )

    @model_validator(mode="after")
    def _batch_size_has_effect(self) -> "_SampledConfig":
        if self.items == "training" and self.batch_size is not None:
            raise ValueError(
                "batch_size has no effect with items: training, which takes the batch's own "
                "positives; remove it"
            )
        return self


class SpreadOut(_SampledConfig):
    """SO, a baseline: item vectors are pushed apart, without views (Zhang et al. 2017).

    It tells whether a gain of self-supervision comes from uniformity alone.
    """

    method: Literal["spread_out"] = "spread_out"
    alpha: float = Field(1.0, gt=0, description="Weight of the regularisation in the loss.")


class _MaskingConfig(_SampledConfig):
    alpha: float = Field(0.1, gt=0, description="Weight of the self-supervised loss.")
    temperature: float = Field(
        0.1, gt=0, description="Of its softmax; lower lays the weight on the most similar items."
    )
    value_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Of each value of a multi-valued feature, in each view: the second stage of "
        "augmentation, without which what both views show would be alike.",
    )
    group_size: int | None = Field(
        None,
        ge=1,
        description="Features that view A hides, the seed feature among them; null: about half. "
        "Fewer make the task easier.",
    )
    views: Literal["complementary", "independent"] = Field(
        "complementary",
        description="complementary: view B hides the rest, so that no feature gives the item "
        "away; independent: view B draws a group of its own, and features may be in both views.",
    )
    id_feature: Literal["masked", "hidden", "shown"] = Field(
        "masked",
        description="masked: the id takes part as any feature; hidden: no view has it, so that "
        "content must do; shown: both views have it, which can solve the task by itself.",
    )
    projection: int | None = Field(
        None,
        ge=2,
        description="Width of a head on the vectors of the views, which is not served: the loss "
        "then need not be invariant in the served vectors (Chen et al. 2020); null: none.",
    )
    shared_layers: Literal["all", "inputs"] = Field(
        "all",
        description="all: the views go through the item tower; inputs: they share the embeddings "
        "alone, and have a tower of their own, so that the tasks do not compete for its layers.",
    )


class RandomMasking(_MaskingConfig):
    """RFM: a random half of the features is masked in view A, the other half in view B."""

    method: Literal["rfm"] = "rfm"


class CorrelatedMasking(_MaskingConfig):
    """CFM: a seed feature and its most correlated features are masked together."""

    method: Literal["cfm"] = "cfm"
    mutual_information: Literal["raw", "normalised", "corrected"] = Field(
        "raw",
        description="raw is the paper's, by which an id correlates with everything; normalised "
        "divides by the smaller entropy; corrected leaves out what many values share by chance.",
    )
    weighting: Literal["items", "interactions"] = Field(
        "items", description="How an item counts: once, as in the paper, or by its training events."
    )

    @model_validator(mode="after")
    def _information_has_effect(self) -> "CorrelatedMasking":
        if self.group_size == 1:
            for name in ("mutual_information", "weighting"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} has no effect with group_size: 1, which masks the seed alone"
                    )
        return self


# Those that make two views of an item.
MaskingConfig = RandomMasking | CorrelatedMasking
SelfSupervisionConfig = Annotated[
    NoSelfSupervision | FeatureDropout | SpreadOut | RandomMasking | CorrelatedMasking,
    Field(discriminator="method"),
]


def ssl_fault(
    ssl: NoSelfSupervision | FeatureDropout | SpreadOut | MaskingConfig, features: FeatureSchema
) -> str | None:
    """What is wrong with the section for these features, with what to do; None if nothing."""
    if not isinstance(ssl, RandomMasking | CorrelatedMasking):
        return None
    default = type(ssl).model_fields["value_dropout"].default
    if ssl.value_dropout not in (0, default) and not any(map(takes_several_values, features.item)):
        return "ssl.value_dropout has no effect without an item feature of several values"
    has_id = any(isinstance(feature, IdFeature) for feature in features.item)
    if ssl.id_feature != "masked" and not has_id:
        return f"ssl.id_feature {ssl.id_feature} has no effect without an item feature of kind id"
    split = [f for f in features.item if ssl.id_feature == "masked" or not isinstance(f, IdFeature)]
    kind = "item features" if ssl.id_feature == "masked" else "item features beside the id"
    if len(split) < 2:
        return f"ssl needs at least two {kind} to split; set ssl.method: none"
    if ssl.group_size is not None and ssl.group_size >= len(split):
        return (
            f"ssl.group_size is {ssl.group_size}, but there are {len(split)} {kind}, and one must "
            f"be left to show; set at most {len(split) - 1}"
        )
    return None
