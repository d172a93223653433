"""Sampled items as the self-supervised methods read them, without towers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.config.ssl import SslSettings
from recsys.ssl.method import SslBatch, SslContext, SslMethod
from recsys.ssl.methods import build_method
from tests.support.small_batches import FEATURES, prepared

DIM = 8
WIDTHS = {feature.name: feature.dim for feature in FEATURES.item}


def method_of(settings: SslSettings) -> SslMethod:
    """Builds a method beside a linear item tower."""
    torch.manual_seed(0)
    tower = nn.Linear(sum(WIDTHS.values()), DIM)
    method = build_method(settings, SslContext(tower, DIM, WIDTHS, prepared()))
    assert method is not None
    return method


def random_batch(settings: SslSettings, items: Tensor, seed: int = 0) -> SslBatch:
    """Draws a batch of [S] items with as many views as a method asks for."""
    plan = settings.view_plan
    assert plan is not None
    random = torch.Generator().manual_seed(seed)
    shape = (plan.count, len(items))
    hidden = torch.arange(plan.count)[:, None] % 2 == torch.arange(len(WIDTHS)) % 2
    return SslBatch(
        vectors=F.normalize(torch.randn(*shape, DIM, generator=random), dim=2),
        inputs=torch.randn(*shape, sum(WIDTHS.values()), generator=random),
        hidden=hidden if plan.masks is not None else torch.zeros_like(hidden),
        items=items.expand(shape),
        key=torch.tensor([seed]),
    )
