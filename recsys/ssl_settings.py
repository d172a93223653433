"""The `ssl` section of a configuration."""

from typing import Annotated, Literal

from pydantic import Field

from feature_store.schema import Settings


class NoSelfSupervision(Settings):
    """The main task alone."""

    method: Literal["none"] = "none"


class _MaskingConfig(Settings):
    alpha: float = Field(0.1, gt=0, description="Weight of the self-supervised loss.")
    temperature: float = Field(0.1, gt=0)
    batch_size: int | None = Field(
        None, ge=2, description="Uniformly sampled items a step; null: as many as examples."
    )
    value_dropout: float = Field(
        0.1, ge=0, lt=1, description="Of each value of a multi-valued feature, in each view."
    )


class RandomMasking(_MaskingConfig):
    """RFM: a random half of the features is masked in view A, the other half in view B."""

    method: Literal["rfm"] = "rfm"


class CorrelatedMasking(_MaskingConfig):
    """CFM: a seed feature and its most correlated features are masked together."""

    method: Literal["cfm"] = "cfm"
    mutual_information: Literal["raw", "normalised", "corrected"] = Field(
        "raw",
        description="raw is the paper's; normalised divides by the smaller entropy; corrected "
        "leaves out what many values share by chance.",
    )
    weighting: Literal["items", "interactions"] = Field(
        "items", description="How an item counts: once, as in the paper, or by its training events."
    )


SelfSupervisionConfig = Annotated[
    NoSelfSupervision | RandomMasking | CorrelatedMasking, Field(discriminator="method")
]
