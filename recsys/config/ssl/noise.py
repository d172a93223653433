"""Settings of the contrast of two noisy copies of an item's vector."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from feature_store.core.bounds import LARGE
from recsys.config.ssl.method import SampledSettings
from recsys.config.tuning import Dimension, Range


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
