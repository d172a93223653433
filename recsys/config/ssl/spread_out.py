"""Settings of the loss that pushes item vectors apart."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from feature_store.core.bounds import LARGE
from recsys.config.ssl.method import SampledSettings
from recsys.config.tuning import Dimension, Range


class SpreadOut(SampledSettings):
    """SO, a baseline: item vectors are pushed apart, without views (Zhang et al. 2017).

    It tells whether a gain of self-supervision comes from uniformity alone.
    """

    method: Literal["spread_out"] = "spread_out"
    alpha: float = Field(
        1.0, gt=0, le=LARGE, description="Weight of the regularisation in the loss."
    )

    search_space: ClassVar[Mapping[str, Dimension]] = {"alpha": Range(low=0.03, high=3.0, log=True)}
