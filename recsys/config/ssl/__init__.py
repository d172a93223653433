"""The `ssl` section of a configuration: each method's switches; defaults are the paper's.

"The paper" is Yao et al. (CIKM 2021), Self-supervised Learning for Large-scale Item
Recommendations.

A new method is a class in a file of this folder, listed in `SelfSupervisionConfig`, and a loss; see
docs/extending.md.
"""

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

from recsys.config.ssl.contrastive import CorrelatedMasking, Neighbours, RandomMasking
from recsys.config.ssl.main_task import FeatureDropout, NoSelfSupervision
from recsys.config.ssl.method import SslSettings
from recsys.config.ssl.noise import Noise
from recsys.config.ssl.spread_out import SpreadOut

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
