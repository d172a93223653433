"""The self-supervised losses, each in a file of its own."""

from collections.abc import Callable
from typing import Any

from recsys.config.ssl.contrastive import CorrelatedMasking, Neighbours, RandomMasking
from recsys.config.ssl.method import SslSettings
from recsys.config.ssl.noise import Noise
from recsys.config.ssl.spread_out import SpreadOut
from recsys.ssl.method import SslContext, SslMethod
from recsys.ssl.methods.contrastive import ContrastiveLoss
from recsys.ssl.methods.noise import NoiseLoss
from recsys.ssl.methods.spread_out import SpreadOutLoss

# The loss of each method that has one; it is called with the method's settings.
METHODS: dict[type[SslSettings], Callable[[Any, SslContext], SslMethod]] = {
    RandomMasking: ContrastiveLoss,
    CorrelatedMasking: ContrastiveLoss,
    Neighbours: ContrastiveLoss,
    SpreadOut: SpreadOutLoss,
    Noise: NoiseLoss,
}


def build_method(settings: SslSettings, context: SslContext) -> SslMethod | None:
    """Builds the method that the configuration asks for; None where the main loss is the only one.

    Args:
        settings: Settings of the method.
        context: The model and the data that it is made for.
    """
    if settings.view_plan is None:
        return None
    return METHODS[type(settings)](settings, context)
